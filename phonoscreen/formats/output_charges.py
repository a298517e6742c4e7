"""Born charges and dielectric tensor from what a user has: phonopy's BORN, or outputs of VASP (LEPSILON, LCALCEPS)."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.primitive import primitive_crystal
from phonoscreen.formats.born import charges_in_order, phonopy_atoms, read_born
from phonoscreen.formats.compressed import find, read_text
from phonoscreen.formats.foreign import foreign
from phonoscreen.phonons.dipoles import check_tensors

OUTPUTS = ("vasprun.xml", "OUTCAR")
_TOLERANCE_ANGSTROM = 1e-4
"""Of the symmetry in outputs, which are rounded."""
_REMEDY = "calculate them with LEPSILON = .TRUE. (or LCALCEPS) at the relaxed crystal, or give phonopy's BORN"


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
    cell, born, dielectric = _of_vasp(path)
    check_tensors(born, dielectric, where=str(path))
    theirs = primitive_crystal(cell, _TOLERANCE_ANGSTROM)
    born, dielectric = _by_symmetry(path, cell, theirs, born, dielectric)
    try:
        return charges_in_order(crystal, theirs, born), dielectric
    except StudyError as error:
        raise StudyError(error.what, where=str(path), fix=error.fix) from error


def _of_vasp(path: Path) -> tuple[Crystal, NDArray, NDArray]:
    """Return the cell of an output, and as printed the Born charges of all its atoms and the dielectric tensor."""
    from ase.io import read

    text = path.name.startswith("OUTCAR")
    with foreign(f"{path} holds no Born charges and dielectric tensor", _REMEDY):
        atoms: Any = read(path, format="vasp-out" if text else "vasp-xml")
        found = _of_outcar(path, Crystal.from_ase(atoms)) if text else _of_vasprun(path)
        born, dielectric = (numpy.array(one, dtype=float) for one in found)
        if born.shape != (len(atoms), 3, 3) or dielectric.shape != (3, 3) or not dielectric.any():
            raise ValueError(f"{len(born)} Born charges of {len(atoms)} atoms")
    return Crystal.from_ase(atoms), born, dielectric


def _of_vasprun(path):
    from phonopy.interface.vasp import get_born_vasprunxml

    return get_born_vasprunxml(path, is_symmetry=False)[:2]


def _of_outcar(path, cell):
    """Return what phonopy finds; it would take the ionic part of the dielectric tensor where VASP prints one behind."""
    from phonopy.interface.vasp import get_born_OUTCAR, write_vasp

    with tempfile.TemporaryDirectory() as folder:
        poscar, outcar = Path(folder) / "POSCAR", Path(folder) / "OUTCAR"
        write_vasp(poscar, phonopy_atoms(cell))  # of which phonopy takes the number of atoms
        outcar.write_text(read_text(path).replace("STATIC DIELECTRIC TENSOR IONIC", "IONIC"))
        return get_born_OUTCAR(poscar, outcar, is_symmetry=False)[:2]


def _by_symmetry(path, cell, primitive, born, dielectric):
    """Return both for the primitive cell, averaged over the symmetry of the crystal, the charges with the sum zero."""
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    with foreign(f"{path}: charges and crystal do not belong together", _REMEDY), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Symmetry of Born")  # phonopy's, beyond 0.1 e
        return symmetrize_borns_and_epsilon(born, dielectric, phonopy_atoms(cell), primitive=phonopy_atoms(primitive),
                                            symprec=_TOLERANCE_ANGSTROM)  # fmt: skip
