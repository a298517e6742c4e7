"""Extended XYZ, structure by structure, by ASE; sizes and columns are checked before anything is allocated."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict, read_xyz

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms

_COLUMNS_MAX = 200
_NUMBER_COLUMNS = ("Z", "numbers", "atomic_numbers")
_UNITS = ("unit", "units", "length_unit", "unit_length")
_LINE_MAX = 20_000
_FIX = "correct the file; each structure is its number of atoms, a comment, and one line per atom"


def extended_xyz_structures(stream: TextIO, atoms_max: int) -> Iterator[tuple[str, Atoms | StudyError]]:
    """Yield the place of every structure of a file, from 0, and its atoms or a StudyError.

    A structure that cannot be read is no reason to lose the next ones, as long as its number of lines is known.

    Parameters
    ----------
    stream : text
    atoms_max : largest number of atoms

    Raises
    ------
    StudyError
        If the file ends inside a structure, or a structure does not begin with its number of atoms.
    """
    number = 0
    while line := _line(stream):
        if not line.strip():
            if stream.read().strip():
                raise StudyError(f"an empty line before structure {number}", fix=_FIX)
            return
        words = line.split()
        if len(words) != 1 or not words[0].isdigit() or len(words[0]) > 9 or not int(words[0]):
            raise StudyError(f"structure {number} begins with {line.strip()[:40]!r}, no number of atoms", fix=_FIX)
        n_atoms = int(words[0])
        if n_atoms > atoms_max:
            raise StudyError(f"structure {number} has {n_atoms} atoms", fix=f"give up to {atoms_max}")
        comment = _line(stream)
        lines = []
        for _ in range(n_atoms):
            lines.append(_line(stream))
            if not lines[-1]:
                raise StudyError(f"structure {number} ends after {len(lines) - 1} of {n_atoms} atoms", fix=_FIX)
        try:
            _check_columns(comment, lines)
            text = "".join([f"{n_atoms}\n", comment, *lines])
            yield str(number), next(read_xyz(io.StringIO(text), index=0))
        except StudyError as error:
            yield str(number), error
        except Exception as error:  # ASE's reader raises anything
            text = " ".join(str(error).split())[:200] or type(error).__name__
            yield str(number), StudyError(f"cannot be read: {text}", fix=_FIX)
        number += 1


def comments(stream: TextIO) -> Iterator[str]:
    """Yield the comment line of every structure of a file that this project wrote."""
    while line := stream.readline():
        yield stream.readline()
        for _ in range(int(line)):
            stream.readline()


def comment_value(comment: str, key: str) -> str | None:
    """Return the text that a comment line gives a key, without turning it into a number, or None."""
    for word in comment.split():
        name, equals, value = word.partition("=")
        if equals and name == key:
            return value.strip("\"'")
    return None


def _line(stream):
    line = stream.readline(_LINE_MAX)
    if len(line) >= _LINE_MAX:
        raise StudyError(f"a line of more than {_LINE_MAX} characters", fix=_FIX)
    return line


def _check_columns(comment, lines):
    """Refuse columns that the lines do not have, and elements and moves that ASE would read as something else."""
    values = key_val_str_to_dict(comment.strip()) if comment.strip() else {}
    properties = str(values.get("Properties", "species:S:1:pos:R:3"))
    fields = properties.split(":")
    counts = fields[2::3]
    if len(fields) % 3 or not all(word.isdigit() and 0 < int(word) <= _COLUMNS_MAX for word in counts):
        raise StudyError(f"columns {properties[:60]!r} are not name:type:number", fix=_FIX)
    names, total = fields[0::3], sum(map(int, counts))
    if "pos" not in names or not {"species", "Z", "element"} & set(names) or len(set(names)) < len(names):
        raise StudyError(f"columns {', '.join(names)[:60]} lack elements or positions, or repeat", fix=_FIX)
    for line in lines:
        if len(line.split()) != total and total <= _COLUMNS_MAX:
            raise StudyError(f"an atom has {len(line.split())} columns of {total}", fix=_FIX)
    if total > _COLUMNS_MAX:
        raise StudyError(f"{total} columns", fix=f"give up to {_COLUMNS_MAX}")
    _check_elements(names, counts, lines)
    unit = next((str(values[key]) for key in values if str(key).lower() in _UNITS), "angstrom")
    if unit.strip().lower() not in ("angstrom", "ang", "a", "å"):
        raise StudyError(f"coordinates in {unit[:20]}", fix="give them in angstrom")


def _check_elements(names, counts, lines):
    """Refuse isotopes, and columns that name different elements for one atom."""
    places = {
        name: sum(map(int, counts[: names.index(name)])) for name in ("species", *_NUMBER_COLUMNS) if name in names
    }
    if "species" in places:
        for name in places.keys() - {"species"}:
            for line in lines:
                words = line.split()
                symbol, number = words[places["species"]], words[places[name]]
                if number.isdigit() and atomic_numbers.get(symbol.capitalize()) != int(number):
                    raise StudyError(f"an atom is {symbol} by its name and element {number} by its column {name}",
                                     fix="correct one of them")  # fmt: skip
        first = places["species"]
        isotopes = {line.split()[first] for line in lines} & {"D", "T", "d", "t"}
        if isotopes:
            raise StudyError(f"{', '.join(sorted(isotopes))} is an isotope of H",
                             fix="write H, and its mass in u in a column masses:R:1")  # fmt: skip
