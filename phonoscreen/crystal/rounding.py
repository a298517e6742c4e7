"""Numbers that a file gives with few decimals: how many, and what share of the numbers the rounding is."""

import numpy
from numpy.typing import NDArray

DECIMALS_MAX = 6


def rounded_share(values: NDArray) -> tuple[int, float] | None:
    """Return with how many decimals numbers were written, and the share that their rounding is of them.

    The share is the root mean square of the rounding, ``10**-decimals / sqrt(12)``, over that of the numbers.

    Parameters
    ----------
    values : array of any shape, in the unit of the file

    Returns
    -------
    (int, float), or None where not all have fewer than six decimals
    """
    size = float(numpy.sqrt((values**2).mean()))
    for decimals in range(DECIMALS_MAX if size else 0):
        scaled = values * 10.0**decimals
        if numpy.abs(scaled - numpy.rint(scaled)).max() < 1e-6:
            return decimals, 10.0**-decimals / numpy.sqrt(12) / size
    return None
