"""The one door through which structures of files come in: a study's source, ``fit`` and ``predict`` read with it.

ASE reads the formats; what its readers guess, drop or choke on is looked for before and after. Every structure is
either a crystal that numbers, cell, positions and masses describe in full, or refused with its reason.
"""

import bz2
import gzip
import io
import lzma
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.formats.ase_formats import foreign_structures
from phonoscreen.formats.cif import cif_structures
from phonoscreen.formats.extended_xyz import extended_xyz_structures
from phonoscreen.formats.file_kinds import kind_of_file
from phonoscreen.formats.hidden_content import check_content, own_masses, set_masses
from phonoscreen.formats.poscar import poscar_structures

LARGEST_FILE_BYTES = 20_000_000
ATOMS_OF_A_CRYSTAL = 2000
ATOMS_OF_A_SNAPSHOT = 1_000_000
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_PERIODIC = 'give a crystal: a cell with pbc="T T T"'
_READERS = {"cif": cif_structures, "poscar": poscar_structures, "extxyz": extended_xyz_structures}


@dataclass
class Reading:
    """One structure of a file: ``atoms``, or ``error`` (StudyError) where it is refused.

    Parameters
    ----------
    name : what tells it from the others of the file, its place from 0; "" in formats that hold one only
    """

    name: str
    atoms: Atoms | None
    error: StudyError | None


def read_crystal(path: str | Path) -> Atoms:
    """Return the one crystal of a file.

    Parameters
    ----------
    path : CIF, POSCAR or CONTCAR, extended XYZ, or one of ``phonoscreen.formats.ase_formats``; compressed or not

    Returns
    -------
    ase.Atoms with numbers, cell, positions and, where they are not the natural ones, masses

    Raises
    ------
    StudyError
        If the file cannot be read, holds several structures, or its structure is refused.
    """
    found = read_crystals(path)
    if len(found) != 1:
        raise StudyError(f"{path} holds {len(found)} structures", fix="give a file with one")
    if found[0].error is not None:
        raise found[0].error
    assert found[0].atoms is not None  # what is not refused has atoms
    return found[0].atoms


def read_crystals(path: str | Path) -> list[Reading]:
    """Return all crystals of a file, a list of ``Reading``; a file that makes no sense is one refused structure."""
    return list(_readings(path, ATOMS_OF_A_CRYSTAL, admit_crystal))


def iterate_snapshots(path: str | Path) -> Iterator[Reading]:
    """Yield the structures of a file one by one as ``Reading``, velocities and other columns kept.

    The verdict is that of ``read_crystals``, but supercells may be large, may hold velocities, and a cluster without a
    cell is welcome: a force model needs no crystal.

    Parameters
    ----------
    path : as in ``read_crystal``; extended XYZ may be of any size
    """
    yield from _readings(path, ATOMS_OF_A_SNAPSHOT, _snapshot)


def _readings(path, atoms_max, admit):
    """Yield a ``Reading`` of every structure of a file, one at least.

    Raises
    ------
    StudyError
        If the machine cannot open the file: that is no property of the structure.
    """
    where, number = str(path), 0
    try:
        for name, atoms in _structures(path, atoms_max):
            number += 1
            yield _judge(name, atoms, f"{where}{f' ({name})' if name else ''}", admit)
        if not number:
            raise StudyError("holds no structure", where=where, fix="remove it, or give one structure at least")
    except StudyError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno:
            raise
        yield Reading(str(number), None, StudyError(error.what, where=error.where or where, fix=error.fix))


def read_text(text: str, kind: str) -> list[Atoms]:
    """Return the crystals of the text of a file, as ``read_crystals`` does.

    Parameters
    ----------
    text : str
    kind : ``"cif"``, ``"poscar"`` or ``"extxyz"``

    Returns
    -------
    list of ase.Atoms

    Raises
    ------
    StudyError
        If anything of it is refused.
    """
    readings = [
        _judge(name, atoms, kind, admit_crystal)
        for name, atoms in _quietly(_READERS[kind], io.StringIO(text), ATOMS_OF_A_CRYSTAL, kind)
    ]
    for reading in readings:
        if reading.error is not None:
            raise reading.error
    if not readings:
        raise StudyError("holds no structure", where=kind, fix="give one structure at least")
    return [reading.atoms for reading in readings]


def admit_crystal(atoms: Atoms, where: str | None = None) -> Atoms:
    """Return a crystal as the study knows it: numbers, cell, positions and masses that are not the natural ones.

    Every source of structures ends here, whatever it reads.

    Raises
    ------
    StudyError
        See ``check_geometry`` and ``check_content``; also if the crystal does not repeat in three directions, or has
        more than 2000 atoms.
    """
    if not atoms.pbc.all():
        raise StudyError(f"{_repeats(atoms)}: no crystal", where=where, fix=_PERIODIC)
    if len(atoms) > ATOMS_OF_A_CRYSTAL:
        raise StudyError(f"{len(atoms)} atoms", where=where, fix=f"give the primitive cell, up to {ATOMS_OF_A_CRYSTAL}")
    check_geometry(atoms, where)
    check_content(atoms, where)
    crystal = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    set_masses(crystal, own_masses(atoms, where))
    return crystal


def _snapshot(atoms, where):
    """Check a structure for a force model and return it as it is."""
    if atoms.pbc.any() or atoms.cell.any():
        if not atoms.pbc.all():
            raise StudyError(f"{_repeats(atoms)}: no crystal", where=where, fix=_PERIODIC)
        check_geometry(atoms, where)
    elif len(atoms) == 0 or not numpy.isfinite(atoms.positions).all() or (atoms.numbers < 1).any():
        raise StudyError("no atoms, coordinates that are not finite, or a place without an element (X)", where=where,
                         fix="correct the structure")  # fmt: skip
    check_content(atoms, where, moving=True)
    return atoms


def _repeats(atoms):
    if not atoms.cell.any():
        return "no cell"
    return f"a cell that repeats in {int(atoms.pbc.sum())} directions of three (pbc)"


def _judge(name, atoms, where, admit):
    try:
        if isinstance(atoms, StudyError):
            raise StudyError(atoms.what, where=where, fix=atoms.fix)
        return Reading(name, admit(atoms, where), None)
    except StudyError as error:
        return Reading(name, None, error)


def _structures(path, atoms_max):
    """Yield (name, ase.Atoms or StudyError) of the structures of a file; StudyError if it cannot be read at all."""
    path, where = Path(path), str(path)
    kind = kind_of_file(path.name) or ("poscar" if "POSCAR" in path.name else "")
    opener = _OPENERS.get(path.suffix.lower(), open)
    try:
        if not kind:
            if path.stat().st_size > LARGEST_FILE_BYTES:
                raise _too_large(where)
            yield from _quietly(foreign_structures, path, atoms_max, where)
            return
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape") as stream:
            if kind == "extxyz" and atoms_max == ATOMS_OF_A_SNAPSHOT:
                yield from _quietly(_READERS[kind], stream, atoms_max, where)
                return
            text = stream.read(LARGEST_FILE_BYTES + 1)
        if len(text) > LARGEST_FILE_BYTES:
            raise _too_large(where)
        yield from _quietly(_READERS[kind], io.StringIO(text), atoms_max, where)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise StudyError(f"cannot be opened: {error}", where=where, fix="give a whole file that exists") from error


def _too_large(where):
    limit = LARGEST_FILE_BYTES // 1_000_000
    return StudyError(f"more than {limit} MB: no file of structures", where=where, fix="give the crystal alone")


def _quietly(reader, source, atoms_max, where):
    """Run a reader without its warnings; what it raises becomes a StudyError."""
    frames = reader(source, atoms_max)
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frame = next(frames)
        except StopIteration:
            return
        except (StudyError, OSError, EOFError, MemoryError):
            raise
        except Exception as error:  # readers of foreign files raise anything
            text = " ".join(str(error).split())[:300]
            raise StudyError(f"cannot be read: {text or type(error).__name__}", where=where,
                             fix="correct the file, or write it anew as extended XYZ") from error  # fmt: skip
        yield frame
