"""The one table of atomic masses.

phonopy's (standard atomic weights), so that every route (a study, ``fit``, ``bte`` on files of any program) gives the
frequencies that phonopy and phono3py give. Elements for which phonopy has none (Po, At, Rn, Fr, Ra and beyond Np) have
the mass of ASE's table. A structure or a file that brings masses of its own keeps them.
"""

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

STANDARD = "standard: phonopy’s table"
"""What outputs say of masses that nobody gave."""

MASS_RATIOS, MASS_RATIOS_OF_HYDROGEN = (0.7, 1.6), (0.9, 3.1)
"""Of an isotope to its element: 3He and 11Li bound what is found in crystals, hydrogen has tritium."""


def standard_masses(numbers: ArrayLike) -> NDArray:
    """Return the masses of atoms.

    Parameters
    ----------
    numbers : (n_atoms,) atomic numbers

    Returns
    -------
    (n_atoms,) u

    Raises
    ------
    StudyError
        If a number is no chemical element.
    """
    from ase.data import atomic_masses
    from phonopy.structure.atomic_data import get_atomic_data

    table, found = get_atomic_data().atom_data, []
    for number in numpy.asarray(numbers).tolist():
        if not 1 <= number < len(atomic_masses):
            raise StudyError(f"atomic number {number} is no chemical element", fix="correct the structure")
        theirs = table[number][3] if number < len(table) else None
        found.append(atomic_masses[number] if theirs is None else theirs)
    return numpy.array(found, float)


def describe_masses(numbers: ArrayLike, masses: ArrayLike) -> str:
    """Return one line that states the masses used, for example ``Mg 24.305, O 15.9994 u (standard: phonopy's table)``.

    Parameters
    ----------
    numbers, masses : (n_atoms,) of a crystal
    """
    from ase.data import chemical_symbols

    kinds = dict.fromkeys(zip(numpy.asarray(numbers).tolist(), numpy.asarray(masses, float).tolist()))
    own = numpy.abs(numpy.asarray(masses) / standard_masses(numbers) - 1).max() > 1e-6
    listed = ", ".join(f"{chemical_symbols[number]} {mass:.8g}" for number, mass in kinds)
    return f"{listed} u ({'as the input gives them' if own else STANDARD})"


def is_of_an_isotope(number: int, mass: float) -> bool:
    """Return whether an isotope of an element may have this mass, u."""
    from ase.data import atomic_masses

    lowest, highest = MASS_RATIOS_OF_HYDROGEN if number == 1 else MASS_RATIOS
    return bool(lowest <= mass / atomic_masses[number] <= highest)


def mass_doubts(numbers: ArrayLike, masses: ArrayLike) -> list[str]:
    """Return a sentence on masses that no isotope of their element has, in a list, or an empty list.

    Mixed crystals are calculated with mean masses; masses in another order than the elements look the same.

    Parameters
    ----------
    numbers, masses : (n_atoms,) of a crystal
    """
    from ase.data import chemical_symbols

    kinds = sorted(set(zip(numpy.asarray(numbers).tolist(), numpy.asarray(masses, float).tolist())))
    odd = [f"{chemical_symbols[number]} {mass:.8g} u" for number, mass in kinds if not is_of_an_isotope(number, mass)]
    if not odd:
        return []
    return [f"no isotope has the mass given: {', '.join(odd)}; if these are no mean masses of a mixed crystal, check "
            "that masses and elements stand in the same order, and that they are in u"]  # fmt: skip
