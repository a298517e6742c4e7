"""Files as they are, or compressed with gzip, xz or bzip2; the first bytes tell which, not the name."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError

OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open, b"BZh": bz2.open}
SUFFIXES = (".gz", ".xz", ".bz2")
LARGEST_BYTES = 2**30
"""A text larger than this is not displacements and forces of one crystal."""

FAULTS = (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeError)
"""What reading a damaged compressed file raises."""


def read_bytes(path: str | Path, largest: int = LARGEST_BYTES) -> bytes:
    """Return the content of a file, decompressed.

    Parameters
    ----------
    path : the file
    largest : most bytes that are read

    Raises
    ------
    StudyError
        If the file cannot be read, is damaged, or holds more.
    """
    content = bytearray()  # read in pieces: asking for the limit at once would reserve as much memory
    try:
        with _opened(path) as stream:
            while len(content) <= largest and (piece := stream.read(2**20)):
                content += piece
    except FAULTS as error:
        raise StudyError(f"{path} cannot be read: {error or type(error).__name__}",
                         fix="check that the file is there and whole; copy it again") from error  # fmt: skip
    if len(content) > largest:
        raise StudyError(f"{path} holds more than {largest / 2**20:.0f} MiB", fix="give one crystal's data at a time")
    return bytes(content)


def read_text(path: str | Path, largest: int = LARGEST_BYTES) -> str:
    """Return the text of a file, decompressed; bytes that are no UTF-8 become replacement characters."""
    return read_bytes(path, largest).decode("utf-8", errors="replace")


def first_text(path: str | Path, length: int = 4096) -> str:
    """Return the beginning of a file as text, for recognising it.

    Raises
    ------
    StudyError
        If the file cannot be read.
    """
    try:
        with _opened(path) as stream:
            return stream.read(length).decode("utf-8", errors="replace")
    except FAULTS as error:
        raise StudyError(f"{path} cannot be read: {error or type(error).__name__}",
                         fix="check that the file is there and whole; copy it again") from error  # fmt: skip


@contextlib.contextmanager
def plain_file(path: str | Path) -> Iterator[Path]:
    """Give a path to the decompressed content, for readers that want a path; the file itself if it is plain."""
    path = Path(path)
    if not is_compressed(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / plain_name(path)
        plain.write_bytes(read_bytes(path))
        yield plain


def is_compressed(path: str | Path) -> bool:
    """Whether the first bytes are those of gzip, xz or bzip2."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
    except OSError:
        return False
    return any(head.startswith(magic) for magic in OPENERS)


def plain_name(path: str | Path) -> str:
    """Name of a file without the ending of its compression."""
    path = Path(path)
    return path.name.removesuffix(path.suffix) if path.suffix in SUFFIXES else path.name


def find(folder: str | Path, *names: str) -> Path | None:
    """Return the first of some files of a folder that exists, plain or compressed, or None."""
    for name in names:
        for suffix in ("", *SUFFIXES):
            path = Path(folder) / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


def _opened(path: str | Path) -> io.BufferedIOBase:
    path = os.fspath(path)
    with open(path, "rb") as stream:
        head = stream.read(8)
    opener = next((own for magic, own in OPENERS.items() if head.startswith(magic)), open)
    return opener(path, "rb")
