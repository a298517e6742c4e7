"""What calculations of density functional theory cost beside each other, and how they are divided among jobs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

from phonoscreen.reference.k_points import k_grid

if TYPE_CHECKING:
    from ase import Atoms


def relative_cost(atoms: Atoms, k_spacing_per_angstrom: float, operations: int = 1) -> float:
    """Return what a calculation costs, in units of one atom at one k point.

    Electrons, plane waves and their products grow with the number of atoms each: between the square and the cube.
    Time reversal halves the k points, the operations of the space group divide them.

    Parameters
    ----------
    atoms : the crystal
    k_spacing_per_angstrom : of the grid of k points
    operations : of its point group; 1 for a supercell with all atoms displaced
    """
    points = int(numpy.prod(k_grid(atoms.cell, k_spacing_per_angstrom)))
    return float(len(atoms) ** 2.5 * max(1, points // 2) / operations)


def divide(costs: Sequence[float], parts: int) -> list[int]:
    """Return for each calculation the job that takes it: the dearest first, each to the job with the least so far.

    The largest job is at most 4/3 of the best possible (Graham, SIAM J. Appl. Math. 17, 416 (1969)).

    Parameters
    ----------
    costs : of the calculations
    parts : jobs
    """
    loads = [(0.0, part) for part in range(parts)]
    chosen = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, part = heapq.heappop(loads)
        chosen[index] = part
        heapq.heappush(loads, (load + costs[index], part))
    return chosen
