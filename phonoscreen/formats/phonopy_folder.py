"""Which files of a folder of phonopy or phono3py belong together.

Such folders hold files of several runs: displacements for two supercells, params of an earlier set, constants. The
files are chosen by what fits together (numbers of atoms and of displaced supercells), as the programs would take them.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import find, plain_file, read_text
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.phonopy_yaml import PhonopyFile, looks_like_phonopy, read_phonopy_file

LARGEST_ARRAY_BYTES = 2**34


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
    names = {"third_forces": ("FORCES_FC3",), "second_forces": ("FORCES_FC2",), "force_sets": ("FORCE_SETS",),
             "born": ("BORN",)}  # fmt: skip
    if constants:
        names |= {"second_constants": ("fc2.hdf5", "force_constants.hdf5"), "third_constants": ("fc3.hdf5",)}
    there = {part: None for part in names} | {"yaml": [], "second_constants": None, "third_constants": None}
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
        filled = _with_forces(path, dataset, n_atoms, part)
    except StudyError as error:
        return error.what
    if phonon:
        file.phonon_dataset = filled
    else:
        file.dataset = filled
    result.used.append(path.name)
    return None


def has_forces(dataset: dict | None) -> bool:
    """Whether every displaced supercell of phonopy's or phono3py's dataset has forces."""
    if not dataset:
        return False
    if "first_atoms" not in dataset:
        return "forces" in dataset and "displacements" in dataset
    sets = [own for first in dataset["first_atoms"] for own in (first, *first.get("second_atoms", ()))]
    return bool(sets) and all("forces" in own for own in sets)


def _with_forces(path, dataset, n_atoms, part):
    if part == "force_sets":
        return force_sets(path, n_atoms)
    table = _table(path)
    if table.shape[1] == 6:
        if len(table) % n_atoms:
            raise StudyError(f"{path.name} has {len(table)} rows, the supercell {n_atoms} atoms")
        table = table.reshape(-1, n_atoms, 6)
        return {"displacements": table[:, :, :3].copy(), "forces": table[:, :, 3:].copy()}
    firsts = (dataset or {}).get("first_atoms")
    if not firsts:
        raise StudyError(f"{path.name} needs the displacements, which the YAML file lacks")
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
        dataset = parse_FORCE_SETS_from_strings(text, natom=n_atoms)
        for own in dataset.get("first_atoms", ()):
            if not 0 <= own["number"] < n_atoms or own["displacement"].shape != (3,):
                raise StudyError(f"{path} displaces atom {own['number'] + 1} of {n_atoms}", fix=fix)
    return dataset


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
