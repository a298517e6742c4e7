"""Born charges and dielectric tensor from what a user has: phonopy's BORN, or outputs of VASP (LEPSILON, LCALCEPS)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.units import COULOMB
from phonoscreen.formats.born import phonopy_atoms, phonopy_crystal, read_born
from phonoscreen.formats.compressed import find
from phonoscreen.formats.foreign import foreign

if TYPE_CHECKING:
    from phonopy.structure.atoms import PhonopyAtoms

OUTPUTS = ("vasprun.xml", "OUTCAR")
_TOLERANCE_ANGSTROM = 1e-4
"""Of the symmetry in outputs, which are rounded."""


def charges_file(folder: str | Path) -> Path | None:
    """Return the file of a folder that holds charges: BORN, else an output of VASP; None if there is none."""
    return find(Path(folder), "BORN") or find(Path(folder), *OUTPUTS)


def read_charges(path: str | Path, crystal: Crystal) -> tuple[NDArray, NDArray]:
    """Read Born charges and dielectric tensor of a crystal.

    Parameters
    ----------
    path : BORN for the primitive cell, or vasprun.xml or OUTCAR of any cell of this crystal in the same
        orientation
    crystal : ``Crystal``, primitive

    Returns
    -------
    born : (n_atoms, 3, 3), units of e, first index the field
    dielectric : (3, 3)

    Raises
    ------
    StudyError
        If the file holds no charges, or those of another crystal.
    """
    path = Path(path)
    if path.name.startswith("BORN"):
        return read_born(path, crystal)
    cell, tensors = _of_vasp(path)
    # What phonopy-vasp-born prints, which is read as the file that it would have written.
    lines = [f"{COULOMB:.6f}", *(" ".join(f"{number:.8f}" for number in tensor.ravel()) for tensor in tensors)]
    with tempfile.TemporaryDirectory() as folder:
        born = Path(folder) / "BORN"
        born.write_text("\n".join(lines) + "\n")
        try:
            return read_born(born, crystal, phonopy_crystal(cell), _TOLERANCE_ANGSTROM)
        except StudyError as error:
            raise StudyError(error.what.replace(str(born), str(path)), where=str(path), fix=error.fix) from error


def _of_vasp(path: Path) -> tuple[PhonopyAtoms, list[NDArray]]:
    """Return the cell of an output, and its dielectric tensor before the charges of the inequivalent atoms."""
    from ase.io import read
    from phonopy.interface import vasp
    from phonopy.structure.cells import guess_primitive_matrix

    text = path.name.startswith("OUTCAR")
    with foreign(
        f"{path} holds no Born charges and dielectric tensor",
        "calculate them with LEPSILON = .TRUE. (or LCALCEPS), or give phonopy's BORN",
    ):
        atoms: Any = read(path, format="vasp-out" if text else "vasp-xml")
        cell = phonopy_atoms(Crystal.from_ase(atoms))
        matrix = guess_primitive_matrix(cell, symprec=_TOLERANCE_ANGSTROM)
        if text:
            with tempfile.TemporaryDirectory() as folder:
                vasp.write_vasp(Path(folder) / "POSCAR", cell)
                found = vasp.get_born_OUTCAR(Path(folder) / "POSCAR", path, matrix, symprec=_TOLERANCE_ANGSTROM)
        else:
            found = vasp.get_born_vasprunxml(path, matrix, symprec=_TOLERANCE_ANGSTROM)
        charges, dielectric = numpy.array(found[0], dtype=float), numpy.array(found[1], dtype=float)
        if charges.ndim != 3 or not len(charges) or dielectric.shape != (3, 3):
            raise ValueError("no charges")
    return cell, [dielectric, *charges]
