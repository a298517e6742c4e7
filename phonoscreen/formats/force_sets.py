"""Force sets that others made: where they are in a folder, and what each holds.

A force set is one crystal with displaced supercells and their forces: the outputs of a program in a folder, a folder or
file of phonopy, phono3py, ALAMODE, TDEP or hiphive, or an archive of any of these (phononDB).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.archives import is_archive, unpack, without_ending
from phonoscreen.formats.compressed import find, plain_name
from phonoscreen.formats.displacements import DisplacedSupercells
from phonoscreen.formats.fit_input import STRUCTURES, FitInput, read_fit_input
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.output_folder import Calculation, output_files, read_output_folder
from phonoscreen.formats.phonopy_folder import yaml_files
from phonoscreen.formats.phonopy_yaml import looks_like_phonopy
from phonoscreen.formats.recognise import CONTAINER, DFSET, FORCE_SETS, FRAMES, PHONOPY, TDEP, recognise


@dataclass
class ForceSet:
    """One crystal with displaced supercells and their forces.

    Parameters
    ----------
    data : DisplacedSupercells
    calculations : one for each supercell that was found, those that cannot serve too
    program : what calculated or wrote them
    settings : numerical settings that the files state, by name
    """

    data: DisplacedSupercells
    calculations: list[Calculation]
    program: str = ""
    settings: dict[str, str] = field(default_factory=dict)


def find_force_sets(folder: str | Path) -> list[Path]:
    """Return the force sets of a folder: archives, files and folders, sorted.

    A folder with a crystal of its own (POSCAR-unitcell and alike) or with files of phonopy, phono3py, ALAMODE or TDEP
    is one force set with all that lies below. So is a folder with outputs of a program anywhere below it, unless some
    folder below is a force set by the first rule. Files and archives that hold supercells count for themselves where
    they do not lie in a force set. The folder that is searched is a force set itself only by the first rule.
    """
    folder = Path(folder)
    return [path for path, _ in sorted(_search(folder, is_root=True))]


def _search(folder, is_root=False):
    """Return pairs of path and whether it is surely a force set of its own."""
    if _has_crystal(folder):
        return [(folder, True)]
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "#")) or path.name.endswith("~"):
            continue
        if path.is_dir():
            found += _search(path)
        elif is_archive(path.name) or looks_like_phonopy(path):
            found.append((path, True))
        elif output_files(path):
            found.append((path, False))
    if not is_root and found and not any(sure for _, sure in found):
        return [(folder, False)]
    return found


def _has_crystal(folder):
    names = ("FORCE_SETS", "FORCES_FC3", "DFSET", "infile.positions", *STRUCTURES)
    return find(folder, *names) is not None or bool(yaml_files(folder))


def has_own_crystal(path: Path) -> bool:
    """Return whether a place says by itself which crystal was repeated, and how: an archive, or phononDB's folder."""
    if path.is_file():
        return is_archive(path.name)
    return all(find(path, *names) is not None for names in (("phonopy.conf",), ("FORCE_SETS",), STRUCTURES))


def force_set_name(path: Path, folder: Path) -> str:
    """Return the name of a force set: its path in the folder without the endings of archives and files."""
    name = path.relative_to(folder).as_posix() if path != folder else folder.resolve().name
    if is_archive(name):
        return without_ending(name)
    return name if path.is_dir() else str(Path(name).with_name(plain_name(path))).rsplit(".", 1)[0]


def read_force_set(path: Path, workspace: Path, allowed: tuple[str, ...] = ()) -> ForceSet:
    """Read one force set.

    Parameters
    ----------
    path : of ``find_force_sets``
    workspace : empty folder for the content of an archive
    allowed : names of settings that may differ among its calculations

    Returns
    -------
    ForceSet; the supercells of ``data`` are those of its calculations with the status ok, in their order

    Raises
    ------
    StudyError
        If nothing in it can be used, or its files do not belong together.
    """
    if path.is_file() and is_archive(path.name):
        inside = find_force_sets(unpack(path, workspace))
        if len(inside) != 1:
            raise StudyError(f"the archive holds {len(inside)} force sets", where=str(path),
                             fix="give an archive for each, or the unpacked folder")  # fmt: skip
        return read_force_set(inside[0], workspace, allowed)
    kind = _kind(path)
    if kind == FRAMES:
        data, calculations, program, settings = read_output_folder(path, allowed)
        return ForceSet(data, calculations, program, settings)
    data = read_fit_input(_fit_input(path, kind))
    where = [f"supercell {number + 1}" for number in range(len(data.forces))]
    calculations = [Calculation(one, "ok", "") for one in where]
    if data.second_order is not None:
        calculations.append(Calculation(
            f"{len(data.second_order.forces)} supercells of FORCES_FC2", "skipped",
            "a second supercell of the same crystal: a study takes one",
        ))  # fmt: skip
    return ForceSet(data, calculations, kind, _settings_beside(path))


def _kind(path):
    if path.is_dir():
        for kind, names in ((DFSET, ["DFSET"]), (TDEP, ["infile.positions"]), (FORCE_SETS, ["FORCE_SETS"])):
            if find(path, *names) and not (kind == FORCE_SETS and find(path, "phonopy.conf") is None):
                return kind
        return PHONOPY if yaml_files(path) else FRAMES
    kind = recognise(path)
    if kind in (DFSET, FORCE_SETS, CONTAINER):
        raise StudyError("it does not say which crystal was repeated", where=str(path),
                         fix="put it into a folder of its own with POSCAR-unitcell")  # fmt: skip
    return kind


def _fit_input(path, kind):
    """Return what the door of ``phonoscreen fit`` is given: a folder says all, phononDB's in phonopy.conf."""
    if kind != FORCE_SETS:
        return FitInput(str(path), [])
    crystal, born = find(path, *STRUCTURES), find(path, "BORN")
    if crystal is None:
        raise StudyError("no crystal beside FORCE_SETS", where=str(path), fix="add POSCAR-unitcell")
    return FitInput(str(crystal), [str(find(path, "FORCE_SETS"))], _dimensions(find(path, "phonopy.conf")),
                    None if born is None else str(born))  # fmt: skip


def _dimensions(path):
    from phonopy.cui.settings import PhonopyConfParser

    fix = "write DIM and the integers of the supercell matrix there"
    try:
        with foreign(f"{path} is no configuration of phonopy", fix):
            matrix = PhonopyConfParser(filename=str(path)).settings.supercell_matrix
    except SystemExit as error:  # phonopy ends the program where a value is wrong
        raise StudyError("phonopy refuses this configuration", where=str(path), fix=fix) from error
    if matrix is None:
        raise StudyError("no DIM", where=str(path), fix=fix)
    return [int(n) for n in matrix.ravel()]


def _settings_beside(path: Path) -> dict[str, str]:
    """Return functional and cutoff of an INCAR that lies beside a force set (phononDB's INCAR-force), if any does."""
    incar = find(path, "INCAR-force", "INCAR") if path.is_dir() else None
    if incar is None:
        return {}
    from pymatgen.io.vasp.inputs import Incar

    with foreign(f"{incar} cannot be read", "correct it, or take it away"):
        given: Any = Incar.from_file(str(incar))
    names = {"GGA": "GGA", "METAGGA": "METAGGA", "ENCUT": "ENCUT"}
    return {ours: f"{given[key]:g}" if isinstance(given[key], (int, float)) else str(given[key]).upper()
            for key, ours in names.items() if key in given}  # fmt: skip
