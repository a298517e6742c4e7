"""What stands beside a YAML file of phonopy or phono3py: its forces, and the shape of its force constants."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import plain_file, read_text
from phonoscreen.formats.foreign import foreign

LARGEST_ARRAY_BYTES = 2**34


def constants_shape(path: Path) -> tuple:
    """Shape of the force constants in ``fc2.hdf5`` or ``fc3.hdf5``, checked before any of them is read.

    Raises
    ------
    StudyError
        If the file is damaged, or the shape none of force constants.
    """
    with plain_file(path) as plain, foreign(f"{path} cannot be read", "write it again"), h5py.File(plain, "r") as store:
        name = next((own for own in ("fc3", "force_constants", "fc2") if own in store), None)
        if name is None:
            raise StudyError(f"{path} holds no force constants: looked for fc3, fc2, force_constants; found "
                             f"{', '.join(store) or 'nothing'}", fix="give a file of phonopy or phono3py")  # fmt: skip
        shape, kind = store[name].shape, store[name].dtype.kind
    order = 3 if name == "fc3" else 2
    n = shape[1] if len(shape) > 1 else 0
    if len(shape) != 2 * order or shape[order:] != (3,) * order or shape[1:order] != (n,) * (order - 1) or kind != "f":
        raise StudyError(f"{path}: {name} of shape {shape} are no force constants", fix="write it again")
    if not 0 < shape[0] <= n or 8 * float(numpy.prod(numpy.array(shape, float))) > LARGEST_ARRAY_BYTES:
        raise StudyError(f"{path}: {name} of shape {shape} are not force constants that fit into memory",
                         fix="write them in compact form, for one supercell")  # fmt: skip
    return shape


def has_forces(dataset: dict | None) -> bool:
    """Whether every displaced supercell of phonopy's or phono3py's dataset has forces."""
    if not dataset:
        return False
    if "first_atoms" not in dataset:
        return "forces" in dataset and "displacements" in dataset
    sets = [own for first in dataset["first_atoms"] for own in (first, *first.get("second_atoms", ()))]
    return bool(sets) and all("forces" in own for own in sets)


def with_forces(path: Path, dataset: dict | None, n_atoms: int, part: str) -> dict:
    """Return the dataset of a YAML file with the forces of a file beside it.

    Parameters
    ----------
    path : FORCE_SETS, FORCES_FC2 or FORCES_FC3, also compressed
    dataset : phonopy's or phono3py's, or None
    n_atoms : atoms of the supercell
    part : ``force_sets`` for FORCE_SETS, anything else for the two others

    Raises
    ------
    StudyError
        If the file is damaged or for other displacements.
    """
    if part == "force_sets":
        return force_sets(path, n_atoms)
    table = _table(path)
    if table.shape[1] == 6:
        if len(table) % n_atoms:
            raise StudyError(f"{path.name} has {len(table)} rows, the supercell {n_atoms} atoms")
        table = table.reshape(-1, n_atoms, 6)
        return {"displacements": table[:, :, :3].copy(), "forces": table[:, :, 3:].copy()}
    if not dataset or not dataset.get("first_atoms"):
        raise StudyError(f"{path.name} needs the displacements, which the YAML file lacks")
    firsts = dataset["first_atoms"]
    sets = [*firsts, *(second for first in firsts for second in first.get("second_atoms", ()))]
    if table.shape != (len(sets) * n_atoms, 3):
        raise StudyError(
            f"{path.name} has {len(table)} rows of {table.shape[1]} numbers, {len(sets)} displaced supercells of "
            f"{n_atoms} atoms need {len(sets) * n_atoms} of 3"
        )
    for own, forces in zip(sets, table.reshape(len(sets), n_atoms, 3)):
        own["forces"] = forces.copy()
    return dataset


def _table(path):
    text = read_text(path)
    with foreign(f"{path} cannot be read", "the file is cut; copy it again"):
        table = numpy.loadtxt(io.StringIO(text), ndmin=2)
    if not table.size or table.shape[1] not in (3, 6):
        raise StudyError(f"{path} has rows of {table.shape[1] if table.size else 0} numbers, not of 3 or 6",
                         fix="give FORCES_FC3 or FORCES_FC2 of phono3py")  # fmt: skip
    if not numpy.isfinite(table).all():
        raise StudyError(f"{path} holds values that are not finite numbers", fix="calculate these supercells again")
    return table


def force_sets(path: str | Path, n_atoms: int) -> dict:
    """Displacements and forces of phonopy's FORCE_SETS, of single displaced atoms or of all, as a dataset of phonopy.

    Parameters
    ----------
    path : text file, also compressed
    n_atoms : atoms of the supercell

    Raises
    ------
    StudyError
        If the file is cut or for another supercell.
    """
    from phonopy.file_IO import parse_FORCE_SETS_from_strings

    text = read_text(path)
    fix = "give the unit cell and the supercell matrix (DIM, --supercell) of the file"
    words = text.split(None, 2)[:2]
    if len(words) == 2 and all(word.isdigit() for word in words):
        sets = int(words[1])
        if int(words[0]) != n_atoms or not 0 < sets * n_atoms * 5 < len(text):
            raise StudyError(f"{path} is cut or not for a supercell of {n_atoms} atoms: it announces {words[1]} "
                             f"supercells of {words[0]}", fix=fix)  # fmt: skip
    with foreign(f"{path} is cut or not for a supercell of {n_atoms} atoms", fix):
        if not text.strip():
            raise StudyError(f"{path} is empty", fix=fix)
        dataset: Any = parse_FORCE_SETS_from_strings(text, natom=n_atoms)
        for own in dataset.get("first_atoms", ()):
            if not 0 <= own["number"] < n_atoms or own["displacement"].shape != (3,):
                raise StudyError(f"{path} displaces atom {own['number'] + 1} of {n_atoms}", fix=fix)
    return dataset
