"""Pairs of atoms of a periodic crystal within a distance: the one search for force models and force constants."""

import math

import numba
import numpy
from numpy.typing import NDArray


def periodic_pairs(
    cell: NDArray, scaled_positions: NDArray, cutoff_angstrom: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return all pairs of a periodic cell within a distance: for few atoms faster than a general neighbour list.

    Returns
    -------
    first, second : (n_pairs,) atoms, ordered by the first
    vectors : (n_pairs, 3) from the first to the second, angstrom
    shifts : (n_pairs, 3) lattice vectors between the cells of the two
    """
    heights = 1 / numpy.linalg.norm(numpy.linalg.inv(cell), axis=0)
    spread = numpy.ptp(scaled_positions, axis=0)
    images = numpy.ceil(cutoff_angstrom / heights + spread).astype(numpy.int64)
    positions = numpy.ascontiguousarray(scaled_positions @ cell)
    return _search(numpy.ascontiguousarray(cell), positions, images, float(cutoff_angstrom))


@numba.njit(cache=True)
def _search(cell, positions, images, cutoff):
    """Pairs within the cutoff; the sphere cuts a row of images along the third lattice vector in one piece, or not."""
    found, square = 0, cell[2, 0] ** 2 + cell[2, 1] ** 2 + cell[2, 2] ** 2
    for filling in (False, True):  # count, then fill
        first, second = numpy.empty(found, numpy.int64), numpy.empty(found, numpy.int64)
        vectors, shifts = numpy.empty((found, 3)), numpy.empty((found, 3), numpy.int64)
        found = 0
        for i in range(len(positions)):
            for j in range(len(positions)):
                for a in range(-images[0], images[0] + 1):
                    for b in range(-images[1], images[1] + 1):
                        p = positions[j, 0] - positions[i, 0] + a * cell[0, 0] + b * cell[1, 0]
                        q = positions[j, 1] - positions[i, 1] + a * cell[0, 1] + b * cell[1, 1]
                        r = positions[j, 2] - positions[i, 2] + a * cell[0, 2] + b * cell[1, 2]
                        middle = -(p * cell[2, 0] + q * cell[2, 1] + r * cell[2, 2]) / square
                        reach = middle**2 + (cutoff**2 - p * p - q * q - r * r) / square
                        if reach < -1e-6:
                            continue
                        reach = math.sqrt(max(reach, 0.0)) + 1e-6
                        for c in range(math.ceil(middle - reach), math.floor(middle + reach) + 1):
                            x, y, z = p + c * cell[2, 0], q + c * cell[2, 1], r + c * cell[2, 2]
                            itself = i == j and a == 0 and b == 0 and c == 0
                            if x * x + y * y + z * z < cutoff * cutoff and not itself:
                                if filling:
                                    first[found], second[found] = i, j
                                    vectors[found, 0], vectors[found, 1], vectors[found, 2] = x, y, z
                                    shifts[found, 0], shifts[found, 1], shifts[found, 2] = a, b, c
                                found += 1
    return first, second, vectors, shifts
