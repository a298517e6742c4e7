"""Which structures get a COHP when not all can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.audit.seeds import derive_seed

if TYPE_CHECKING:
    import pandas


def choose_structures(manifest: pandas.DataFrame, structures_max: int | None, seed: int) -> set[str]:
    """Return the ids of the structures to analyse, every class in turn, small cells first.

    The manifest alone decides, so every shard of a study makes the same choice.

    Parameters
    ----------
    manifest : table with ``structure_id, prototype, n_atoms`` of the whole study
    structures_max : at most this many in the whole study, or None for all
    seed : the study's seed; inside a class the order is drawn from it

    Returns
    -------
    set of structure ids, the same whatever the order of the table
    """
    turns = []
    for _, members in manifest.groupby("prototype"):
        ids, n_atoms = members["structure_id"], int(members["n_atoms"].min())
        drawn = sorted((derive_seed(seed, structure_id, "bonding"), structure_id) for structure_id in ids)
        turns += [(turn, n_atoms, rank, structure_id) for turn, (rank, structure_id) in enumerate(drawn)]
    return {structure_id for *_, structure_id in sorted(turns)[:structures_max]}
