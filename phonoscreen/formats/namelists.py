"""Files of Fortran namelists, read as strictly as a Fortran program reads them.

Which namelists, entries, types and shapes exist is the caller's; this module knows the grammar: ``&name … /``,
``&end``, ``$name … $end``, comments, subscripts with ranges, repeat counts, null values, values that go on into the
following elements. Each value is converted by f90nml (``f90nml.fpy``). f90nml's own parser of whole files drops
values (``ngrid(1)=6 6 6`` gives one), accepts a namelist that is never closed, merges repeated entries and forgets
lines, so it cannot say what a Fortran program would refuse; where it keeps everything, both give the same
(``tests/test_io_control.py``).
"""

import bisect
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
from f90nml.fpy import pybool, pyfloat, pystr
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError

SIZE_MAX_MIB = 64
"""A file of namelists is typed by hand; anything beyond is another file."""

_TOKEN = re.compile(
    r"""(?P<blank>[\s,]+|![^\n]*)
      | (?P<end>/|[&$]end\b)
      | (?P<group>[&$]\w+)
      | (?P<name>[a-z]\w*\s*(?:\([^()=\n]*\)\s*)*=)
      | (?P<word>(?:\d+\*)?(?:'(?:[^'\n]|'')*'|"(?:[^"\n]|"")*"|[^\s,=!/'"&$]+)|\d+\*)
      | (?P<odd>.)""",
    re.I | re.X,
)
_NUMBER = {
    int: re.compile(r"[+-]?\d+"),
    float: re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([ed][+-]?\d+|[+-]\d+)?", re.I),
    bool: re.compile(r"\.?[tf][\w.]*", re.I),
    str: re.compile(r"'.*'|\".*\"", re.S),
}
_READ = {int: int, float: pyfloat, bool: partial(pybool, strict_logical=False), str: pystr}
_KIND = {int: "an integer", float: "a real number", bool: "a logical (.true. or .false.)", str: "a text in quotes"}


@dataclass
class Assignment:
    """One ``name(subscript) = values`` of a namelist.

    Attributes
    ----------
    name, subscript : in lower case; the text between the brackets, or ""
    words : list of (repeat count, text or None for a null value)
    group, path, line : where it stands
    """

    name: str
    subscript: str
    words: list
    group: str
    path: str
    line: int

    @property
    def where(self) -> str:
        """File, line, namelist and entry, for messages."""
        return f"{self.path}, line {self.line}, namelist &{self.group}, entry {self.name}"


def read_assignments(path: str | Path) -> dict[str, list[Assignment]]:
    """Read the assignments of a file of namelists.

    Parameters
    ----------
    path : text file

    Returns
    -------
    dict of namelist name (lower case) to list of Assignment, in the order of the file

    Raises
    ------
    StudyError
        If the file is missing or too large, or breaks the grammar of namelists.
    """
    text = _text(path)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    groups: dict[str, list[Assignment]] = {}
    group, current, begun, place, commas = None, None, 0, 0, 0

    def where(position):
        line = f"{path}, line {bisect.bisect_right(starts, position)}"
        return line if group is None else f"{line}, namelist &{group}"

    while place < len(text):
        token = _TOKEN.match(text, place)
        assert token is not None  # its last kind is any character
        kind, word, start = token.lastgroup, token[0], place
        place = token.end()
        if kind == "blank":
            commas += 0 if word.startswith("!") else word.count(",")
        elif group is None:
            if kind == "name" and not text[starts[bisect.bisect_right(starts, start) - 1] : start].strip():
                raise StudyError(f"{word} stands outside every namelist", where=where(start),
                                 fix="move it between &name and / of its namelist")  # fmt: skip
            if kind == "group":
                group, current = word[1:].lower(), None
                if group in groups:
                    raise StudyError(f"namelist &{group} is given twice", where=where(start), fix="join the two")
                groups[group], begun = [], bisect.bisect_right(starts, start)
        elif kind == "end":
            group = None
        elif kind == "name":
            name, _, subscript = word[:-1].strip().lower().partition("(")
            if subscript.count("(") or "%" in subscript:
                raise StudyError(f"{word} is a part of a text", where=where(start), fix="give whole values")
            subscript = re.sub(r"\s", "", subscript)[:-1] if subscript else ""
            line = bisect.bisect_right(starts, start)
            current, commas = Assignment(name.strip(), subscript, [], group, str(path), line), 0
            groups[group].append(current)
        elif kind == "word" and current is not None:
            current.words += [(1, None)] * max(0, commas - (1 if current.words else 0))
            current.words.append(_repeated(word))
            commas = 0
        else:
            what = f"{word!r} is not expected" if kind != "group" else f"{word} begins before &{group} is not closed"
            raise StudyError(what, where=where(start), fix="write name = values, and close each namelist with /")
    if group is not None:
        raise StudyError(f"namelist &{group}, begun in line {begun}, is not closed", where=str(path),
                         fix="close it with / or &end")  # fmt: skip
    return groups


def check_entries(
    groups: Mapping[str, Iterable[Assignment]], known: Mapping[str, Iterable[str]], path: str | Path
) -> None:
    """Raise StudyError on a namelist or an entry that the program does not know, or that stands in another namelist.

    Parameters
    ----------
    groups : from ``read_assignments``
    known : dict of namelist name to the names of its entries
    path : of the file, for messages
    """
    home = {name: group for group, names in known.items() for name in names}
    for group, assignments in groups.items():
        if group not in known:
            raise StudyError(f"unknown namelist &{group}{_similar(group, known)}", where=str(path),
                             fix=f"the namelists are {', '.join('&' + name for name in known)}")  # fmt: skip
        for item in assignments:
            if item.name in known[group]:
                continue
            if item.name in home:
                raise StudyError(f"{item.name} belongs to namelist &{home[item.name]}", where=item.where,
                                 fix=f"move it to &{home[item.name]}")  # fmt: skip
            raise StudyError(f"unknown entry {item.name}{_similar(item.name, home)}", where=item.where,
                             fix="correct its name, or take the line out")  # fmt: skip
    for group in known:
        if group not in groups:
            raise StudyError(f"namelist &{group} is missing", where=str(path), fix=f"add &{group} … /, even if empty")


def read_values(assignments: Iterable[Assignment], name: str, shape: Sequence[int], kind: type) -> NDArray | None:
    """Return the values of one entry.

    Parameters
    ----------
    assignments : list of Assignment of its namelist
    name : of the entry
    shape : of the array, () for a single value; the first index counts fastest, as in Fortran
    kind : int, float, bool or str

    Returns
    -------
    array of objects of this shape, None where no value is given; None if the entry does not occur

    Raises
    ------
    StudyError
        If a value is not of this kind or not finite, lies outside of the array, or is given twice.
    """
    mine = [item for item in assignments if item.name == name]
    if not mine:
        return None
    size = math.prod(shape)
    flat, lines = numpy.full(size, None, dtype=object), numpy.zeros(size, int)
    order = numpy.arange(size).reshape(shape, order="F")
    for item in mine:
        places = _places(item, order)
        given = sum(count for count, _ in item.words)
        if given > len(places):
            of = "one value" if not shape else f"an array of {' x '.join(map(str, shape))}"
            raise StudyError(f"{name}{f'({item.subscript})' if item.subscript else ''} has {given} values where "
                             f"{len(places)} fit: {name} is {of}", where=item.where,
                             fix="correct the index or the number of values")  # fmt: skip
        at = 0
        for count, word in item.words:
            some, at = places[at : at + count], at + count
            if word is None:
                continue
            if lines[some].any():
                raise StudyError(f"{name} is given twice, first in line {lines[some].max()}", where=item.where,
                                 fix="leave one of the two")  # fmt: skip
            flat[some], lines[some] = _convert(word, kind, item), item.line
    return flat.reshape(shape, order="F")


def _text(path):
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path} does not exist", where="transport", fix=f"run in a folder with a {path.name} file")
    if path.stat().st_size > SIZE_MAX_MIB * 2**20:
        raise StudyError(f"{path} is larger than {SIZE_MAX_MIB} MiB: no file of namelists", where="transport",
                         fix="give the file that ShengBTE reads")  # fmt: skip
    return path.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _repeated(word):
    """(repeat count, text or None) of a word such as ``3*0.5``, ``2*`` or ``'In'``."""
    found = re.match(r"(\d{1,18})\*", word)
    if found is None:
        return 1, word
    return int(found[1]), word[found.end() :] or None


def _places(item, order):
    """Positions in the flat array that an assignment fills, in the order of its values."""
    if not item.subscript:
        return order.ravel(order="F")
    parts = item.subscript.split(",")
    if len(parts) != order.ndim:
        raise StudyError(f"{item.name}({item.subscript}) has {len(parts)} indices, not {order.ndim}", where=item.where,
                         fix="write one index for each dimension")  # fmt: skip
    key = tuple(_range(item, part, size) for part, size in zip(parts, order.shape, strict=True))
    if any(isinstance(part, slice) for part in key):
        return numpy.ravel(order[key], order="F")
    return numpy.arange(order[key], order.size)  # values go on into the following elements


def _range(item, text, size):
    """Index or slice of one dimension."""
    found = re.fullmatch(r"([+-]?\d{1,9})|([+-]?\d{1,9})?:([+-]?\d{1,9})?(?::(\d{1,9}))?", text)
    if found is None or found[4] == "0":
        raise StudyError(f"index {text!r} of {item.name} is neither an integer nor a range", where=item.where,
                         fix="write for example (:,1), (1:3,1) or (2,1)")  # fmt: skip
    low, high = (int(found[1]),) * 2 if found[1] else (int(found[2] or 1), int(found[3] or size))
    if not 1 <= low <= high <= size:
        raise StudyError(f"index {text} of {item.name} is outside of 1 to {size}", where=item.where,
                         fix="correct the index")  # fmt: skip
    return low - 1 if found[1] else slice(low - 1, high, int(found[4] or 1))


def _convert(word, kind, item):
    try:
        if not _NUMBER[kind].fullmatch(word):
            raise ValueError
        value = _READ[kind](word)
        if kind is int and abs(value) >= 2**31:
            raise ValueError
        if kind is float and not math.isfinite(value):
            raise ValueError
    except (ValueError, OverflowError):
        shown = word if len(word) < 40 else word[:40] + "…"
        raise StudyError(f"{item.name} = {shown}: not a value of type {kind.__name__}", where=item.where,
                         fix=f"give {_KIND[kind]}") from None  # fmt: skip
    return value


def _similar(name, known):
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (is {close[0]} meant?)" if close else ""
