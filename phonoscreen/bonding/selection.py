"""Which structures get a COHP when not all can."""

import numpy

from phonoscreen.audit.seeds import derive_seed


def choose_structures(manifest, transport, structures_max, seed):
    """Return the ids of the structures to analyse: solved ones, every class in turn.

    Parameters
    ----------
    manifest : table with ``structure_id, prototype``
    transport : records of ``solve_bte`` of the predicted forces, all shards
    structures_max : at most this many in total, or None for all
    seed : the study's seed; inside a class the order is drawn from it

    Returns
    -------
    set of structure ids, the same whatever the order of the tables
    """
    solved = transport[(transport["status"] == "ok") & numpy.isfinite(transport["kappa_p_w_per_m_k"])]
    candidates = manifest[manifest["structure_id"].isin(solved["structure_id"])]
    if structures_max is None:
        return set(candidates["structure_id"])
    turns = []
    for _, ids in candidates.groupby("prototype")["structure_id"]:
        drawn = sorted((derive_seed(seed, structure_id, "bonding"), structure_id) for structure_id in ids)
        turns += [(turn, rank, structure_id) for turn, (rank, structure_id) in enumerate(drawn)]
    return {structure_id for _, _, structure_id in sorted(turns)[:structures_max]}
