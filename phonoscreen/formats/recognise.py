"""What kind of file or folder of displacements and forces a path is: by its content first, by its name second."""

import re
from collections.abc import Iterable
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import SUFFIXES, first_text, plain_name
from phonoscreen.formats.frames import recognise_structure
from phonoscreen.formats.hiphive import is_container
from phonoscreen.formats.phonopy_folder import yaml_files
from phonoscreen.formats.phonopy_yaml import looks_like_phonopy
from phonoscreen.formats.tdep import is_tdep

PHONOPY, FORCE_SETS, DFSET, TDEP, CONTAINER, FRAMES = "phonopy", "FORCE_SETS", "DFSET", "TDEP", "hiphive", "frames"

LOOKED_FOR = (
    "YAML files of phonopy and phono3py, FORCES_FC3, FORCES_FC2, FORCE_SETS, ALAMODE's DFSET, TDEP's infile.positions "
    "and infile.forces, hiphive's StructureContainer, vasprun.xml, OUTCAR, extended XYZ and what else ASE reads"
)

OUTPUTS = re.compile(r"(?i)vasprun.*\.xml$|.*\.extxyz$|outcar([-_.].*)?$|.*[-_.]outcar$|.*\.traj$")
"""Names of files of a folder that are supercells with forces."""

ALAMODE_COMMENT = re.compile(r"(?im)^\s*#.*(snapshot|filename\s*:|e_pot)")


def recognise(path: str | Path) -> str:
    """Return the kind of a file or folder.

    Parameters
    ----------
    path : file or folder

    Raises
    ------
    StudyError
        If it is none, says two things at once, or is something else; names what was looked for and what was found.
    """
    path = Path(path)
    if path.is_dir():
        return _kind_of_folder(path)
    if not path.exists():
        raise StudyError(f"{path} does not exist", fix="check its name and folder")
    head, name = first_text(path), plain_name(path)
    if not head.strip():
        raise StudyError(f"{path} is empty", fix="write it again")
    if looks_like_phonopy(path):
        return PHONOPY
    if name.startswith("infile.") and is_tdep(path.parent):
        return TDEP
    if recognise_structure(path) is not None:
        return FRAMES
    kind = _kind_of_numbers(head, name, path)
    if kind is not None:
        return kind
    if is_container(path):
        return CONTAINER
    return FRAMES


def members(folder: str | Path) -> list[Path]:
    """Outputs of a folder and its subfolders that hold supercells with forces, hidden and backup files left out."""
    folder = Path(folder)
    found = (path for path in folder.rglob("*") if path.is_file() and OUTPUTS.match(plain_name(path)))
    return sorted(path for path in found if not _hidden(path.relative_to(folder)))


def files_like(folder: str | Path, *names: str) -> list[Path]:
    """Files of a folder whose names begin with one of some, plain or compressed."""
    listed = sorted(path for path in Path(folder).iterdir() if path.is_file() and not _hidden(Path(path.name)))
    return [path for path in listed if plain_name(path).startswith(names)]


def _kind_of_folder(folder):
    kinds = []
    if yaml_files(folder):
        return PHONOPY
    if is_tdep(folder):
        kinds.append(TDEP)
    kinds += [kind for kind in (DFSET, FORCE_SETS) if files_like(folder, kind)]
    if members(folder):
        kinds.append(FRAMES)
    if not kinds:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise StudyError(f"{folder} holds no displacements and forces: looked for {LOOKED_FOR}; found {there}",
                         fix="name the files themselves")  # fmt: skip
    if len(kinds) > 1:
        raise StudyError(
            f"{folder} holds several kinds of data: {', '.join(kinds)}", fix="name the files that are meant"
        )
    return kinds[0]


def _kind_of_numbers(head, name, path):
    """Kind of a table of numbers; None for anything else."""
    rows = [line.split() for line in head.splitlines()[:-1] or head.splitlines() if line.strip()]
    rows = [row for row in rows if not row[0].startswith("#")][:40]
    if not rows or not all(map(_numbers, rows)):
        return None
    lengths = [len(row) for row in rows]
    if lengths[:3] == [1, 1, 1] and lengths[3:5] == [3, 3] or lengths[:2] == [1, 1] and "FORCE_SETS" in name:
        return FORCE_SETS
    if set(lengths) == {6}:
        alamode, phonopy = bool(ALAMODE_COMMENT.search(head)), "FORCE_SETS" in name or "FORCES_FC" in name
        named = "DFSET" in name.upper()
        if phonopy and (alamode or named):
            raise StudyError(f"{path} has the name of phonopy's file and the comments of ALAMODE's, whose units differ",
                             fix="name it DFSET (bohr), or take the comments away (angstrom)")  # fmt: skip
        if alamode or named:
            return DFSET
        if phonopy:
            return FORCE_SETS if "FORCE_SETS" in name else PHONOPY
        raise StudyError(
            f"{path} has six columns: ALAMODE's DFSET (bohr, Ry/bohr) or phonopy's FORCE_SETS (angstrom, eV/angstrom)?",
            fix="give it the name of what it is: DFSET or FORCE_SETS",
        )
    if set(lengths) == {3} and "FORCES_FC" in name:
        return PHONOPY
    if lengths[0] in (1, 2) and "FORCE_CONSTANTS" in name.upper():
        raise StudyError(
            f"{path} holds force constants, not forces", fix="give displacements and forces; bte reads these"
        )
    return None


def _numbers(words: Iterable[str]) -> bool:
    try:
        return all(float(word) is not None for word in words)
    except ValueError:
        return False


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part.endswith("~") for part in path.parts)


__all__ = [
    "CONTAINER", "DFSET", "FORCE_SETS", "FRAMES", "LOOKED_FOR", "PHONOPY", "SUFFIXES", "TDEP", "files_like", "members",
    "recognise",
]  # fmt: skip
