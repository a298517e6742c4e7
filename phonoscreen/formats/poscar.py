"""POSCAR and CONTCAR of VASP 5 and later, by ASE; the header is checked first, where ASE would guess."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from ase.data import atomic_numbers
from ase.io.vasp import read_vasp

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms


def poscar_structures(stream: TextIO, atoms_max: int) -> Iterator[tuple[str, Atoms]]:
    """Yield the name "" and the structure of a POSCAR.

    Parameters
    ----------
    stream : text
    atoms_max : largest number of atoms

    Raises
    ------
    StudyError
        If the elements are not named, or the header is not that of a POSCAR.
    """
    text = stream.read()
    lines = text.splitlines()
    if len(lines) < 9:
        raise StudyError(f"a POSCAR of {len(lines)} lines", fix="give a whole POSCAR")
    scales = [_number(word) for word in lines[1].split("!")[0].split("#")[0].split()[:3]]
    if not scales or not all(math.isfinite(x) and x for x in scales) or (len(scales) == 3 and min(scales) <= 0):
        raise StudyError(f"the scaling factor is {lines[1].strip()[:40]!r}", fix="give a number in line 2")
    symbols = [re.split(r"[_/]", word)[0] for word in lines[5].split("!")[0].split("#")[0].split()]
    if symbols and all(word.isdigit() for word in symbols):
        raise StudyError(
            "no names of the elements (a POSCAR of VASP 4)", fix="put their symbols in a line above the numbers"
        )
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers or symbol == "X"]
    if unknown or not symbols:
        raise StudyError(f"elements {' '.join(unknown)[:60] or 'missing'} in line 6 are none",
                         fix="use symbols; isotopes are H with a mass, in an extended XYZ file")  # fmt: skip
    counts = lines[6].split("!")[0].split("#")[0].split()
    if len(counts) != len(symbols) or not all(word.isdigit() and int(word) > 0 for word in counts):
        raise StudyError(f"numbers of atoms {lines[6].strip()[:60]!r} for {' '.join(symbols)[:60]}",
                         fix="give one number for each element")  # fmt: skip
    if (total := sum(map(int, counts))) > atoms_max:
        raise StudyError(f"{total} atoms", fix=f"give the primitive cell, up to {atoms_max} atoms")
    selective = lines[7].strip()[:1].lower() == "s"
    mode = (lines[8] if selective else lines[7]).strip()[:1].lower()
    if mode not in ("d", "c", "k"):
        raise StudyError("positions are neither Direct nor Cartesian", fix="say so in the line above them")
    if len(lines) < 8 + selective + total:
        raise StudyError(f"fewer positions than {total} atoms", fix="give a whole POSCAR")
    _check_atom_lines(lines[8 + selective : 8 + selective + total], symbols, [int(word) for word in counts], selective)
    after = lines[8 + selective + total : 9 + selective + total]
    if after and re.fullmatch(r"[-+\d.eEdD\s]+", after[0].strip()):
        raise StudyError(f"more positions than {total} atoms", fix="correct the numbers of atoms, or remove the others")
    yield "", read_vasp(io.StringIO(text))


def _check_atom_lines(lines, symbols, counts, selective):
    """Refuse positions whose own labels (``0 0 0 Na``) are those of other elements than the header's."""
    expected = [symbol for symbol, count in zip(symbols, counts) for _ in range(count)]
    for number, (line, symbol) in enumerate(zip(lines, expected), 1):
        label = line.split()[6 if selective else 3 :][:1]
        named = re.match(r"[A-Z][a-z]?(?![a-z])", label[0]) if label else None
        if named and named[0] in atomic_numbers and named[0] != symbol:
            raise StudyError(f"position {number} is labelled {label[0]}, by the header it is {symbol}",
                             fix="put the atoms in the order of line 6")  # fmt: skip


def _number(word):
    try:
        return float(word)
    except ValueError:
        return math.nan
