"""Dipole-dipole part of the second-order force constants of polar crystals.

Forces between induced dipoles fall as the third power of distance: no cutoff reaches them. Where Born charges and the
dielectric tensor are known this part is calculated (X. Gonze, C. Lee, Phys. Rev. B 55, 10355 (1997), the Gaussian of
phonopy), its forces are subtracted, the short-ranged rest is fitted, and the part is added again. At the wave vectors
that fit into the supercell it contains the macroscopic field of the displacements there; between them the
non-analytic correction of ``phonoscreen.phonons.long_range`` continues the same sum.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, SecondOrder, full_second_order
from phonoscreen.crystal.supercell import supercell_cells
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.phonons.long_range import GonzeCorrection

MISTAKEN_CHARGE = 0.2
"""Fraction of the largest Born charge that noise may leave against symmetry or neutrality."""
LARGEST_CHARGE = 1000.0
"""Born charges of real crystals stay below a few tens of e."""
LARGEST_DIELECTRIC = 1e6
"""High-frequency dielectric constants of crystals with a gap stay below some hundreds."""


def dipole_constants(crystal: Crystal, repetitions: Sequence[int], born: NDArray, dielectric: NDArray) -> SecondOrder:
    """Second-order force constants of the dipoles in a supercell.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    born : (n_atoms, 3, 3) Born charges, units of e, first index the field; their sum is taken off evenly
    dielectric : (3, 3) high-frequency dielectric tensor

    Returns
    -------
    SecondOrder, eV/angstrom^2

    Raises
    ------
    StudyError
        If the charges do not fit the crystal, are not finite, or the tensor is not positive definite.
    """
    born, dielectric = check_charges(crystal, born, dielectric)
    cells = supercell_cells(repetitions)
    n_atoms, qpoints = len(crystal.numbers), cells / numpy.array(repetitions)
    ewald = GonzeCorrection.ewald(crystal, born, dielectric)
    matrices = ewald.matrices(qpoints, False)[0].reshape(len(qpoints), -1)
    waves = numpy.exp(-2j * numpy.pi * (cells @ qpoints.T)) / len(cells)
    masses = numpy.repeat(numpy.asarray(crystal.masses, float), 3)
    values = (waves @ matrices).real.reshape(-1, 3 * n_atoms, 3 * n_atoms) * numpy.sqrt(numpy.outer(masses, masses))
    values = values.reshape(-1, n_atoms, 3, n_atoms, 3).transpose(1, 0, 3, 2, 4) / units.SQUARED_FREQUENCY
    return SecondOrder(tuple(int(n) for n in repetitions), values.reshape(n_atoms, -1, 3, 3))


def dipole_forces(constants: SecondOrder, displacements: ArrayLike) -> NDArray:
    """Forces of the dipole-dipole part.

    Parameters
    ----------
    constants : ``SecondOrder`` of ``dipole_constants``
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom

    Returns
    -------
    (n_supercells, n_supercell_atoms, 3), eV/angstrom
    """
    full = full_second_order(constants)
    n = len(full)
    matrix = full.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return -(numpy.asarray(displacements).reshape(-1, 3 * n) @ matrix.T).reshape(-1, n, 3)


def dipole_correction(
    crystal: Crystal, charges: tuple[NDArray, NDArray] | None
) -> Callable[..., GonzeCorrection] | None:
    """Return what a ``DynamicalMatrix`` adds for the dipole-dipole part between the wave vectors of the supercell.

    Parameters
    ----------
    crystal : ``Crystal``
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3), or None: nothing is added

    Raises
    ------
    StudyError
        If the charges do not fit the crystal (see ``check_charges``).
    """
    if charges is None:
        return None
    born, dielectric = check_charges(crystal, *charges)
    return partial(GonzeCorrection, born=born, epsilon=dielectric)


def check_charges(
    crystal: Crystal, born: ArrayLike, dielectric: ArrayLike, where: str | None = None
) -> tuple[NDArray, NDArray]:
    """Born charges and dielectric tensor that obey the crystal's symmetry and the sum rule, or a refusal.

    Both are averaged over the space group, and the sum of the charges is taken off evenly, as phonopy does. What a
    calculation leaves against these rules is its numerical noise; more than a fifth of the largest charge is a mistake.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised
    born : (n_atoms, 3, 3) Born charges, units of e, first index the field
    dielectric : (3, 3) high-frequency dielectric tensor
    where : the file, for messages

    Returns
    -------
    born, dielectric : the same shapes

    Raises
    ------
    StudyError
        If the charges do not fit the crystal, are not finite, or the tensor is not positive definite.
    """
    born, tensor = numpy.asarray(born, float), numpy.asarray(dielectric, float)
    if born.shape != (len(crystal.numbers), 3, 3) or tensor.shape != (3, 3):
        raise StudyError(
            f"Born charges of shape {born.shape} and a dielectric tensor of shape {tensor.shape} for "
            f"{len(crystal.numbers)} atoms",
            where=where,
            fix="give (n_atoms, 3, 3) charges of the primitive cell's atoms and a (3, 3) tensor",
        )
    check_tensors(born, tensor, where)
    symmetry, largest = find_symmetry(crystal), max(float(numpy.abs(born).max()), 1e-300)
    average, turns = numpy.zeros_like(born), symmetry.cartesian
    for images, turn in zip(symmetry.atoms, turns):
        average[images] += turn @ born @ turn.T / len(turns)
    tensor = (turns @ tensor @ turns.transpose(0, 2, 1)).mean(axis=0)
    tensor = 0.5 * (tensor + tensor.T)
    unlike, total = float(numpy.abs(average - born).max()), average.sum(axis=0)
    if unlike > MISTAKEN_CHARGE * largest:
        raise StudyError(
            f"the Born charges break the symmetry of the crystal by {unlike:.2f} e, of a largest of {largest:.2f} e",
            where=where,
            fix="check the order of the atoms and the orientation of the cell they were calculated in",
        )
    if numpy.abs(total).max() > MISTAKEN_CHARGE * largest:
        raise StudyError(
            f"the Born charges sum to {numpy.abs(total).max():.2f} e instead of zero, the largest is {largest:.2f} e",
            where=where,
            fix="calculate them with denser k points, or check the order of the atoms",
        )
    return average - total / len(born), tensor


def check_tensors(born: NDArray, dielectric: NDArray, where: str | None = None) -> None:
    """Raise StudyError on charges or a dielectric tensor that no crystal has.

    Parameters
    ----------
    born : (n_atoms, 3, 3) e
    dielectric : (3, 3)
    where : the file, for messages
    """
    if not (numpy.isfinite(born).all() and numpy.isfinite(dielectric).all()):
        what = "Born charges or dielectric tensor are not finite"
    elif numpy.abs(born).max() > LARGEST_CHARGE:
        what = f"a Born charge of {numpy.abs(born).max():.3g} e"
    elif numpy.abs(dielectric - dielectric.T).max() > 0.01 * numpy.abs(dielectric).max():
        what = "the dielectric tensor is not symmetric"
    elif numpy.abs(dielectric).max() > LARGEST_DIELECTRIC:
        what = f"a dielectric constant of {numpy.abs(dielectric).max():.3g}"
    elif numpy.linalg.eigvalsh(dielectric + dielectric.T).min() <= 0:
        what = "the dielectric tensor is not positive"
    else:
        return
    raise StudyError(what, where=where, fix="calculate them again, or leave them out")
