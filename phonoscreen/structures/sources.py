"""Sources of candidates on disk: a list of compounds and a folder of structure files."""

import io
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import RULE, harmless_id, problem_of_id
from phonoscreen.formats.file_kinds import ids_of_files, structure_files
from phonoscreen.formats.hidden_content import own_masses
from phonoscreen.formats.structure_files import Reading, admit_crystal, read_crystals
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.formulas import formula_of
from phonoscreen.structures.prototypes import build_structure

log = logging.getLogger("phonoscreen")

PARTS = ("training", "unexplored", "validation", "screened", "check")
COLUMNS = ("structure_id", "formula", "prototype")
_POOL_BYTES_MAX = 50_000_000


def read_pool(path: str | Path, structure_types: Mapping[str, Any]) -> list[Candidate]:
    """Candidates from a list of compounds.

    Parameters
    ----------
    path : CSV with ``structure_id, formula, prototype`` and perhaps ``part``, separated by commas or semicolons; the
        formula lists the elements in the order of the structure type's sites
    structure_types : mapping of ``resources/prototypes.yaml``

    Returns
    -------
    list of Candidate; a compound that cannot be built has no atoms and its problem in words

    Raises
    ------
    StudyError
        If the file is no such table.
    """
    table = _read_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise StudyError(f"columns {missing} are missing", where=str(path), fix="see resources/pool.csv")
    if not len(table):
        raise StudyError("no compounds", where=str(path), fix="see resources/pool.csv")
    if "part" not in table:
        table["part"] = ""
    unknown = sorted(set(table["part"]) - {*PARTS, ""})
    if unknown:
        raise StudyError(f"unknown parts {unknown}", where=str(path), fix=f"use {', '.join(PARTS)}, or none")
    shared = set(table["structure_id"][table["structure_id"].str.lower().duplicated(keep=False)])
    candidates = []
    for number, row in enumerate(table.itertuples()):
        structure_id, atoms = row.structure_id, None
        problem = _problem_of_row(structure_id, shared)
        if problem:
            structure_id = harmless_id(f"{structure_id} row {number + 2}")
        else:
            try:
                atoms = admit_crystal(build_structure(row.formula, row.prototype, structure_types))
            except StudyError as error:
                problem = error.what
        formula = formula_of(atoms.numbers) if atoms is not None else row.formula
        candidates.append(
            Candidate(structure_id, "pool", row.structure_id, formula, atoms, part=row.part, problem=problem)
        )
    return candidates


def _problem_of_row(structure_id, shared):
    if structure_id in shared:
        return f"the id {structure_id!r} stands in several rows (capitals do not count)"
    problem = problem_of_id(structure_id)
    return f"{problem}; an id has {RULE}" if problem else ""


def _read_table(path):
    """Return a CSV as texts, whatever its separator, with or without a byte order mark."""
    try:
        data = Path(path).read_bytes()
        if len(data) > _POOL_BYTES_MAX:
            raise StudyError(f"{len(data)} bytes", where=str(path), fix="give a list of compounds")
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot be read: {error}", where=str(path), fix="give a CSV file in UTF-8") from error
    header = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # more cells than columns
            table = pandas.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, sep=separator,
                                    index_col=False, skipinitialspace=True, on_bad_lines="error")  # fmt: skip
    except (ValueError, pandas.errors.ParserWarning) as error:
        raise StudyError(f"no table: {' '.join(str(error).split())}", where=str(path),
                         fix="see resources/pool.csv") from error  # fmt: skip
    table.columns = [str(name).strip() for name in table.columns]
    if table.columns.duplicated().any():
        raise StudyError("a column occurs twice", where=str(path), fix="see resources/pool.csv")
    return table.apply(lambda column: column.str.strip()).fillna("")


def read_folder(path: str | Path) -> list[Candidate]:
    """Candidates from a folder of CIF, POSCAR and (extended) XYZ files; a file may hold several structures.

    Parameters
    ----------
    path : folder, searched with its subfolders; which files count, ``phonoscreen.formats.file_kinds`` says

    Returns
    -------
    list of Candidate, in the order of the file names

    Raises
    ------
    StudyError
        If the folder holds no structure file.
    """
    path = Path(path)
    files = structure_files(path)
    if not files:
        raise StudyError("no structure files", where=str(path), fix="put CIF, POSCAR or extxyz files there")
    others = sum(one.is_file() for one in path.rglob("*")) - len(files)
    log.info("%d structure files, %d others are left alone", len(files), others)
    return candidates_of_files(files, [file.relative_to(path).as_posix() for file in files])


def candidates_of_files(files: Iterable[Path], names: Sequence[str], keep_unreadable: bool = False) -> list[Candidate]:
    """Candidates from structure files, each of which may hold several; ids as ``ids_of_files`` makes them.

    Parameters
    ----------
    files : paths
    names : what the ids are made of, in the same order: paths relative to their folder
    keep_unreadable : make a file that cannot be opened a candidate with its problem, instead of an error

    Raises
    ------
    StudyError
        If the machine cannot open a file.
    """
    candidates, used = [], set()
    for file, name, stem in zip(files, names, ids_of_files(names), strict=True):
        try:
            readings = read_crystals(file)
        except StudyError as error:
            if not keep_unreadable:
                raise
            readings = [Reading("", None, error)]
        for reading in readings:
            structure_id = harmless_id(stem if len(readings) == 1 else f"{stem}-{reading.name}")
            if structure_id.lower() in used:
                structure_id = harmless_id(f"{structure_id} of {name}")
            used.add(structure_id.lower())
            atoms, problem = reading.atoms, reading.error.what if reading.error else ""
            formula = formula_of(atoms.numbers, own_masses(atoms)) if atoms is not None else ""
            candidates.append(Candidate(structure_id, "files", name, formula, atoms, problem=problem))
    return candidates
