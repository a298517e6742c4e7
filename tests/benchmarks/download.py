"""A large download from a faulty service on this machine: what came, time and memory until candidates are written.

``make benchmark-download`` asks for 100,000 records of four classes in pages of 1,000, as OQMD's interface sends them;
another number may follow (RECORDS). The first quarter of the pages comes from a service that fails for good after them,
the rest from one in which every sixth answer is a fault, in turn: HTTP 502, a reset in the body, a slow answer, JSON
that ends early as if it were whole, a page cut off. Further faults are of one class each: a page lacks an entry, a page
announces another total, records are sent twice whenever one asks. Odd records stand among the others: duplicates by the
service's own word, hostile names, energies as text, sites that make no sense. The snapshot must hold every record once,
and every odd record must be a problem of its own.
"""

import json
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.candidate import write_candidates
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.service_records import Request
from phonoscreen.structures.services import candidates_of_snapshot, download

FCC = [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]
LARGE = [[0, 5, 5], [5, 0, 5], [5, 5, 0]]
FLUORINE = [(0.22, 0.78, 0.78), (0.78, 0.22, 0.22), (0.22, 0.78, 0.22), (0.78, 0.22, 0.78), (0.22, 0.22, 0.78),
            (0.78, 0.78, 0.22)]  # fmt: skip
CLASSES = {
    "216-AB": ("F-43m", {"unit_cell": FCC, "name": "ZnS", "sites": ["Zn @ 0 0 0", "S @ 0.25 0.25 0.25"]}),
    "216-ABC": ("F-43m", {"unit_cell": FCC, "name": "LiZnP",
                          "sites": ["Li @ 0.5 0.5 0.5", "Zn @ 0 0 0", "P @ 0.25 0.25 0.25"]}),
    "225-AB": ("Fm-3m", {"unit_cell": FCC, "name": "NaCl", "sites": ["Na @ 0 0 0", "Cl @ 0.5 0.5 0.5"]}),
    "225-ABC2D6": ("Fm-3m", {"unit_cell": LARGE, "name": "K2NaInF6",
                             "sites": ["Na @ 0 0 0", "In @ 0.5 0.5 0.5", "K @ 0.25 0.25 0.25", "K @ 0.75 0.75 0.75",
                                       *(f"F @ {x} {y} {z}" for x, y, z in FLUORINE)]}),
}  # fmt: skip
LACKS, GROWS, REPEATS = "216-ABC", "225-AB", "216-AB"
"""Classes of which one page lacks an entry, one announces another total, and every page sends a record again."""

FAULTY, FAULTS = 6, ("502", "reset in body", "slow", "garbled", "cut off")
HOSTILE = "=cmd|' /C calc'!A0; DROP TABLE \u202e<script>\x00../../etc"
ODD = {
    3: {"name": HOSTILE},
    5: {"delta_e": "-1.5"},
    7: {"delta_e": {"value": -1}},
    11: {"sites": "Na @ 0 0 0"},
    13: {"unit_cell": [[1e400] * 3] * 3},
    17: {"sites": ["Xx @ 0 0 0"]},
}
"""What is odd in a record, by its number modulo 1000; the first two are read, the others are problems."""
DUPLICATE = 19
"""Modulo 1000, a record that the service calls a duplicate of the one before."""


def record_of(kind, number, count):
    """Return one record of a class."""
    group, crystal = CLASSES[kind]
    entry = list(CLASSES).index(kind) * count + number
    odd = ODD.get(number % 1000, {})
    return {"spacegroup": group, "delta_e": -2.1, "stability": 0.0, **crystal, "entry_id": entry,
            "duplicate_entry_id": entry - (number % 1000 == DUPLICATE), **odd}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers any offset with records that differ in their ids."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Say nothing."""

    def do_GET(self):
        """Send a page."""
        service = self.server
        service.asked += 1
        turn, rest = divmod(service.asked, FAULTY)
        fault = FAULTS[turn % len(FAULTS)] if rest == 0 else ""
        body = json.dumps(self.page(count=service.count // len(CLASSES))).encode()
        if service.asked > service.dies_after:
            fault = "502"
        elif fault == "garbled":
            body = body[: len(body) // 2]
        elif fault == "slow":
            time.sleep(1.0)
        self.send_response(502 if fault == "502" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("cut off", "reset in body") else body)
        self.close_connection = fault in ("cut off", "reset in body")
        if fault == "reset in body":
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def page(self, count):
        """Return one page, with the faults that belong to its class."""
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        first, size = int(query["offset"]), int(query["limit"])
        kind = next(name for name, (group, _) in CLASSES.items()
                    if f'"{group}" AND generic={name.split("-")[1]} ' in query["filter"])  # fmt: skip
        data = [record_of(kind, number, count) for number in range(first, min(first + size, count))]
        pages = -(-count // size)
        total, once = count, first == size * (pages // 2) and kind not in self.server.odd_once
        if kind == REPEATS:
            data, total = [*data, data[0]], count + pages
        elif kind == LACKS and once:
            data.pop()
        elif kind == GROWS and once:
            total += 1
        self.server.odd_once |= {kind} if once else set()
        more = f"{address.path}?{urlencode({**query, 'offset': first + size})}" if first + size < count else None
        return {"data": data, "links": {"next": more}, "meta": {"data_available": total}}


def serve(count, dies_after):
    """Serve for ever, on a port that the first line of the output names."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.count, server.dies_after, server.asked, server.odd_once = count, dies_after, 0, set()
    print(server.server_port, flush=True)
    server.serve_forever()


class Served:
    """A service in a process of its own, so that its time and memory are not counted."""

    def __init__(self, count, dies_after=10**9):
        words = [sys.executable, "-m", "tests.benchmarks.download", "serve", str(count), str(dies_after)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __enter__(self):
        return Request(self.url, list(CLASSES), 0.0, 0.2, page_limit=1000)

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()


def check(snapshot, candidates, count):
    """Refuse anything but every record once, and every odd record as a problem of its own."""
    each = count // len(CLASSES)
    entries = Counter(snapshot.column("entry_id"))
    assert entries == Counter(str(number) for number in range(each * len(CLASSES))), "not every record once"
    assert sum(1 for _ in snapshot.records()) == each * len(CLASSES)  # compares the checksum at its end
    numbers = pandas.Series(range(each)) % 1000
    duplicates, odd = (numbers == DUPLICATE).sum(), numbers.isin([7, 11, 13, 17]).sum()
    table = pandas.read_parquet(candidates)
    assert len(table) == len(CLASSES) * (each - duplicates), "duplicates of the service"
    assert (table["problem"] != "").sum() == len(CLASSES) * odd, "problems"
    assert table["structure_id"].is_unique
    return len(table), int((table["problem"] != "").sum())


def main(count):
    """Print the measurement."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "snapshot.parquet"
        pager = Pager(tries=3, wait_s=0.1)
        with Served(count, dies_after=count // 4000) as request:
            try:
                download("oqmd", request, folder / "pages", path, pager)
                raise AssertionError("a service that fails for good gave a snapshot")
            except StudyError as error:
                kept = sum(1 for _ in folder.glob("pages/*/*.json"))
                assert "pages already fetched are kept" in error.fix and kept and not path.exists()
        with Served(count) as request:
            snapshot = download("oqmd", request, folder / "pages", path, Pager(wait_s=0.1))
            downloaded = time.monotonic()
            written = folder / "candidates.parquet"
            write_candidates(candidates_of_snapshot(path, "oqmd", request), folder / "candidates.extxyz", written)
            ended, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
            aside = len(list(folder.glob("pages/*set-aside*")))
            n_candidates, n_problems = check(snapshot, written, count)
    print(f"{count} records: {kept} pages kept when the first service failed for good, {aside} series fetched anew, "
          f"{n_candidates} candidates after the service's duplicates, {n_problems} of them problems; download "
          f"{downloaded - began:.0f} s, candidates {ended - downloaded:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} "
          f"CPU s, {usage.ru_maxrss / 1024:.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*map(int, sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
