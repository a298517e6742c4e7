"""What the COHP of a crystal costs with GPAW, known from its formula and its number of atoms alone."""

from __future__ import annotations

from ase.data import atomic_numbers, covalent_radii

from phonoscreen.bonding.gpaw_lcao import MAGNETIC
from phonoscreen.structures.formulas import composition

SECONDS, ATOMS_EXPONENT, VOLUME_EXPONENT = 66.0, 1.15, -0.57
"""Least squares over the logarithms of the kept records (resources/bonding): they scatter by a factor of 1.9."""
BOTH_SPINS = 10.0
"""Two spins, and many more steps to a converged density."""


def cpu_seconds(formula: str, n_atoms: int) -> float:
    """Return the estimated CPU time of ``find_cohp`` with the engine ``gpaw``, s.

    The atoms make the basis and the grid, and a small volume makes many k-points. The volume is estimated by the cubes
    of the covalent diameters.

    Parameters
    ----------
    formula : of the crystal
    n_atoms : of the primitive cell
    """
    counts = composition(formula)
    cubes = sum(n * (2 * covalent_radii[atomic_numbers[symbol]]) ** 3 for symbol, n in counts.items())
    volume = cubes * n_atoms / sum(counts.values())
    spins = BOTH_SPINS if any(symbol in MAGNETIC for symbol in counts) else 1.0
    return SECONDS * n_atoms**ATOMS_EXPONENT * volume**VOLUME_EXPONENT * spins
