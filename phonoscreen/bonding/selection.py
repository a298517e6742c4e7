"""Which structures get a COHP when not all can."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.bonding.cost import cpu_seconds

if TYPE_CHECKING:
    import pandas


def order_of_structures(manifest: pandas.DataFrame, seed: int) -> list[str]:
    """Return the ids of all structures in the order of their analysis: every class in turn, small cells first.

    Parameters
    ----------
    manifest : table with ``structure_id, prototype, n_atoms`` of the whole study
    seed : the study's seed; inside a class the order is drawn from it

    Returns
    -------
    list of structure ids, the same whatever the order of the table
    """
    turns = []
    for _, members in manifest.groupby("prototype"):
        ids, n_atoms = members["structure_id"], int(members["n_atoms"].min())
        drawn = sorted((derive_seed(seed, structure_id, "bonding"), structure_id) for structure_id in ids)
        turns += [(turn, n_atoms, rank, structure_id) for turn, (rank, structure_id) in enumerate(drawn)]
    return [structure_id for *_, structure_id in sorted(turns)]


def left_out(
    manifest: pandas.DataFrame,
    seed: int,
    *,
    structures_max: int | None = None,
    budget_cpu_minutes: float | None = None,
    kept: Collection[str] = (),
) -> dict[str, str]:
    """Return the structures that are not analysed, with the reason.

    The manifest and the kept records alone decide, so every shard of a study makes the same choice. A structure whose
    COHP is kept costs nothing. One whose estimated cost exceeds what is left of the budget is left out, and a cheaper
    one behind it may still be calculated.

    Parameters
    ----------
    manifest : table with ``structure_id, formula, prototype, n_atoms`` of the whole study
    seed : see ``order_of_structures``
    structures_max : at most this many in the whole study, kept ones included; None: no limit
    budget_cpu_minutes : of the calculations of the whole study, as ``cpu_seconds`` estimates them; None: no limit
    kept : ids of structures with a kept record of their composition and class

    Returns
    -------
    dict from structure id to the reason, without those that are analysed
    """
    columns = manifest[["structure_id", "formula", "n_atoms"]].itertuples(index=False, name=None)
    costs = {name: 0.0 if name in kept else cpu_seconds(formula, n_atoms) for name, formula, n_atoms in columns}
    reasons = {}
    spent, used = 0.0, 0
    for structure_id in order_of_structures(manifest, seed):
        cost = costs[structure_id]
        if structures_max is not None and used >= structures_max:
            reasons[structure_id] = f"beyond bonding.structures_max = {structures_max}"
        elif cost and budget_cpu_minutes is not None and spent + cost > 60 * budget_cpu_minutes:
            reasons[structure_id] = (
                f"beyond bonding.budget_cpu_minutes = {budget_cpu_minutes:g}: its COHP would take about {cost:.0f} "
                f"CPU s, and the structures before it take {spent:.0f}"
            )
        else:
            used, spent = used + 1, spent + cost
    return reasons
