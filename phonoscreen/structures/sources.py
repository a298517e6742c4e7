"""Sources of candidates on disk: a list of compounds and a folder of structure files."""

from pathlib import Path

import pandas
from ase.io import read

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.prototypes import build_structure, reduced_formula

PARTS = ("training", "unexplored", "validation", "check")
_SUFFIXES = {".cif", ".vasp", ".poscar", ".extxyz", ".xyz"}


def read_pool(path, structure_types):
    """Candidates from a list of compounds.

    Parameters
    ----------
    path : CSV with ``structure_id, formula, prototype, part``; the formula lists the elements in the order of the
        structure type's sites
    structure_types : mapping of ``resources/prototypes.yaml``

    Returns
    -------
    list of Candidate; a compound that cannot be built has no atoms and its problem in words

    Raises
    ------
    StudyError
        If columns are missing, ids repeat, or a part is unknown.
    """
    table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    missing = {"structure_id", "formula", "prototype", "part"} - set(table.columns)
    if missing:
        raise StudyError(f"columns {sorted(missing)} are missing", where=str(path), fix="see resources/pool.csv")
    repeated = sorted(table["structure_id"][table["structure_id"].duplicated()])
    if repeated:
        raise StudyError(f"structure ids repeat: {repeated}", where=str(path), fix="give every row its own id")
    unknown = sorted(set(table["part"]) - set(PARTS))
    if unknown:
        raise StudyError(f"unknown parts {unknown}", where=str(path), fix=f"use {', '.join(PARTS)}")
    candidates = []
    for row in table.itertuples():
        atoms, problem = None, ""
        try:
            atoms = build_structure(row.formula, row.prototype, structure_types)
        except StudyError as error:
            problem = error.what
        candidates.append(
            Candidate(row.structure_id, "pool", row.structure_id, row.formula, atoms, part=row.part, problem=problem)
        )
    return candidates


def read_folder(path):
    """Candidates from a folder of CIF, POSCAR and (extended) XYZ files; a file may hold several structures.

    Parameters
    ----------
    path : folder, searched with its subfolders

    Returns
    -------
    list of Candidate, in the order of the file names

    Raises
    ------
    StudyError
        If the folder holds no structure file.
    """
    path = Path(path)
    names = ("POSCAR", "CONTCAR")
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in _SUFFIXES or f.name.startswith(names))
    if not files:
        raise StudyError("no structure files", where=str(path), fix="put CIF, POSCAR or extxyz files there")
    candidates = []
    for file in files:
        relative = str(file.relative_to(path))
        stem = relative.removesuffix(file.suffix).replace("/", "-").lower()
        try:
            frames, problem = read(file, index=":"), "holds no structure"
        except Exception as error:  # readers of foreign files raise anything
            frames, problem = [], f"cannot be read: {error}"
        if not frames:
            candidates.append(Candidate(stem, "files", relative, "", None, problem=problem))
        for number, atoms in enumerate(frames):
            name = stem if len(frames) == 1 else f"{stem}-{number}"
            candidates.append(Candidate(name, "files", relative, reduced_formula(atoms.numbers), atoms))
    return candidates
