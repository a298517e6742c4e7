"""Pages of a web service: fetched politely, kept one by one with their checksums, and never fetched twice.

A series is the answer to one query. Its pages lie in a folder as ``<number>-<beginning of the sha256>.json``, each
exactly as it was sent; a page that no longer has its checksum is fetched again. A download that was interrupted
continues at the first missing page. A series whose pages contradict each other (the database has changed meanwhile) is
set aside and fetched anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError

log = logging.getLogger("phonoscreen")

WORTH_RETRYING = (408, 425, 429, 500, 502, 503, 504)
LONGEST_PAUSE_S = 120.0
DOWNLOADS_OF_A_SERIES = 3
"""So often is a series fetched whose pages contradict each other, before the download ends with an error."""


class RequestRefused(StudyError):
    """The service understood a request and refuses it; ``http_status`` says how."""

    def __init__(self, http_status: int, answer: str, url: str) -> None:
        text = " ".join(answer.split())[:300]
        fix = "check source.url and source.optimade in the settings"
        self.http_status = http_status
        super().__init__(f"HTTP {http_status}: {text}", where=url, fix=fix)


def patient_session(tries: int, wait_s: float) -> requests.Session:
    """Return a session that asks again for what never arrived, after growing pauses.

    Parameters
    ----------
    tries : attempts per request
    wait_s : pause after the second failure; doubles with each further one, 120 s at most
    """
    session = requests.Session()
    retry = Retry(total=tries - 1, backoff_factor=wait_s, backoff_max=LONGEST_PAUSE_S, raise_on_status=False,
                  status_forcelist=WORTH_RETRYING, respect_retry_after_header=True)  # fmt: skip
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


class Pager:
    """Fetches pages with patience.

    Parameters
    ----------
    tries : attempts per page
    wait_s : pause after the second failure; doubles with each further one (``urllib3.util.Retry``), 120 s at most
    timeout_s : limit for one answer to begin, and between two parts of it
    pause_s : shortest time between two requests; a service that asks for more (``meta.request_delay``) gets it
    """

    def __init__(self, tries: int = 8, wait_s: float = 2.0, timeout_s: float = 120.0, pause_s: float = 0.0):
        self.tries, self.wait_s, self.timeout_s, self.pause_s = tries, wait_s, timeout_s, pause_s
        self._last = 0.0
        self._session = patient_session(tries, wait_s)
        self._session.headers["Accept"] = "application/json"

    def fetch(self, url: str, params: Mapping[str, Any] | None = None) -> bytes:
        """Return the body of one page, a JSON object with a list ``data`` or, of an entry point, an object.

        The HTTP library tries again what never arrived; what arrived cut or garbled is asked for again here.

        Raises
        ------
        RequestRefused
            If the service refuses the request.
        StudyError
            If it does not answer properly after all tries.
        """
        problem = ""
        for attempt in range(self.tries):
            if attempt:
                pause = min(self.wait_s * 2 ** (attempt - 1), LONGEST_PAUSE_S)
                log.info("%s; next try in %.0f s", problem, pause)
                time.sleep(pause)
            time.sleep(max(0.0, self._last + self.pause_s - time.monotonic()))
            try:
                answer = self._session.get(url, params=params, timeout=self.timeout_s)
            except requests.exceptions.ChunkedEncodingError as error:
                problem = f"an answer that breaks off ({type(error).__name__})"
                continue
            except requests.RequestException as error:
                raise _no_answer(self.tries, f"{type(error).__name__}: {str(error)[:200]}", url) from error
            finally:
                self._last = time.monotonic()
            if answer.status_code in WORTH_RETRYING:
                raise _no_answer(self.tries, f"HTTP {answer.status_code}", url)
            if not answer.ok:
                raise RequestRefused(answer.status_code, answer.text, answer.url)
            problem = problem_of_page(answer.content)
            if not problem:
                return answer.content
        raise _no_answer(self.tries, problem, url)

    def be_slower(self, meta: Any) -> None:
        """Respect the pause that a service asks for in ``meta.request_delay``, in seconds."""
        delay = meta.get("request_delay") if isinstance(meta, dict) else None
        if isinstance(delay, (int, float)) and not isinstance(delay, bool) and delay > self.pause_s:
            self.pause_s = min(float(delay), LONGEST_PAUSE_S)


def _no_answer(tries, problem, url):
    return StudyError(f"no proper answer after {tries} tries, the last was: {problem}", where=url,
                      fix="start again later; pages already fetched are kept")  # fmt: skip


def parse_page(body: bytes) -> dict[str, Any]:
    """Return a page as a dict with a list ``data``; a ``ValueError`` says what it is instead."""
    try:
        page = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"an answer that is not JSON ({str(error)[:80]})") from error
    if not isinstance(page, dict) or not isinstance(page.get("data"), (list, dict)):
        raise ValueError("an answer without data")
    return page


def problem_of_page(body: bytes) -> str:
    """Return what is wrong with a page, or ""."""
    try:
        parse_page(body)
    except ValueError as error:
        return str(error)
    return ""


@dataclass
class Series:
    """The answer to one query, page by page on disk.

    Parameters
    ----------
    pages : files in order
    announced : number of records that the service says the query has, None where it does not say
    n_records : records of all pages
    repeated : ids of records that came more than once
    problem : why the pages contradict each other, or ""
    """

    pages: list[Path] = field(default_factory=list)
    announced: int | None = None
    n_records: int = 0
    repeated: tuple[str, ...] = ()
    problem: str = ""


def fetch_series(
    pager: Pager,
    folder: Path,
    url: str,
    params: Mapping[str, Any] | None,
    announced_key: str,
    identify: Callable[[Any], str],
) -> Series:
    """Fetch all pages of one query that are not in the folder yet.

    Parameters
    ----------
    pager : Pager
    folder : folder of the series
    url, params : address of the first page; the following pages are where ``links.next`` says, on the same host
    announced_key : key of ``meta`` with the number of records of the whole query
    identify : function from a record to its id, "" where it has none

    Raises
    ------
    StudyError
        If the service fails for good, or its pages contradict each other in every one of three downloads: another total
        on a later page, a page that was sent before, fewer distinct records than announced, or more that follow
        without a link to them. What was fetched stays in folders beside ``folder``.
    """
    before: Series | None = None
    for _ in range(DOWNLOADS_OF_A_SERIES):
        series = _fetch_once(pager, folder, url, params, announced_key, identify)
        if not series.problem:
            if not series.repeated or (before is not None and before.repeated == series.repeated):
                return series
            series.problem = f"{len(series.repeated)} records came more than once ({', '.join(series.repeated[:3])})"
        # Repeated and missing records of a stable database are its own; those of a changing one are not.
        before = series
        aside = _set_aside(folder)
        log.warning("%s: %s; fetched anew, the old pages are in %s", folder.name, series.problem, aside)
    raise StudyError(
        f"{series.problem}, in {DOWNLOADS_OF_A_SERIES} downloads", where=f"{url}, series {folder.name}",
        fix=f"start again later; everything fetched so far is kept in {folder.parent}",
    )  # fmt: skip


def _set_aside(folder):
    number = 1
    while (aside := folder.with_name(f"{folder.name}.set-aside-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _fetch_once(pager, folder, url, params, announced_key, identify):
    folder.mkdir(parents=True, exist_ok=True)
    series, visited = Series(), set()
    seen: dict[str, int] = {}
    while True:
        page, path = _page(pager, folder, len(series.pages), url, params)
        data, meta = _data(page, path), page.get("meta")
        pager.be_slower(meta)
        series.pages.append(path)
        series.n_records += len(data)
        for record in data:
            if name := identify(record):
                seen[name] = seen.get(name, 0) + 1
        announced = _announced(meta, announced_key)
        if series.announced is not None and announced is not None and announced != series.announced:
            series.problem = f"page {len(series.pages)} announces {announced} records, earlier ones {series.announced}"
            return series
        series.announced = announced if series.announced is None else series.announced
        if series.announced is not None and series.n_records > series.announced:
            series.problem = f"{series.n_records} records or more, {series.announced} announced"
            return series
        visited.add(url if params is None else requests.Request("GET", url, params=params).prepare().url)
        following = _next(page, len(data))
        if following is None:
            break
        url, params = _same_host(following, url), None
        if url in visited:
            series.problem = f"the service sends the page {url[:200]} again"
            return series
    series.repeated = tuple(sorted(name for name, count in seen.items() if count > 1))
    if series.announced is not None and series.n_records < series.announced:
        series.problem = f"{series.n_records} records of {series.announced} announced"
    elif isinstance(meta, dict) and meta.get("more_data_available") is True:
        series.problem = "the service says that more records follow, but not where"
    return series


def _page(pager, folder, number, url, params):
    """Return a page and its file, from the folder if it is there unharmed."""
    for path in sorted(folder.glob(f"{number:06d}-*.json")):
        body = path.read_bytes()
        if path.name == _name(number, body) and not problem_of_page(body):
            return parse_page(body), path
        log.warning("%s is damaged and is fetched again", path)
        path.unlink()
    body = pager.fetch(url, params)
    path = folder / _name(number, body)
    with written_whole(path) as partial:
        partial.write_bytes(body)
    log.info("%s: page %d", folder.name, number + 1)
    return parse_page(body), path


def _name(number, body):
    return f"{number:06d}-{hashlib.sha256(body).hexdigest()[:16]}.json"


def _data(page, path):
    if not isinstance(page["data"], list):
        raise StudyError("an answer without a list of data", where=str(path), fix="check source.url in the settings")
    return page["data"]


def _announced(meta, key):
    announced = meta.get(key) if isinstance(meta, dict) else None
    return announced if isinstance(announced, int) and not isinstance(announced, bool) else None


def _next(page, n_records):
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
    if not readable or not n_records:
        raise StudyError(
            f"after a page of {n_records} records the next is {str(following)[:80]!r}", where="links.next",
            fix="ask the service, or use another source",
        )  # fmt: skip
    return following


def _same_host(following, current):
    """Follow a link of the service on the host that was asked, whatever host and scheme the link names."""
    asked, link = urlsplit(current), urlsplit(following)
    return urlunsplit((asked.scheme, asked.netloc, link.path, link.query, ""))
