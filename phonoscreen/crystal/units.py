"""Units inside the transport engine: length angstrom, time ps (angular frequencies rad/ps), mass u, energy eV."""

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy import constants

_SQUARED_FREQUENCY = constants.e / constants.angstrom**2 / constants.atomic_mass * 1e-24  # eV/A^2/u in (rad/ps)^2
_RATE = (constants.hbar * (constants.e / constants.angstrom**3) ** 2 / constants.atomic_mass**3) * 1e-60

HBAR_OVER_KB = constants.hbar * 1e12 / constants.k  # K ps
SQUARED_FREQUENCY = _SQUARED_FREQUENCY
THREE_PHONON_RATE = _RATE  # hbar (eV/A^3)^2 / u^3 / (rad/ps)^4 in 1/ps
COULOMB = constants.e / (4 * numpy.pi * constants.epsilon_0) * 1e10  # e^2/(4 pi eps0) in eV A
HBAR_OVER_U = constants.hbar / constants.atomic_mass * 1e8  # hbar/u in A^2/ps
KB_J = constants.k


def to_thz(omega: NDArray) -> NDArray:
    """Angular frequency in rad/ps as a frequency in THz."""
    return omega / (2 * numpy.pi)


def bose(omega: ArrayLike, temperature_k: float | NDArray) -> NDArray:
    """Bose-Einstein occupation; 0 where the frequency is 0.

    Parameters
    ----------
    omega : array, rad/ps
    temperature_k : kelvin, a number or an array that broadcasts with ``omega``
    """
    x = HBAR_OVER_KB * numpy.asarray(omega, float) / temperature_k
    with numpy.errstate(divide="ignore", over="ignore"):
        return numpy.where(x > 0, 1.0 / numpy.expm1(numpy.where(x > 0, x, 1.0)), 0.0)


def mode_heat_capacity(omega: ArrayLike, temperature_k: float | NDArray) -> NDArray:
    """Heat capacity of a mode, J/K: k_B x^2 n(n+1) with x = hbar omega / k_B T, and its limit k_B at frequency 0."""
    x = HBAR_OVER_KB * numpy.asarray(omega, float) / temperature_k
    n = bose(omega, temperature_k)
    return KB_J * numpy.where(x > 0, x**2 * n * (n + 1), 1.0)
