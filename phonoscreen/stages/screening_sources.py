"""What is to be screened: files, folders, and formulas with a structure type."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import harmless_id
from phonoscreen.formats.file_kinds import structure_files
from phonoscreen.formats.structure_files import admit_crystal
from phonoscreen.stages.label_library import starting_structure
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.formulas import formula_of, parse_formula
from phonoscreen.structures.sources import candidates_of_files
from phonoscreen.structures.space_groups import space_group_number
from phonoscreen.structures.substitution import site_counts

NAMES = {
    "zincblende": "216-AB", "half-heusler": "216-ABC", "inverse-heusler": "216-ABC2", "quaternary-heusler": "216-ABCD",
    "caesium-chloride": "221-AB", "cesium-chloride": "221-AB", "cscl": "221-AB", "cu3au": "221-AB3",
    "reo3": "221-AB3-ReO3", "perovskite": "221-ABC3", "antiperovskite": "221-ABC3", "rocksalt": "225-AB",
    "bif3": "225-AB3", "heusler": "225-ABC2", "elpasolite": "225-ABC2D6", "diamond": "227-A", "laves": "227-AB2",
    "spinel": "227-AB2C4",
}  # fmt: skip
"""Common names of structure types of ``resources/prototypes.yaml``."""

LARGEST_LIST_BYTES = 50_000_000


def read_candidates(
    texts: Iterable[str | Path],
    structure_types: Mapping[str, Any],
    formulas: str | Path | None = None,
    structure_type: str | None = None,
    left_out: str | Path | None = None,
) -> tuple[list[Candidate], dict[str, Path]]:
    """Return the structures of the command line in the order given, and the files that hold one structure.

    Parameters
    ----------
    texts : list of files, folders, and ``FORMULA:STRUCTURE_TYPE``
    structure_types : mapping of ``resources/prototypes.yaml``
    formulas : file with one formula, or ``FORMULA:STRUCTURE_TYPE``, a line; ``#`` begins a comment
    structure_type : of the formulas that name none
    left_out : folder of results, which is searched for no structures although it may lie inside a folder given

    Returns
    -------
    list of ``Candidate``, each with an id of its own; a structure that cannot be read has its problem in words
    dict from id to file

    Raises
    ------
    StudyError
        If a text is none of these, or there is nothing.
    """
    found = [one for text in texts for one in _of_text(str(text), structure_types, structure_type, left_out)]
    if formulas is not None:
        found += [_of_formula(line, structure_types, structure_type) for line in _lines(formulas)]
    if not found:
        raise StudyError("nothing to screen", where="phonoscreen screen",
                         fix="give files, folders, FORMULA:STRUCTURE_TYPE, or --formulas FILE")  # fmt: skip
    used: dict[str, int] = {}
    for candidate, _ in found:
        lower = candidate.structure_id.lower()
        used[lower] = used.get(lower, 0) + 1
        if used[lower] > 1:
            candidate.structure_id = harmless_id(f"{candidate.structure_id} number {used[lower]}")
    counts: dict[Path | None, int] = {}
    for _, file in found:
        counts[file] = counts.get(file, 0) + 1
    files = {one.structure_id: file for one, file in found if file is not None and counts[file] == 1}
    return [candidate for candidate, _ in found], files


def _of_text(text, structure_types, structure_type, left_out):
    """Return [(candidate, file or None)] of one argument."""
    path = Path(text)
    if path.is_dir():
        files, results = structure_files(path), Path(left_out or path).resolve()
        if path.resolve() in results.parents:
            files = [file for file in files if results not in file.resolve().parents]
        if not files:
            raise StudyError("no structure files", where=text, fix="put CIF, POSCAR or extended XYZ files there")
        names = [file.relative_to(path).as_posix() for file in files]
        return [(candidate, path / candidate.source_id) for candidate in candidates_of_files(files, names, True)]
    if path.is_file():
        return [(candidate, path) for candidate in candidates_of_files([path], [path.name], True)]
    if ":" in text and "/" not in text:
        return [_of_formula(text, structure_types, structure_type)]
    raise StudyError(f"{text} is no file or folder, and no FORMULA:STRUCTURE_TYPE", where="phonoscreen screen",
                     fix="correct the name, or give for example NaCl:rocksalt")  # fmt: skip


def _lines(path):
    """Return the lines of a list of formulas without comments."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read(LARGEST_LIST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read: {error}", where="--formulas",
                         fix="give a text file with one formula a line") from error  # fmt: skip
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _of_formula(text, structure_types, structure_type):
    """Return the candidate of ``FORMULA`` or ``FORMULA:STRUCTURE_TYPE``, and no file."""
    formula, _, named = (part.strip() for part in text.partition(":"))
    named = named or structure_type or ""
    kind = NAMES.get(named.lower().replace(" ", "-").replace("_", "-"), named)
    try:
        kind = _of_space_group(kind, formula, structure_types)
        if not kind:
            raise StudyError("no structure type", fix="write NaCl:rocksalt, or give --structure-type")
        if kind not in structure_types:
            known = ", ".join([*NAMES, *structure_types])
            raise StudyError(f"unknown structure type {kind!r}", fix=f"use one of {known}")
        atoms = admit_crystal(starting_crystal(formula, kind, structure_types))
        problem, shown = "", formula_of(atoms.numbers)
    except StudyError as error:
        atoms, problem, shown = None, str(error), formula
    name = harmless_id(f"{formula.lower()}-{kind.split('-')[0]}" if kind in structure_types else text)
    return Candidate(name, "formula", f"{formula}:{kind}", shown, atoms, problem=problem), None


def _of_space_group(kind, formula, structure_types):
    """Return the one structure type that a space group and the counts of a formula leave, else what was given."""
    number = None if kind in structure_types else space_group_number(kind)
    if number is None:
        return kind
    counts = sorted(count for _, count in parse_formula(formula))
    left = [one for one in structure_types if one.split("-")[0] == str(number) and sorted(site_counts(one)) == counts]
    if len(left) != 1:
        raise StudyError(
            f"{len(left)} structure types of space group {number} have the counts of {formula}",
            fix=f"use one of {', '.join(left or structure_types)}",
        )
    return left[0]


def starting_crystal(formula: str, structure_type: str, structure_types: Mapping[str, Any]) -> Atoms:
    """Crystal of a formula with touching covalent radii, scaled by the structure type's mean ratio.

    The elements stand on the sites in the order written. Where their counts do not fit in that order, they are sorted
    by the counts of the sites, elements of equal count in the order written: Cs2KIrCl6 and KIrCs2Cl6 are the same.

    Raises
    ------
    StudyError
        If the formula does not fit the structure type.
    """
    parts, counts = parse_formula(formula), site_counts(structure_type)
    written = [count for _, count in parts]
    if written != counts and sorted(written) == sorted(counts):
        left = list(parts)
        parts = []
        for count in counts:
            parts.append(next(part for part in left if part[1] == count))
            left.remove(parts[-1])
        formula = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in parts)
    return starting_structure(formula, structure_type, structure_types)
