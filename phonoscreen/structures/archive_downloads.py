"""Archives of force sets from their addresses: fetched once, continued where they broke off, kept with their sha256.

phononDB is published at the repository of NIMS, an archive for each compound
(``https://mdr.nims.go.jp/download_all/<data set>.zip``); which data set is which compound stands in the tables of
https://github.com/atztogo/phonondb. Any text with addresses of archives serves: a table, a list.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import harmless_id
from phonoscreen.formats.archives import ARCHIVES, check_archive
from phonoscreen.structures.pages import LONGEST_PAUSE_S, WORTH_RETRYING, patient_session

log = logging.getLogger("phonoscreen")

RECORD = "fetched.csv"
_ADDRESS = re.compile(r"https?://[^\s|<>()\[\]\"']+")
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
_CHUNK = 2**14  # what a broken answer may lose


@dataclass(frozen=True)
class Address:
    """Where an archive is.

    Parameters
    ----------
    url : ends in the name of an archive
    line : the line of the text that names it, of which a user chooses by words (``mp-149``, ``Si``)
    sha256 : of its content where the line states one, else ""
    """

    url: str
    line: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """Name of the file."""
        return harmless_id(unquote(urlsplit(self.url).path.rsplit("/", 1)[-1]))


@dataclass
class Fetched:
    """One archive in a folder, a row of its ``fetched.csv``."""

    file: str
    url: str
    sha256: str
    n_bytes: int
    fetched: str


def addresses_in(text: str) -> list[Address]:
    """Return the addresses of archives in a text, each once, in order.

    Parameters
    ----------
    text : a table of links, a list, anything; a line may state the sha256 of its archive
    """
    found: dict[str, Address] = {}
    for line in text.splitlines():
        for url in _ADDRESS.findall(line):
            stated = _SHA256.search(line.replace(url, ""))
            if urlsplit(url).path.endswith(ARCHIVES):
                found.setdefault(url, Address(url, line, stated[0] if stated else ""))
    return list(found.values())


def choose(addresses: Iterable[Address], words: Iterable[str]) -> list[Address]:
    """Return the addresses in whose line any of some words stands by itself; all if there are no words.

    ``mp-149`` finds 149 too, as phononDB's tables write it.

    Raises
    ------
    StudyError
        If a word finds nothing.
    """
    addresses, words = list(addresses), list(words)
    if not words:
        return addresses
    chosen: set[str] = set()
    for word in words:
        wanted = {word, word.removeprefix("mp-")}
        found = [one.url for one in addresses if wanted & set(re.split(r"[\s|,;]+", one.line))]
        if not found:
            raise StudyError(f"no line of the addresses has the word {word!r}", where="--only",
                             fix="give an id or a name as the table writes it")  # fmt: skip
        chosen.update(found)
    return [one for one in addresses if one.url in chosen]


def fetched_in(folder: Path) -> dict[str, Fetched]:
    """Return what a folder holds by its ``fetched.csv``, by address."""
    path = folder / RECORD
    if not path.exists():
        return {}
    with open(path, newline="") as stream:
        rows = [
            Fetched(row["file"], row["url"], row["sha256"], int(row["n_bytes"]), row["fetched"])
            for row in csv.DictReader(stream)
        ]
    return {row.url: row for row in rows}


def fetch_archives(
    addresses: Iterable[Address], folder: Path, tries: int = 8, wait_s: float = 2.0, pause_s: float = 0.5
) -> dict[str, str]:
    """Fetch archives into a folder; what is there with its sha256 is not asked for again.

    Parameters
    ----------
    addresses : Address
    folder : made if it is missing; gets ``fetched.csv`` with address, sha256, size and time of every archive
    tries, wait_s : attempts, and the pause after the second failure, which doubles up to 120 s
    pause_s : between two archives

    Returns
    -------
    dict from the address of an archive that could not be had to the reason; all others are in the folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    session, failures = patient_session(tries, wait_s), {}
    known = fetched_in(folder)
    names: dict[str, str] = {}
    for number, one in enumerate(addresses):
        try:
            if names.setdefault(one.name, one.url) != one.url:
                raise StudyError(f"two addresses end in {one.name}", where=one.url, fix="fetch them into two folders")
            if one.url in known and _sound(folder / one.name, known[one.url], one):
                continue
            time.sleep(pause_s if number else 0.0)
            known[one.url] = _fetch(session, one, folder, tries, wait_s)
            _write(folder, known.values())
            log.info("%s: %d bytes", one.name, known[one.url].n_bytes)
        except StudyError as error:
            failures[one.url] = error.what
            log.warning("%s: %s", one.url, error.what)
    return failures


def _sound(path, record, address):
    """Return whether an archive is there as it was fetched; one that has changed since is fetched again."""
    if not path.exists():
        return False
    if _sha256(path) == record.sha256 and address.sha256 in ("", record.sha256):
        return True
    log.warning("%s is not what was fetched from %s and is fetched again", path, record.url)
    return False


def _write(folder, records):
    with written_whole(folder / RECORD) as partial, open(partial, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [one.name for one in fields(Fetched)])
        writer.writeheader()
        writer.writerows(asdict(one) for one in records)


def _fetch(session, address, folder, tries, wait_s):
    """Fetch one archive; its beginning stays in a hidden file and is continued by this call or a later one."""
    partial = folder / f".{address.name}.part"
    problem = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(min(wait_s * 2 ** (attempt - 1), LONGEST_PAUSE_S))
        try:
            _continue(session, address.url, partial)
            break
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError) as error:
            problem = f"an answer that breaks off ({type(error).__name__})"
        except requests.RequestException as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
    else:
        raise StudyError(f"no whole answer after {tries} tries, the last was {problem}", where=address.url,
                         fix="start again later; what has come is kept and continued")  # fmt: skip
    _check(partial, address)
    place = folder / address.name
    partial.replace(place)
    _tag(partial).unlink(missing_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Fetched(address.name, address.url, _sha256(place), place.stat().st_size, now)


def _continue(session, url, partial):
    """Append what is missing of a file; begin anew where the server cannot say that it is still the same one."""
    begun, tag = partial.stat().st_size if partial.exists() else 0, _tag(partial)
    headers = {"Accept-Encoding": "identity"}
    if begun and tag.exists():
        headers |= {"Range": f"bytes={begun}-", "If-Range": tag.read_text()}
    with session.get(url, headers=headers, stream=True, timeout=120) as answer:
        if answer.status_code == 416:
            partial.unlink()
        if answer.status_code in (*WORTH_RETRYING, 416):
            raise requests.exceptions.ConnectionError(f"HTTP {answer.status_code}")
        if not answer.ok:
            raise StudyError(f"HTTP {answer.status_code}", where=url, fix="check the address")
        follows = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        if answer.status_code == 206 and not follows:
            tag.unlink(missing_ok=True)
            raise requests.exceptions.ConnectionError("another part than asked for")
        if not follows:
            tag.unlink(missing_ok=True)
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if validator and not validator.startswith("W/"):
                tag.write_text(validator)
        with open(partial, "ab" if follows else "wb") as stream:
            for chunk in answer.iter_content(_CHUNK):
                stream.write(chunk)


def _check(partial, address):
    """Refuse what is no whole archive, or not the one that was announced, and forget it."""
    whole = partial.with_name(f".{address.name}")  # readers go by the ending
    partial.replace(whole)
    try:
        found = _sha256(whole)
        if address.sha256 not in ("", found):
            raise StudyError(f"its sha256 is {found[:16]}…, announced {address.sha256[:16]}…", where=address.url,
                             fix="compare the list of addresses with its source")  # fmt: skip
        check_archive(whole)
    except StudyError as error:
        whole.unlink()
        _tag(partial).unlink(missing_ok=True)
        raise StudyError(
            error.what, where=address.url, fix="open the address in a browser: it may be a page"
        ) from error
    whole.replace(partial)


def _tag(partial):
    return partial.with_suffix(".tag")


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
