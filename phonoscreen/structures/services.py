"""Database services: one door from a request to a snapshot, and from a snapshot to candidates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.optimade import fetch_optimade, optimade_ids, optimade_record
from phonoscreen.structures.oqmd import fetch_oqmd, oqmd_ids, oqmd_record
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.service_records import Request, ServiceRecord, candidates_of, preferred_rows
from phonoscreen.structures.snapshot import Snapshot, read_snapshot, write_snapshot

log = logging.getLogger("phonoscreen")


def request_of(source: Mapping[str, Any], classes: Collection[str] | None, limits: Mapping[str, Any]) -> Request:
    """Return what a study asks.

    Parameters
    ----------
    source : section ``source`` of the settings
    classes : names of the classes, None for all
    limits : section ``filter`` of the settings
    """
    properties = source["optimade"] if source["kind"] == "optimade" else {}
    return Request(
        source["url"], None if classes is None else sorted(classes), limits["formation_energy_max_ev_per_atom"],
        limits["hull_distance_max_ev_per_atom"], page_limit=source["page_limit"], properties=properties,
    )  # fmt: skip


def download(kind: str, request: Request, pages: Path, path: str | Path, pager: Pager) -> Snapshot:
    """Download the answer of a service into a snapshot; an interrupted download continues at its first missing page.

    Parameters
    ----------
    kind : "oqmd" or "optimade"
    request : ``Request``
    pages : folder of the pages, kept when something fails
    path : Parquet file to write, complete when it appears
    pager : Pager

    Raises
    ------
    StudyError
        If the service fails for good or contradicts itself, see ``phonoscreen.structures.pages.fetch_series``.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    fetch = {"oqmd": fetch_oqmd, "optimade": fetch_optimade}[kind]
    series, about = fetch(request, pages, pager)
    about = {"kind": kind, "url": request.url, "limits": request.limits(), "properties": dict(request.properties),
             "started": started, "finished": datetime.now(UTC).isoformat(timespec="seconds"),
             "announced": {name: one.announced for name, one in series.items()}, **about}  # fmt: skip
    snapshot = write_snapshot(path, series, _identify(kind, request), about)
    log.info("%d records of %s in %s", snapshot.about["n_records"], request.url, path)
    return snapshot


def _identify(kind: str, request: Request) -> Callable[[Any], tuple[str, str]]:
    return oqmd_ids if kind == "oqmd" else partial(optimade_ids, request=request)


def candidates_of_snapshot(path: str | Path, kind: str, request: Request) -> Iterator[Candidate]:
    """Yield the candidates of a snapshot, one per crystal as far as the service names duplicates.

    Parameters
    ----------
    path : file of ``write_snapshot``
    kind, request : what the study asks now

    Raises
    ------
    StudyError
        If the snapshot is damaged, of another kind of service, or lacks structures that the study asks for.
    """
    snapshot = read_snapshot(path)
    if snapshot.about["kind"] != kind:
        raise StudyError(f"a snapshot of the kind {snapshot.about['kind']}, source.kind is {kind}", where=str(path),
                         fix="name another file in source.snapshot, which is then downloaded")  # fmt: skip
    request.check_answered_by(snapshot.about, str(path))
    keep = preferred_rows(snapshot.column("entry_id"), snapshot.column("duplicate_of"))
    log.info("%d records, %d after the service's own duplicates", len(keep), sum(keep))

    def records() -> Iterator[ServiceRecord]:
        for kept, (_, record) in zip(keep, snapshot.records(), strict=True):
            if kept:
                yield oqmd_record(record) if kind == "oqmd" else optimade_record(record, request)

    return candidates_of(kind, records())
