"""Which files of a folder are structures, and the id of each. Standard library only: the Snakefile lists them too."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from phonoscreen.audit.names import harmless_id

SUFFIXES = (".cif", ".mcif", ".vasp", ".poscar", ".extxyz", ".xyz")
COMPRESSED = (".gz", ".xz", ".bz2")
_NAMES = ("POSCAR", "CONTCAR")
_BACKUPS = ("~", "#", ".bak", ".orig", ".old", ".swp", ".swo", ".tmp", ".partial", ".part", ".save")


def structure_files(folder: str | Path) -> list[Path]:
    """Return the structure files of a folder and its subfolders, sorted.

    CIF, POSCAR or CONTCAR (first or last in the name) and (extended) XYZ, compressed or not; hidden files and folders
    and the backup copies of editors (``POSCAR~``, ``#POSCAR#``, ``POSCAR.bak``, ``.POSCAR.swp``) are none.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of pathlib.Path
    """
    folder = Path(folder)
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "#")) or part.endswith("~") for part in parts)
        # A link that leads nowhere is listed too: whoever opens it says so.
        if not hidden and kind_of_file(path.name) and (path.is_file() or path.is_symlink() and not path.exists()):
            found.append(path)
    return found


def kind_of_file(name: str) -> str:
    """Return what a file holds by its name, ``"cif"``, ``"poscar"`` or ``"extxyz"``; "" for backups and all others."""
    lower = name.lower()
    if lower.endswith(_BACKUPS):
        return ""
    for suffix in COMPRESSED:
        lower = lower.removesuffix(suffix)
    if lower.endswith(_BACKUPS):
        return ""
    if lower.endswith((".cif", ".mcif")):
        return "cif"
    if lower.endswith((".extxyz", ".xyz")):
        return "extxyz"
    return "poscar" if lower.endswith((".vasp", *map(str.lower, _NAMES))) or name.startswith(_NAMES) else ""


def ids_of_files(relative_paths: Sequence[str]) -> list[str]:
    """Return an id of its own for each file: its path without the suffix, ``/`` as ``-``, in lower case.

    Files that would share an id keep their suffix in it (``a.cif`` and ``a.vasp`` become ``a-cif`` and ``a-vasp``), and
    where that does not part them, a digest of the path.

    Parameters
    ----------
    relative_paths : list of texts, relative to the folder of the source

    Returns
    -------
    list of ids in the same order
    """
    ids = [_plain(path, keep_suffix=False) for path in relative_paths]
    for again in (lambda path: _plain(path, keep_suffix=True), _with_digest):
        users: dict[str, list[int]] = {}
        for number, one in enumerate(ids):
            users.setdefault(one.lower(), []).append(number)
        for numbers in users.values():
            if len(numbers) > 1:
                for number in numbers:
                    ids[number] = again(relative_paths[number])
    return ids


def _plain(path, keep_suffix):
    text = path.replace("/", "-")
    for suffix in COMPRESSED:
        text = text.removesuffix(suffix)
    for suffix in SUFFIXES:
        if text.lower().endswith(suffix) and len(text) > len(suffix):
            stem = text[: -len(suffix)]
            text = f"{stem}-{suffix[1:]}" if keep_suffix else stem
            break
    return harmless_id(text.lower())


def _with_digest(path):
    return f"{_plain(path, keep_suffix=True)[:80]}-{hashlib.sha256(path.encode('utf-8', 'replace')).hexdigest()[:8]}"
