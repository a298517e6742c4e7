"""Whether self force constants have the size of a crystal's: a wrong unit of forces or force constants shows.

The self force constant of an atom pulls it back when it alone is displaced. In units of e^2 over the cubed distance of
its nearest neighbour it is nearly the same in all crystals.
"""

from collections.abc import Mapping

import numpy
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.units import Bohr, Hartree, Rydberg
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.units import COULOMB

SOFTEST, STIFFEST = 1.05, 27.0
"""Limits of the mean over atoms of k d^3 / e^2 (k self force constant, d distance of the nearest neighbour): it lies
between 1.3 and 21.1 in 2,316 of the 2,323 compounds of phonondb (A. Togo, CC BY 4.0) that were measured; the others
are crystals of noble gases and such that fall apart (H2, Hg, Tl, Mg3Sn)."""

NOBLE_GASES = {2, 10, 18, 36, 54, 86}
"""Bound by dispersion alone, softer than any other crystal."""

UNITS_OF_FORCES = {
    "in Ry/bohr": Rydberg / Bohr, "in hartree/bohr": Hartree / Bohr,
    "in eV/bohr, or the displacements in bohr": 1 / Bohr,
    "converted from Ry/bohr although they were in eV/angstrom": Bohr / Rydberg,
    "converted from hartree/bohr although they were in eV/angstrom": Bohr / Hartree,
}  # fmt: skip
"""What forces have to be multiplied by if they look so."""

UNITS_OF_CONSTANTS = {
    "in Ry/bohr^2": Rydberg / Bohr**2, "in hartree/bohr^2": Hartree / Bohr**2, "in eV/(angstrom bohr)": 1 / Bohr,
    "in N/m": 0.0624150907, "converted from Ry/bohr^2 although they were in eV/angstrom^2": Bohr**2 / Rydberg,
    "converted from hartree/bohr^2 although they were in eV/angstrom^2": Bohr**2 / Hartree,
}  # fmt: skip
"""What second-order force constants have to be multiplied by if they look so."""


def relative_stiffness(crystal: Crystal, self_constants: NDArray) -> float:
    """Mean over atoms of k d^3 / e^2, k the self force constant and d the distance of the nearest neighbour.

    Parameters
    ----------
    crystal : ``Crystal``
    self_constants : (n_atoms,) eV/angstrom^2; atoms with NaN do not count

    Returns
    -------
    float, without unit
    """
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    reach = 1.2 * (atoms.cell.volume / len(atoms)) ** (1 / 3)
    nearest = numpy.full(len(atoms), numpy.inf)
    while numpy.isinf(nearest).any():
        first, distances = neighbor_list("id", atoms, reach)
        nearest = numpy.array([distances[first == i].min(initial=numpy.inf) for i in range(len(atoms))])
        reach *= 1.5
    return float(numpy.nanmean(self_constants * nearest**3) / COULOMB)


def check_stiffness(
    crystal: Crystal, self_constants: NDArray, what: str, units: Mapping[str, float], fix: str, where: str | None = None
) -> None:
    """Refuse self force constants of a size that no crystal has.

    Parameters
    ----------
    crystal : ``Crystal``
    self_constants : (n_atoms,) eV/angstrom^2; atoms with NaN do not count
    what : was given and is suspected, for the message
    units : ``UNITS_OF_FORCES`` or ``UNITS_OF_CONSTANTS``
    fix, where : of the message

    Raises
    ------
    StudyError
        Naming the units that would explain the size.
    """
    if set(crystal.numbers.tolist()) <= NOBLE_GASES:
        return
    value = relative_stiffness(crystal, self_constants)
    if SOFTEST < value < STIFFEST or value <= 0:
        return
    words, mean = "small" if value < SOFTEST else "large", float(numpy.nanmean(self_constants))
    fits = [f"{unit} (factor {factor:.4g})" for unit, factor in units.items() if 1.3 < value * factor < 21.1]
    raise StudyError(
        f"the self force constants are {mean:.3g} eV/angstrom^2 on average, too {words} for any crystal ({value:.2g} "
        f"in units of e^2 over the cubed distance of neighbours; crystals have 1.3 to 21): {what} look "
        + (" or ".join(fits) or "as if they were in another unit"), where=where, fix=fix,
    )  # fmt: skip
