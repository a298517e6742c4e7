"""Regular grids of k points from a spacing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
import spglib
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from ase import Atoms


def k_grid(cell: ArrayLike, k_spacing_per_angstrom: float) -> tuple[int, ...]:
    """Return the divisions of a grid with at most this spacing (2 pi included), (3,) int: the rule of VASP.

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom
    k_spacing_per_angstrom : largest distance of neighbours
    """
    reciprocal = 2 * numpy.pi * numpy.linalg.inv(numpy.asarray(cell)).T
    lengths = numpy.linalg.norm(reciprocal, axis=1)
    return tuple(int(n) for n in numpy.maximum(1, numpy.ceil(lengths / k_spacing_per_angstrom - 1e-6)))


def irreducible_k_points(atoms: "Atoms", grid: Sequence[int], centred: bool, tolerance_angstrom: float = 1e-5) -> int:
    """Return how many k points of a grid the space group and time reversal leave.

    Parameters
    ----------
    atoms : crystal or displaced supercell
    grid : divisions along the three reciprocal vectors
    centred : holds the point Gamma; otherwise it is moved by half a division where their number is even
    tolerance_angstrom : for the symmetry search
    """
    cell = atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers
    shift = [int(not centred and count % 2 == 0) for count in grid]
    mapping, _ = spglib.get_ir_reciprocal_mesh(list(grid), cell, is_shift=shift, symprec=tolerance_angstrom)
    return len(numpy.unique(mapping))


def k_point_groups(tasks: int, n_k_points: int) -> int:
    """Return into how many groups MPI tasks are divided, each with k points of its own: the numbers stay the same.

    The largest divisor of the tasks that leaves no group without a k point.
    """
    return max(count for count in range(1, tasks + 1) if tasks % count == 0 and count <= max(1, n_k_points))
