"""The order in which the enumerated pool is screened: every block has the classes in the pool's proportion."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy
import pandas

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.stages.label_library import proportional
from phonoscreen.structures.enumeration import structure_class


def order_pool(
    pool: pandas.DataFrame, roles: Mapping[str, str], blocks: int, seed: int, first: Collection[str] = ()
) -> pandas.DataFrame:
    """Return the pool in an order in which every beginning has the classes in the pool's proportion, in blocks.

    Parameters
    ----------
    pool : table with ``structure_id, formula, prototype``
    roles : part of the labelled structures, ``training`` or ``test``; the others are ``unexplored``
    blocks : number of blocks, which differ by at most one structure
    seed : decides the order inside the classes
    first : ids of structures that are the first of their classes

    Returns
    -------
    pandas.DataFrame with ``structure_id, formula, prototype, part, block``
    """
    listed: Any = pool[["structure_id", "formula", "prototype"]].itertuples(index=False)
    members: dict[str, list] = {}
    for row in sorted(
        listed, key=lambda row: (row.structure_id not in first, derive_seed(seed, row.structure_id, "screening"))
    ):
        members.setdefault(structure_class(row.prototype), []).append(row)
    members = dict(sorted(members.items()))
    ordered = pandas.DataFrame(proportional(members, {name: len(rows) for name, rows in members.items()}))
    ordered["part"] = [roles.get(name, "unexplored") for name in ordered["structure_id"]]
    ordered["block"] = numpy.arange(len(ordered)) * blocks // max(len(ordered), 1)
    return ordered
