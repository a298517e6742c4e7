"""Born charges and dielectric tensors from phonopy's BORN, and crystals to and from phonopy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.units import COULOMB
from phonoscreen.formats.compressed import read_text
from phonoscreen.formats.foreign import foreign
from phonoscreen.phonons.dipoles import check_tensors

if TYPE_CHECKING:
    from phonopy.structure.atoms import PhonopyAtoms

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.I)


def read_born(
    path: str | Path, crystal: Crystal, unit_cell: Crystal | None = None, tolerance_angstrom: float = 1e-5,
    nac_factor: float = COULOMB,
) -> tuple[NDArray, NDArray]:  # fmt: skip
    """Read phonopy's BORN file: Born charges of the inequivalent atoms and the dielectric tensor.

    Parameters
    ----------
    path : text file
    crystal : ``Crystal`` whose charges are wanted, primitive
    unit_cell : ``Crystal`` whose primitive cell the file is for, if its atoms are in another order
    tolerance_angstrom : of symmetry, which tells the inequivalent atoms
    nac_factor : e^2/(4 pi epsilon_0) in the units of the files beside it

    Returns
    -------
    born : (n_atoms, 3, 3), units of e, first index the field
    dielectric : (3, 3)

    Raises
    ------
    StudyError
        If the file is not for this crystal, or holds what no crystal has (not finite, a charge beyond 1000 e, a
        dielectric tensor that is not symmetric and positive, the factor of other units).
    """
    from phonopy.file_IO import parse_BORN_from_strings

    from phonoscreen.crystal.primitive import primitive_crystal

    theirs = primitive_crystal(unit_cell, tolerance_angstrom) if unit_cell is not None else crystal
    _check_born(path, nac_factor)
    with foreign(
        f"{path} is not a BORN file of this crystal",
        "write it with phonopy-vasp-born: one line for the dielectric tensor, one per inequivalent atom",
    ):
        charges = parse_BORN_from_strings(read_text(path), phonopy_atoms(theirs), symprec=tolerance_angstrom)
    return charges_in_order(crystal, theirs, numpy.array(charges["born"])), numpy.array(charges["dielectric"])


def _check_born(path, nac_factor):
    """Raise StudyError on numbers that phonopy would symmetrise or pass on."""
    lines = [(k, line.split()) for k, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    tensors = []
    for line, words in lines[1:]:
        if len(words) != 9 or not all(_NUMBER.fullmatch(word) for word in words):
            raise StudyError(f"{path}, line {line}: {' '.join(words)[:60]!r} is not nine numbers",
                             fix="write it with phonopy-vasp-born: one line for the dielectric tensor, one per "
                             "inequivalent atom")  # fmt: skip
        tensors.append(numpy.array(words, float).reshape(3, 3))
    if len(tensors) < 2:
        raise StudyError(f"{path} holds {len(tensors)} tensors", fix="write it with phonopy-vasp-born")
    first = lines[0][1][0]
    if _NUMBER.fullmatch(first):
        check_factor(first, nac_factor, f"{path}, line 1")
    check_tensors(numpy.array(tensors[1:]), tensors[0], where=str(path))


def check_factor(factor: float | str, nac_factor: float, where: str) -> None:
    """Refuse a factor of Born charges that belongs to other units: the charges may be in another unit than e too.

    Parameters
    ----------
    factor : e^2/(4 pi epsilon_0) as a file states it; that of eV and angstrom is always right
    nac_factor : the same in the units of phonopy's calculator
    where : file, and line

    Raises
    ------
    StudyError
        If it differs by more than 1 %.
    """
    if not min(abs(float(factor) / known - 1) for known in (COULOMB, nac_factor)) < 0.01:
        known = "" if nac_factor == COULOMB else f", nor {nac_factor:.6g}, that of its calculator"
        raise StudyError(f"{where}: the factor {factor} is not that of eV and angstrom, {COULOMB:.4f}{known}",
                         fix=f"give the charges in units of e, and write {COULOMB:.4f} there")  # fmt: skip


def charges_in_order(crystal: Crystal, theirs: Crystal, born: NDArray) -> NDArray:
    """Born charges of one primitive cell for the atoms of another one of the same crystal."""
    places = theirs.scaled_positions @ theirs.cell @ numpy.linalg.inv(crystal.cell)
    step = crystal.scaled_positions[:, None] - places[None]
    distance = numpy.linalg.norm((step - numpy.rint(step)) @ crystal.cell, axis=2)
    if len(places) != len(crystal.numbers) or distance.min(axis=1).max() > 0.05:
        raise StudyError("the Born charges belong to another crystal", fix="give the charges of the primitive cell")
    return born[distance.argmin(axis=1)]


def phonopy_atoms(crystal: Crystal) -> PhonopyAtoms:
    """``PhonopyAtoms`` of a ``Crystal``."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, masses=crystal.masses
    )


def phonopy_crystal(cell: PhonopyAtoms) -> Crystal:
    """``Crystal`` of phonopy's atoms.

    Raises
    ------
    StudyError
        If cell, positions or masses are not finite, or a mass is not positive.
    """
    if not all(numpy.isfinite(array).all() for array in (cell.cell, cell.scaled_positions, cell.masses)):
        raise StudyError("cell, positions or masses of the crystal are not finite", fix="make the file again")
    if numpy.min(cell.masses) <= 0:
        raise StudyError("an atom of the crystal has no mass", fix="make the file again, or correct its mass")
    return Crystal(cell.cell.copy(), cell.scaled_positions.copy(), cell.numbers.copy(), cell.masses.copy())
