"""Pages of a web service, kept in a dated snapshot folder and never fetched twice.

A snapshot is ``<folder>/<date>/<series>/<number>.json``, each page exactly as received, and ``snapshot.json`` beside
the series with what was asked. A download that was interrupted continues in the newest unfinished snapshot; a finished
snapshot is read without touching the network, so a study stays on the data it started from.
"""

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError

log = logging.getLogger("phonoscreen")

_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}


class Pager:
    """Fetches pages with patience.

    Parameters
    ----------
    tries : attempts per page
    wait_s : pause after the first failure; doubles with each further one
    timeout_s : limit for one answer to begin
    """

    def __init__(self, tries: int = 8, wait_s: float = 2.0, timeout_s: float = 120.0):
        self.tries, self.wait_s, self.timeout_s = tries, wait_s, timeout_s
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"

    def get(self, url: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return one page as a dict with the key ``data``.

        Raises
        ------
        StudyError
            If the service refuses the request, or does not answer properly after all tries.
        """
        problem = ""
        for attempt in range(self.tries):
            if attempt:
                log.info("%s; next try in %.0f s", problem, self.wait_s * 2 ** (attempt - 1))
                time.sleep(self.wait_s * 2 ** (attempt - 1))
            try:
                answer = self._session.get(url, params=params, timeout=self.timeout_s)
                if answer.status_code in _WORTH_RETRYING:
                    problem = f"HTTP {answer.status_code}"
                    continue
                if not answer.ok:
                    raise StudyError(
                        f"HTTP {answer.status_code}: {answer.text[:200]}", where=answer.url,
                        fix="check source.url in the config",
                    )  # fmt: skip
                page = answer.json()
                if isinstance(page, dict) and isinstance(page.get("data"), list):
                    return page
                problem = "an answer without data"
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = f"{type(error).__name__}"
            except requests.exceptions.JSONDecodeError:
                problem = "an answer that is not JSON"
        raise StudyError(
            f"no proper answer after {self.tries} tries, the last was: {problem}", where=url,
            fix="start again later; pages already fetched are kept",
        )  # fmt: skip


def open_snapshot(folder: str | Path, request: Mapping[str, Any]) -> Path:
    """Return the folder of the snapshot to use: the newest one of this request, else a new one of today.

    Parameters
    ----------
    folder : folder of all snapshots
    request : what is asked (JSON-serialisable); a snapshot of another request is left alone
    """
    folder = Path(folder)
    for old in sorted(folder.glob("*/snapshot.json"), reverse=True):
        if _read(old).get("request") == request:
            return old.parent
    today = datetime.now(UTC).date().isoformat()
    new, number = folder / today, 1
    while new.exists():
        number += 1
        new = folder / f"{today}-{number}"
    new.mkdir(parents=True)
    _write(new / "snapshot.json", json.dumps({"request": request, "started": datetime.now(UTC).isoformat()}, indent=1))
    return new


def fetch_series(pager: Pager, folder: Path, url: str, params: Mapping[str, Any] | None, announced_key: str) -> list:
    """Return the records of all pages of one query, fetching those that are not in the folder yet.

    Parameters
    ----------
    pager : Pager
    folder : folder of the series
    url, params : address of the first page; the following pages are where ``links.next`` says, on the same host
    announced_key : key of ``meta`` with the number of records of the whole query

    Returns
    -------
    list of records of all pages, in order

    Raises
    ------
    StudyError
        If the service fails for good, sends a page again, or delivered fewer records than it announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records: list = []
    visited: set[str | None] = set()
    while True:
        path = folder / f"{len(visited):06d}.json"
        if path.exists():
            page = _read(path)
            if not isinstance(page.get("data"), list):
                raise _damaged(path, "no list of data")
        else:
            page = pager.get(url, params)
            _write(path, json.dumps(page))
            log.info("%s: page %d, %d records", folder.name, len(visited) + 1, len(records) + len(page["data"]))
        records += page["data"]
        following = _next(page)
        if following is None:
            break
        visited.add(url if params is None else requests.Request("GET", url, params=params).prepare().url)
        url, params = _same_host(following, url), None
        if url in visited:
            raise StudyError("the service sends the same page again", where=url, fix=f"remove {folder}, start again")
    meta = page.get("meta")
    announced = meta.get(announced_key) if isinstance(meta, dict) else None
    if isinstance(announced, (int, float)) and len(records) < announced:
        raise StudyError(
            f"{len(records)} records of {announced} announced", where=str(folder), fix="remove the folder, start again"
        )
    return records


def _next(page):
    links = page.get("links")
    following = links.get("next") if isinstance(links, dict) else None
    following = following.get("href") if isinstance(following, dict) else following
    if following is None or following == "":
        return None
    try:
        urlsplit(following).port  # noqa: B018 (raises on an address that is none)
        readable = isinstance(following, str)
    except (ValueError, TypeError, AttributeError):
        readable = False
    if not readable or not page["data"]:
        raise StudyError(
            f"after a page of {len(page['data'])} records the next is {str(following)[:80]!r}", where="links.next",
            fix="ask the service, or use another source",
        )  # fmt: skip
    return following


def _same_host(following, current):
    """Follow a link of the service on the host that was asked, whatever host and scheme the link names."""
    asked, link = urlsplit(current), urlsplit(following)
    return urlunsplit((asked.scheme, asked.netloc, link.path, link.query, ""))


def _read(path):
    """Return a page or the request of a snapshot as a dict."""
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "no object")
    return content


def _damaged(path, why):
    return StudyError(f"a page of the snapshot is damaged: {why}", where=str(path),
                      fix="remove this file; it is downloaded again")  # fmt: skip


def _write(path, text):
    with written_whole(path) as partial:
        partial.write_text(text)
