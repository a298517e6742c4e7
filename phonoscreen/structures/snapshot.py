"""A dated snapshot of a database service: one Parquet file, which a study names and never changes.

Its rows are records as they were sent (JSON), its metadata say when, from which service and version, and with which
queries. The checksum of all records stands there too and is compared whenever the file is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.pages import Series, parse_page

KEY = b"phonoscreen_snapshot"
COLUMNS = pyarrow.schema(
    [("series", pyarrow.string()), ("page", pyarrow.int32()), ("entry_id", pyarrow.string()),
     ("duplicate_of", pyarrow.string()), ("record", pyarrow.string())]
)  # fmt: skip
_BATCH = 2000


@dataclass
class Snapshot:
    """A finished download.

    Parameters
    ----------
    path : Parquet file with the columns ``series, page, entry_id, duplicate_of, record``
    about : ``kind, url, queries, server, limits, started, finished, n_records, repeated, records_sha256`` as written by
        ``write_snapshot``
    """

    path: Path
    about: dict[str, Any]

    def records(self) -> Iterator[tuple[str, Any]]:
        """Yield (series, record) of all rows, in order.

        Raises
        ------
        StudyError
            At the end, if the records are not those that were downloaded.
        """
        digest = hashlib.sha256()
        for batch in parquet.ParquetFile(self.path, page_checksum_verification=True).iter_batches(_BATCH):
            for series, text in zip(batch.column("series").to_pylist(), batch.column("record").to_pylist()):
                digest.update(text.encode())
                yield series, json.loads(text)
        if digest.hexdigest() != self.about["records_sha256"]:
            raise _damaged(self.path, "its records are not those that were downloaded")

    def column(self, name: str) -> list[str]:
        """Return one column of texts."""
        return parquet.read_table(self.path, columns=[name]).column(name).to_pylist()


def write_snapshot(
    path: str | Path,
    series: Mapping[str, Series],
    identify: Callable[[Any], tuple[str, str]],
    about: Mapping[str, Any],
) -> Snapshot:
    """Write the pages of all series as one Parquet file, complete when it appears.

    A record that came twice, word for word, is written once; ``repeated`` in the metadata counts them.

    Parameters
    ----------
    path : file
    series : by name
    identify : function from a record to its id and the id of the entry that it repeats, "" where there is none
    about : what is known of the download
    """
    digest, written, repeated = hashlib.sha256(), 0, 0
    counts: dict[str, int] = {}
    with written_whole(path) as partial:
        with parquet.ParquetWriter(partial, COLUMNS, compression="zstd", write_page_checksum=True) as writer:
            for name, one in series.items():
                known: set[tuple[str, bytes]] = set()
                counts[name] = 0
                for number, page in enumerate(one.pages):
                    rows: list[tuple] = []
                    for record in parse_page(page.read_bytes())["data"]:
                        text = json.dumps(record)
                        entry, duplicate_of = identify(record)
                        mark = (entry, hashlib.sha256(text.encode()).digest())
                        if entry and mark in known:
                            repeated += 1
                            continue
                        known.add(mark)
                        digest.update(text.encode())
                        rows.append((name, number, *map(_plain, (entry, duplicate_of)), text))
                    written, counts[name] = written + len(rows), counts[name] + len(rows)
                    columns: list = list(zip(*rows)) or [[]] * len(COLUMNS)
                    writer.write_batch(pyarrow.record_batch(columns, schema=COLUMNS))
            facts = {**about, "n_records": written, "records_of_series": counts, "repeated": repeated,
                     "records_sha256": digest.hexdigest()}  # fmt: skip
            writer.add_key_value_metadata({KEY: json.dumps(facts).encode()})
    return Snapshot(Path(path), facts)


def _plain(text):
    """Return a text as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()


def read_snapshot(path: str | Path) -> Snapshot:
    """Open a snapshot.

    Raises
    ------
    StudyError
        If the file is no snapshot, or is damaged.
    """
    try:
        found = parquet.ParquetFile(path)
        about = json.loads((found.metadata.metadata or {})[KEY])
        names = set(found.schema_arrow.names)
        if not {"kind", "url", "limits", "records_sha256"} <= set(about) or set(COLUMNS.names) - names:
            raise ValueError("columns or metadata are missing")
    except OSError as error:
        raise _damaged(path, str(error)[:200]) from error
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(path, f"it is not one: {type(error).__name__} {str(error)[:100]}") from error
    return Snapshot(Path(path), about)


def _damaged(path, why):
    return StudyError(
        f"the snapshot cannot be used: {why}",
        where=str(path),
        fix="copy it again, or name another file in source.snapshot: it is then downloaded",
    )
