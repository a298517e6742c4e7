"""Query by committee: which supercells are worth a reference calculation, and when to stop."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy
import pandas
from ase.symbols import symbols2numbers
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield.elements import element_attributes

STRATEGIES = ("worst_supercell", "diverse", "random")
COLUMNS = ["structure_id", "shard", "supercell_index", "epsilon_max_mev_per_angstrom"]


def worst_supercells(uncertainty: pandas.DataFrame, selected_before: Collection[tuple[str, int]]) -> pandas.DataFrame:
    """Return each structure's worst supercell that is not selected yet.

    Parameters
    ----------
    uncertainty : DataFrame with ``structure_id, shard, epsilon_mev_per_angstrom`` (one list per structure: the maximum
        over the atoms of each supercell)
    selected_before : set of (structure id, supercell index)

    Returns
    -------
    DataFrame with the columns of ``selection.parquet``, the most uncertain first
    """
    rows = []
    for row in uncertainty.itertuples():
        epsilon = numpy.array(row.epsilon_mev_per_angstrom, dtype=float)
        for index in range(len(epsilon)):
            if (row.structure_id, index) in selected_before:
                epsilon[index] = -numpy.inf
        if len(epsilon) and numpy.isfinite(epsilon.max()):
            rows.append((row.structure_id, row.shard, int(epsilon.argmax()), float(epsilon.max())))
    table = pandas.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(COLUMNS[3:] + COLUMNS[:1], ascending=[False, True], ignore_index=True)


def select(
    candidates: pandas.DataFrame,
    strategy: str,
    select_max: int,
    *,
    seed: int,
    formulas: Mapping[str, str] | None = None,
    labelled: Iterable[str] = (),
) -> pandas.DataFrame:
    """Return the candidates that get a reference calculation.

    Parameters
    ----------
    candidates : worst supercells above the threshold, the most uncertain first
    strategy : ``worst_supercell`` takes the most uncertain; ``diverse`` takes, one after another, the one with the
        largest product of its uncertainty and the distance of its composition from the nearest one labelled or taken;
        ``random`` is the control
    select_max : at most this many
    formulas : mapping structure id -> formula, for ``diverse``
    labelled : ids of the structures that have labels already, for ``diverse``

    Raises
    ------
    StudyError
        If the strategy is unknown.
    """
    if strategy not in STRATEGIES:
        raise StudyError(
            f"unknown strategy {strategy!r}", where="select", fix=f"active_learning.strategy is one of {STRATEGIES}"
        )
    if strategy == "random":
        order = sorted(range(len(candidates)), key=lambda n: derive_seed(seed, candidates.structure_id[n], "random"))
    elif strategy == "diverse":
        known = {} if formulas is None else formulas
        order = _uncertain_and_far(
            candidates.epsilon_max_mev_per_angstrom.to_numpy(),
            [composition_vector(known[name]) for name in candidates.structure_id],
            [composition_vector(known[name]) for name in labelled],
            select_max,
        )
    else:
        order = list(range(len(candidates)))
    return candidates.iloc[list(order)[:select_max]].reset_index(drop=True)


def composition_vector(formula: str) -> NDArray:
    """Return mean and spread of the element attributes of a formula, (10,).

    Distances between them say how different the chemistry of two compounds is.
    """
    attributes = element_attributes(symbols2numbers(formula))
    return numpy.concatenate([attributes.mean(axis=0), attributes.std(axis=0)])


def _uncertain_and_far(epsilon, vectors, labelled, count):
    """Indices in the order of the strategy ``diverse``; with nothing labelled, the most uncertain comes first."""
    if len(vectors) == 0:
        return []
    vectors = numpy.array(vectors)
    order: list[int] = []
    nearest = numpy.full(len(vectors), numpy.inf)
    for vector in labelled:
        nearest = numpy.minimum(nearest, numpy.linalg.norm(vectors - vector, axis=1))
    while len(order) < min(count, len(vectors)):
        worth = epsilon * (nearest if numpy.isfinite(nearest).all() else 1.0)
        worth[order] = -1.0
        order.append(int(worth.argmax()))
        nearest = numpy.minimum(nearest, numpy.linalg.norm(vectors - vectors[order[-1]], axis=1))
    return order


def judge_convergence(recommended: int, before: Sequence[dict], converged_change: float) -> tuple[bool, str]:
    """Decide whether active learning goes on.

    Converged if no structure is recommended any more, or if the number recommended changed by less than
    ``converged_change`` (relative) since the round before ("nearly constant" in the paper). Once converged, always
    converged.

    Parameters
    ----------
    recommended : structures above the threshold in this round
    before : list of the ``convergence.json`` contents of the rounds before, in order

    Returns
    -------
    (bool, str) converged, and the reason in words
    """
    for number, earlier in enumerate(before):
        if earlier["converged"]:
            return True, f"converged in round {number}: {earlier['reason']}"
    if recommended == 0:
        return True, "no structure is above the threshold"
    if before and before[-1]["recommended"] > 0:
        change = abs(recommended - before[-1]["recommended"]) / before[-1]["recommended"]
        if change < converged_change:
            return True, f"the number recommended changed by {100 * change:.1f} % only"
    return False, f"{recommended} structures above the threshold"
