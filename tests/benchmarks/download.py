"""A large download from a service on this machine: time and memory until candidates are written.

``make benchmark-download`` asks for 100,000 records of two classes in pages of 1,000, as OQMD's interface sends them;
another number may follow (RECORDS). Every tenth answer is a fault, in turn: HTTP 502, a page cut off in its body, half
a page that ends as if it were whole; and once a page lacks an entry, so that its series is fetched again.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pandas

from phonoscreen.structures.candidate import write_candidates
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.service_records import Request
from phonoscreen.structures.services import candidates_of_snapshot, download

RECORDS = {
    "AB": {"unit_cell": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], "name": "NaCl", "spacegroup": "Fm-3m",
           "sites": ["Na @ 0 0 0", "Cl @ 0.5 0.5 0.5"], "delta_e": -2.1, "stability": 0.0},
    "ABC2D6": {"unit_cell": [[0, 5, 5], [5, 0, 5], [5, 5, 0]], "name": "K2NaInF6", "spacegroup": "Fm-3m",
               "sites": ["Na @ 0 0 0", "In @ 0.5 0.5 0.5", "K @ 0.25 0.25 0.25", "K @ 0.75 0.75 0.75",
                         *(f"F @ {x} {y} {z}" for x, y, z in (
                             (0.22, 0.78, 0.78), (0.78, 0.22, 0.22), (0.22, 0.78, 0.22), (0.78, 0.22, 0.78),
                             (0.22, 0.22, 0.78), (0.78, 0.78, 0.22)))],
               "delta_e": -2.9, "stability": 0.01},
}  # fmt: skip

FAULTY, FAULTS = 10, ("502", "cut off", "garbled")
LACKING = 15
"""Number of the answer that lacks an entry."""


class Handler(BaseHTTPRequestHandler):
    """Answers any offset with records that differ in their ids."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Say nothing."""

    def do_GET(self):
        """Send a page."""
        address, count = urlsplit(self.path), self.server.count // 2
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        first, size = int(query["offset"]), int(query["limit"])
        kind = "ABC2D6" if "ABC2D6" in query["filter"] else "AB"
        begin = count * (kind == "AB")
        data = [{**RECORDS[kind], "entry_id": begin + n, "duplicate_entry_id": begin + n}
                for n in range(first, min(first + size, count))]  # fmt: skip
        more = f"{address.path}?{urlencode({**query, 'offset': first + size})}" if first + size < count else None
        body = json.dumps({"data": data, "links": {"next": more}, "meta": {"data_available": count}}).encode()
        self.server.asked += 1
        turn, rest = divmod(self.server.asked, FAULTY)
        fault = FAULTS[turn % len(FAULTS)] if rest == 0 else ""
        if fault == "garbled":
            body = body[: len(body) // 2]
        elif self.server.asked == LACKING:
            body = json.dumps({"data": data[:-1], "links": {"next": more}, "meta": {"data_available": count}}).encode()
        self.send_response(502 if fault == "502" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut off" else body)
        self.close_connection = fault == "cut off"


def serve(count):
    """Serve for ever, on a port that the first line of the output names."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.count, server.asked = count, 0
    print(server.server_port, flush=True)
    server.serve_forever()


def main(count):
    """Print the measurement."""
    words = [sys.executable, "-m", "tests.benchmarks.download", "serve", str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as name:
        try:
            folder, url = Path(name), f"http://127.0.0.1:{int(server.stdout.readline())}"
            request = Request(url, ["225-AB", "225-ABC2D6"], 0.0, 0.2, page_limit=1000)
            began = time.monotonic()
            download("oqmd", request, folder / "pages", folder / "snapshot.parquet", Pager(wait_s=0.1))
            downloaded = time.monotonic()
            candidates = candidates_of_snapshot(folder / "snapshot.parquet", "oqmd", request)
            write_candidates(candidates, folder / "candidates.extxyz", folder / "candidates.parquet")
            written = time.monotonic()
            assert len(pandas.read_parquet(folder / "candidates.parquet")) == count
        finally:
            server.kill()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{count} records: download {downloaded - began:.0f} s, candidates {written - downloaded:.0f} s, "
          f"{usage.ru_utime + usage.ru_stime:.0f} CPU s, {usage.ru_maxrss / 1024:.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
