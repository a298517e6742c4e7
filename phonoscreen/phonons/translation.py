"""Force constants of a file that were rounded, or whose program did not make them invariant under translation.

A crystal that moves as a whole feels no force. Constants that break this acoustic sum rule shift the acoustic modes at
long wavelengths, and with them the conductivity: those of InAs with two decimals give 37 W/m/K instead of 26.
"""

import numpy

from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.rounding import rounded_share
from phonoscreen.phonons.dynamical_matrix import ZERO_THZ, DynamicalMatrix, LatticeSum, frequencies_thz

TRANSLATION_SHARE = 0.03
"""Share of the highest acoustic frequency that the crystal's as a whole may have without a warning. Of InAs with three
decimals it is 0.019, and the conductivity 0.1 % wrong; with two 0.113, and 43 %."""
ROUNDED_SHARES = {"second": 0.003, "third": 0.001}
"""Shares of the constants that their rounding may be without a warning. Of InAs the second-order ones have 0.0007 with
three decimals and 0.007 with two, and the third-order ones 0.0003 (the conductivity is 0.3 % wrong) and 0.003 (9 %)."""


def translation_thz(crystal: Crystal, second: SecondOrder | LatticeSum) -> float:
    """Return the frequency with which the crystal as a whole would oscillate, real or imaginary, in THz; 0 by right.

    Parameters
    ----------
    crystal : ``Crystal``
    second : its second-order force constants, without the correction for long-range forces, which adds nothing to it
    """
    axes = tuple(range(second.values.ndim - 2))
    total = second.values.sum(axis=axes)
    squares = numpy.linalg.eigvalsh((total + total.T) / 2) * units.SQUARED_FREQUENCY / numpy.sum(crystal.masses)
    return float(units.to_thz(numpy.sqrt(numpy.abs(squares).max())))


def doubts_of_constants(crystal: Crystal, second: SecondOrder | LatticeSum, third: ThirdOrder | None) -> list[str]:
    """Return sentences on force constants that give no good conductivity, or an empty list.

    Parameters
    ----------
    crystal : ``Crystal``
    second, third : its force constants as a file gives them
    """
    doubts, shift = [], translation_thz(crystal, second)
    top = _highest_acoustic_thz(crystal, second) if shift > ZERO_THZ else 0.0
    if top > 0 and shift > TRANSLATION_SHARE * top:
        doubts.append(
            f"the second-order force constants break the acoustic sum rule: moved as a whole the crystal would "
            f"oscillate with {shift:.3g} THz, {100 * shift / top:.2g} % of its highest acoustic frequency; long waves "
            "and the conductivity are wrong; give constants with more digits, or that translation does not change"
        )
    for name, constants, unit in (("second", second, "eV/angstrom^2"), ("third", third, "eV/angstrom^3")):
        decimals, share = (None if constants is None else rounded_share(constants.values)) or (0, 0.0)
        if share > ROUNDED_SHARES[name]:
            doubts.append(
                f"the {name}-order force constants have {decimals} decimals ({unit}): their rounding alone is "
                f"{100 * share:.2g} % of their root mean square, and the conductivity suffers more; give more digits"
            )
    return doubts


def _highest_acoustic_thz(crystal, second):
    """Return the highest frequency of the third band at the wave vectors that fit into the supercell, in THz."""
    lattice = LatticeSum.from_second_order(crystal, second) if isinstance(second, SecondOrder) else second
    return float(frequencies_thz(DynamicalMatrix(crystal, lattice), lattice.commensurate)[:, 2].max())
