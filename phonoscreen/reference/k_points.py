"""Regular grids of k points from a spacing."""

import numpy
from numpy.typing import ArrayLike


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
