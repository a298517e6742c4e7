"""How many of a set of singular values count, asked only where the answer is clear.

What symmetry makes zero comes out of exact geometry at the rounding of the arithmetic, about 1e-15 of the matrix. A
value far above that which is still small can be a weak but true condition as well as noise of the input that looks like
one. Nothing is built on such a value.
"""

import numpy
from numpy.typing import ArrayLike

from phonoscreen.audit.errors import StudyError

ROUNDING = 1e-10
"""Singular values below this, relative to the size of the matrix, are zero."""

CLEAR = 1e-4
"""Singular values above this, relative to the size of the matrix, are not zero."""


class UnclearRank(StudyError):
    """Some singular values are neither zero nor clearly different from it."""


def clear_rank(values: ArrayLike, size: float, what: str) -> int:
    """Number of singular values that are not zero.

    Parameters
    ----------
    values : (n,) singular values, descending
    size : what they are measured against, for example the norm of the matrix before symmetry cancels its terms
    what : the matrix, for the message

    Returns
    -------
    int

    Raises
    ------
    UnclearRank
        If a value lies between ``ROUNDING`` and ``CLEAR`` of the size; it names the values.
    """
    relative = numpy.asarray(values, float) / max(float(size), 1e-300)
    kept, zero = relative > CLEAR, relative < ROUNDING
    between = relative[~kept & ~zero]
    if len(between):
        shown = ", ".join(f"{value:.1e}" for value in between[:6])
        smallest = f"{relative[kept].min():.1e}" if kept.any() else "none"
        raise UnclearRank(
            f"{what}: {len(between)} singular values ({shown} of the largest term) are neither zero (below "
            f"{ROUNDING:.0e}) nor clearly different from it (above {CLEAR:.0e}; the smallest clear one: {smallest}): "
            "the crystal is close to a higher symmetry, or its coordinates are rounded beyond the symmetry tolerance",
            fix="raise --symmetry-tolerance (filter.symmetry_tolerance_angstrom in a study), or give coordinates with "
            "more digits",
        )
    return int(kept.sum())
