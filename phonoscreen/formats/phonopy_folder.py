"""Which files of a folder of phonopy or phono3py belong together.

Such folders hold files of several runs: displacements for two supercells, params of an earlier set, constants. The
files are chosen by what fits together (numbers of atoms and of displaced supercells), as the programs would take them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import find
from phonoscreen.formats.phonopy_data import constants_shape, has_forces, with_forces
from phonoscreen.formats.phonopy_yaml import PhonopyFile, looks_like_phonopy, read_phonopy_file


@dataclass
class PhonopyFolder:
    """A YAML file and what stands beside it for it.

    Parameters
    ----------
    file : ``PhonopyFile``; forces from other files stand in its datasets
    second_constants, third_constants : ``fc2.hdf5`` and ``fc3.hdf5``, or None
    born : ``BORN``, or None
    used : names of all files that are read, for the report
    """

    file: PhonopyFile
    second_constants: Path | None = None
    third_constants: Path | None = None
    born: Path | None = None
    used: list = field(default_factory=list)


def choose_files(paths: list, constants: bool = False) -> PhonopyFolder:
    """Choose the YAML file and the files of forces, force constants and charges that belong to it.

    Parameters
    ----------
    paths : a folder, or files: one or more YAML files, FORCES_FC3, FORCES_FC2, FORCE_SETS, BORN, fc2.hdf5, fc3.hdf5
    constants : take force constants where there are some, as for a run of phono3py; else displacements and forces

    Returns
    -------
    PhonopyFolder

    Raises
    ------
    StudyError
        If no YAML file has all it needs, or two that differ have it; names what each of them lacks.
    """
    there = _listed(paths, constants)
    if not there["yaml"]:
        raise StudyError(f"{paths[0]} holds no YAML file of phonopy or phono3py with unit cell and supercell",
                         fix="put phono3py_disp.yaml or phono3py_params.yaml there")  # fmt: skip
    found, reasons = [], []
    for path in there["yaml"]:
        try:
            found.append(_complete(read_phonopy_file(path), there, constants))
        except StudyError as error:
            reasons.append(error)
    if not found:
        if len(reasons) == 1:
            raise reasons[0]
        raise StudyError("; ".join(error.what for error in reasons), fix=reasons[0].fix)
    most = max(len(own.used) for own in found)
    best = [own for own in found if len(own.used) == most]
    first = best[0]
    for other in best[1:]:
        if not _same_calculation(first.file, other.file):
            raise StudyError(
                f"{first.file.path} and {other.file.path} describe different calculations, and both fit the files "
                "beside them", fix="name the one that is meant instead of the folder, or leave one of them there",
            )  # fmt: skip
    return first


def yaml_files(folder: str | Path) -> list[Path]:
    """YAML files of phonopy and phono3py in a folder, by their content; the ones that probably hold most come first."""
    listed = (path for path in Path(folder).iterdir() if ".yaml" in path.name and path.is_file())
    return sorted((path for path in listed if looks_like_phonopy(path)), key=_rank)


def _listed(paths, constants):
    """Files by the part they play."""
    names: dict[str, tuple[str, ...]] = {
        "third_forces": ("FORCES_FC3",), "second_forces": ("FORCES_FC2",), "force_sets": ("FORCE_SETS",),
        "born": ("BORN",),
    }  # fmt: skip
    if constants:
        names |= {"second_constants": ("fc2.hdf5", "force_constants.hdf5"), "third_constants": ("fc3.hdf5",)}
    there: dict[str, Any] = {part: None for part in names} | {
        "yaml": [],
        "second_constants": None,
        "third_constants": None,
    }
    folders, given = [], []
    for path in map(Path, paths):
        folders.append(path) if path.is_dir() else given.append(path)
    for path in given:
        part = next((p for p, own in names.items() if any(own_name in path.name for own_name in own)), None)
        if part is not None:
            there[part] = path
        else:
            there["yaml"].append(path)
    beside = folders or ([there["yaml"][0].parent] if there["yaml"] else [])
    for folder in beside:
        for part, own in names.items():
            there[part] = there[part] or find(folder, *own)
    for folder in folders:
        there["yaml"] += yaml_files(folder)
    return there


def _rank(path):
    """Files made with forces before those made for them, and these before what a run left."""
    order = ("phono3py_params", "phono3py_disp", "phono3py", "phonopy_params", "phonopy_disp", "phonopy")
    return next((i for i, name in enumerate(order) if path.name.startswith(name)), len(order)), path.name


def _complete(file, there, constants):
    """The YAML file with forces or force constants from the files beside it, or a refusal that says what it lacks."""
    result = PhonopyFolder(file, used=[file.path.name])
    second_missing = third_missing = None
    if file.three_phonon:
        third_missing = _take_constants(result, there, "third_constants") and _take_forces(result, there, False)
        if file.phonon_supercell_matrix is not None:
            second_missing = _take_constants(result, there, "second_constants") and _take_forces(result, there, True)
        else:
            second_missing = _take_constants(result, there, "second_constants")
            if second_missing and (result.third_constants is None or not _take_forces(result, there, False)):
                second_missing = None  # from the same forces as the third order
    else:
        third_missing = _take_forces(result, there, False)
    missing = [reason for reason in (third_missing, second_missing) if reason]
    if missing:
        raise StudyError(
            (f"no force constants beside {file.path}: " if constants else f"{file.path} cannot be used: ")
            + "; ".join(dict.fromkeys(missing)),
            fix="save it with forces (phonopy --sp, phono3py --sp), or put FORCE_SETS, FORCES_FC3 (and FORCES_FC2), or "
            "fc2.hdf5 and fc3.hdf5 beside it",
        )
    if there["born"] is not None:
        result.born = there["born"]
        result.used.append(result.born.name)
    file.convert()  # force constants of phono3py are in eV and angstrom whatever the calculator
    return result


def _take_constants(result, there, part):
    """Use ``fc2.hdf5`` or ``fc3.hdf5`` if it fits; else the reason why not."""
    path, second = there[part], part == "second_constants"
    if path is None:
        return f"no {'fc2' if second else 'fc3'}.hdf5"
    wanted = result.file.n_supercell_atoms(phonon=second)
    shape = constants_shape(path)
    if shape[1] != wanted:
        return f"{path.name} is for {shape[1]} atoms, the supercell has {wanted}"
    setattr(result, part, path)
    result.used.append(path.name)
    return None


def _take_forces(result, there, phonon):
    """Put forces into the dataset, from the file beside it if it has none; else the reason why not."""
    file = result.file
    dataset = file.phonon_dataset if phonon else file.dataset
    if has_forces(dataset):
        return None
    part = ("second_forces" if phonon else "third_forces") if file.three_phonon else "force_sets"
    name = {"second_forces": "FORCES_FC2", "third_forces": "FORCES_FC3", "force_sets": "FORCE_SETS"}[part]
    path, n_atoms = there[part], file.n_supercell_atoms(phonon)
    if path is None:
        return "it holds no displacements with forces, and none lie beside it (no " + name + ")"
    try:
        filled = with_forces(path, dataset, n_atoms, part)
    except StudyError as error:
        return error.what
    if phonon:
        file.phonon_dataset = filled
    else:
        file.dataset = filled
    result.used.append(path.name)
    return None


def _same_calculation(one, other):
    """Whether two YAML files describe the same crystal and supercells."""
    pairs = [(one.unit_cell.cell, other.unit_cell.cell),
             (one.unit_cell.scaled_positions, other.unit_cell.scaled_positions),
             (one.supercell_matrix, other.supercell_matrix),
             (one.phonon_supercell_matrix, other.phonon_supercell_matrix)]  # fmt: skip
    for a, b in pairs:
        if (a is None) != (b is None) or (a is not None and (a.shape != b.shape or numpy.abs(a - b).max() > 1e-5)):
            return False
    return numpy.array_equal(one.unit_cell.numbers, other.unit_cell.numbers) and _same_data(one.dataset, other.dataset)


def _same_data(one, other):
    if one is None or other is None:
        return True
    if ("first_atoms" in one) != ("first_atoms" in other):
        return False
    if "first_atoms" in one:
        a, b = ([own["displacement"] for own in data["first_atoms"]] for data in (one, other))
        return len(a) == len(b) and numpy.allclose(a, b)
    return one["displacements"].shape == other["displacements"].shape and numpy.allclose(
        one["displacements"], other["displacements"]
    )
