"""Text files of numbers, plain or compressed: read whole, with the line of what is wrong."""

import re
from pathlib import Path

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import read_bytes

TEXT_MAX_GIB = 2
"""Longest text, unpacked: a small compressed file may unpack to any length."""

LARGEST_CONSTANT = 1e6
"""Force constants are below 1e3 eV/angstrom^2 and 1e5 eV/angstrom^3; anything beyond is not a force constant."""


def read_ascii(path: str | Path) -> str:
    """Return the plain text of a file, unpacked.

    Raises
    ------
    StudyError
        If the file is missing, cannot be unpacked, is longer than ``TEXT_MAX_GIB`` or is not text.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path} does not exist", fix="check its name and folder")
    data = read_bytes(path, TEXT_MAX_GIB * 2**30)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}, line {line}: not plain text", fix="copy it again") from None


def read_numbers(path: str | Path) -> tuple[NDArray, str]:
    """Return all numbers of a file as one array, and its text.

    Returns
    -------
    numbers : (n,) finite
    text : str, for ``line_of``

    Raises
    ------
    StudyError
        If a word is not a finite number; the message names its line.
    """
    text = read_ascii(path)
    odd = re.search(r"[^0-9eEdD+\-.\s]", text)
    words = text.translate(str.maketrans("dD", "eE"))
    try:
        if odd:
            raise ValueError
        with numpy.errstate(all="ignore"):
            numbers = numpy.array(words.split(), dtype=float)
        if not numpy.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        line, word = _first_bad(words)
        raise StudyError(f"{path}, line {line}: {word[:40]!r} is not a finite number",
                         fix="write the file again, or copy it again") from None  # fmt: skip
    return numbers, text


def line_of(text: str, index: int) -> int:
    """Return the line in which the number with this index (from 0) stands."""
    seen = 0
    for line, row in enumerate(text.splitlines(), 1):
        seen += len(row.split())
        if seen > index:
            return line
    return len(text.splitlines())


def check_magnitude(path: str | Path, values: NDArray, unit: str) -> None:
    """Raise StudyError if a force constant is not finite or too large to be one."""
    largest = numpy.abs(values).max(initial=0.0)
    if not largest <= LARGEST_CONSTANT:
        raise StudyError(f"{path} holds a force constant of {largest:.3g} {unit}",
                         fix="check the units of the file, or write it again")  # fmt: skip


def _first_bad(words):
    for line, row in enumerate(words.splitlines(), 1):
        for word in row.split():
            if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", word, re.I) or not numpy.isfinite(float(word)):
                return line, word
    return 0, ""
