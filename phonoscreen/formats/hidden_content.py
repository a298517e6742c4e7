"""What a structure file says beyond elements, cell and positions: carried where it can be, refused where it cannot.

The study knows crystals of whole atoms at rest, without magnetic moments or charges, every atom free to move. Masses
are carried, one per element: force constants do not depend on them, and the space group is that of the elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy
from ase.data import atomic_masses

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.masses import is_of_an_isotope

if TYPE_CHECKING:
    from ase import Atoms

# Below this a mass is that of the natural element; the lightest pure isotope that matters, 16O, differs by 2.6e-4.
NATURAL = 5e-5
# Below this a mass that is not carried may be the natural one with three digits.
ROUNDED = 1e-3
_MOMENTS = ("magmom", "magmoms", "initial_magmoms", "magnetic_moment", "magnetic_moments", "moment", "moments", "spins",
            "magmom_vec", "dft_magmom", "magnetization", "total_magnetization", "total_magmom", "total_magnetic_moment",
            "ref_magmom", "ref_magmoms", "collinear_magmoms", "starting_magnetization")  # fmt: skip
_SPIN_COLUMNS = ("spin", "initial_spin", "initial_spins", "forces_mag", "magnetic_forces")
_MASSES = ("mass", "atomic_mass", "atomic_masses", "atom_mass", "atommass")  # ASE knows "masses" alone
_ISOTOPES = ("isotope", "isotopes", "mass_number", "mass_numbers")
_CHARGES = ("charge", "total_charge", "initial_charges", "net_charge")
_VELOCITIES = ("momenta", "velocities", "velocity", "velo", "momentum")
_OCCUPANCIES = ("occupancy", "occupancies", "occ", "occupation", "occupations", "site_occupancy")
_NO_MOMENT = 0.01  # Bohr magnetons left over by a spin-polarised calculation without magnetism


def check_content(atoms: Atoms, where: str | None = None, moving: bool = False) -> None:
    """Refuse what the study could neither use nor carry.

    Parameters
    ----------
    atoms : ase.Atoms as a reader gives it; its ``info``, ``arrays``, results and constraints are looked through
    where : the object, for the message
    moving : whether velocities may stay, because the structure is written out again with them

    Raises
    ------
    StudyError
        For partly occupied sites, magnetic moments, charges, fixed atoms, velocities, or masses that cannot be carried.
    """

    def refuse(what, fix):
        raise StudyError(what, where=where, fix=fix)

    if (size := _largest(_values(atoms, _OCCUPANCIES), away_from=1.0)) > 1e-3:
        refuse(f"a site is occupied by {1 - size:.3g} of an atom, or by several elements",
               "give an ordered crystal, one atom on every site")  # fmt: skip
    spins = [column for name, column in atoms.arrays.items() if name.lower() in _SPIN_COLUMNS]
    if (size := _largest([*_values(atoms, _MOMENTS), *spins])) > _NO_MOMENT:
        refuse(f"magnetic moments of up to {size:.3g} Bohr magnetons: all calculations here are non-magnetic",
               "remove them if the crystal may be treated as non-magnetic")  # fmt: skip
    if (size := _largest(_values(atoms, _CHARGES))) > 1e-6:
        refuse(f"charges of up to {size:.3g} e: all calculations here are of neutral crystals", "remove them")
    if any(_fixes(constraint) for constraint in atoms.constraints):
        refuse("atoms are held fixed (selective dynamics, move_mask): here every atom moves", "free all atoms")
    if any(name.lower() in _ISOTOPES for name in atoms.arrays):
        refuse("a column of isotopes", "give the masses in u in a column masses:R:1, or remove it")
    for name, column in atoms.arrays.items():
        if name.lower() not in _MASSES or atoms.has("masses"):
            continue
        natural = atomic_masses[atoms.numbers]
        if column.shape != natural.shape or column.dtype.kind not in "fiu" or (
            numpy.abs(column / natural - 1).max() > ROUNDED
        ):  # fmt: skip
            refuse(f"a column {name} of other masses than the natural ones", "call it masses:R:1, in u, or remove it")
    if not moving and (size := _largest(_values(atoms, _VELOCITIES))) > 1e-8:
        refuse("atoms with velocities: a moment of a simulation, no crystal at rest",
               "give the crystal, or remove the velocities")  # fmt: skip
    own_masses(atoms, where)


def own_masses(atoms: Atoms, where: str | None = None) -> dict[int, float]:
    """Return the masses that are not those of the natural elements.

    Parameters
    ----------
    atoms : ase.Atoms
    where : the object, for the message

    Returns
    -------
    dict from atomic number to mass, u; {} for natural masses

    Raises
    ------
    StudyError
        If a mass belongs to no isotope of its element, or atoms of one element have several masses.
    """
    if not atoms.has("masses"):
        return {}
    found: dict[int, float] = {}
    for number, mass in zip(atoms.numbers.tolist(), atoms.get_masses().tolist()):
        symbol = atoms.symbols[atoms.numbers == number][0]
        if not is_of_an_isotope(number, mass):
            raise StudyError(f"a mass of {mass:g} u for {symbol}", where=where, fix="give masses in u, or none")
        if abs(found.setdefault(number, mass) - mass) > NATURAL * mass:
            raise StudyError(
                f"{symbol} with masses of {found[number]:g} and {mass:g} u: symmetry is that of the elements",
                where=where, fix="give all atoms of an element one mass, for example the mean",
            )  # fmt: skip
    return {z: mass for z, mass in found.items() if abs(mass / float(atomic_masses[z]) - 1) > NATURAL}


def set_masses(atoms: Atoms, masses: Mapping[int, float]) -> None:
    """Give the elements of ``atoms`` these masses, a dict from atomic number to u; all others keep theirs."""
    if masses:
        chosen = atomic_masses[atoms.numbers].copy()
        for number, mass in masses.items():
            chosen[atoms.numbers == number] = mass
        atoms.set_masses(chosen)


def _values(atoms, names):
    """Yield the values that atoms hold under some names, whatever their case."""
    results = atoms.calc.results if atoms.calc is not None and hasattr(atoms.calc, "results") else {}
    for holder in (atoms.arrays, atoms.info, results):
        for key, value in holder.items():
            if str(key).lower() in names:
                yield value


def _largest(values, away_from=0.0):
    """Return the largest distance of any number in ``values`` from one number; infinite where one is no number."""
    largest = 0.0
    for value in values:
        if isinstance(value, dict):  # ASE's occupancies: {kind: {element: share}}
            kinds = value.values()
            value = [share for kind in kinds for share in (kind.values() if isinstance(kind, dict) else [kind])]
        try:
            numbers = numpy.asarray(value, dtype=float).ravel()
        except (TypeError, ValueError):
            return numpy.inf
        if not numpy.isfinite(numbers).all():
            return numpy.inf
        largest = max(largest, float(numpy.abs(numbers - away_from).max(initial=0.0)))
    return largest


def _fixes(constraint):
    """Whether a constraint holds anything fixed."""
    if hasattr(constraint, "mask") and not numpy.any(constraint.mask):
        return False
    index = getattr(constraint, "index", None)
    return index is None or len(numpy.atleast_1d(index)) > 0
