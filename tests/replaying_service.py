"""A database service on this machine that replays records through OQMD's interface and OPTIMADE, with chosen faults."""

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy

from phonoscreen.structures.optimade import anonymous_formula
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.services import candidates_of_snapshot, download

PROPERTIES = {"space_group": "_oqmd_spacegroup", "formation_energy": "_oqmd_delta_e",
              "hull_distance": "_oqmd_stability", "duplicate_of": "_oqmd_duplicate_entry_id"}  # fmt: skip


def patient(tries=4):
    return Pager(tries=tries, wait_s=0.01, timeout_s=5)


def collected(kind, request, folder, pager=None):
    """Candidates of a service through its snapshot, as the two rules make them."""
    path = folder / "snapshot.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        download(kind, request, folder / "pages", path, pager or patient())
    return list(candidates_of_snapshot(path, kind, request))


class Service(ThreadingHTTPServer):
    """Serves records in pages; ``faults`` maps the number of a request to what goes wrong.

    A fault is an HTTP status, ``"hang"``, ``"slow"``, ``"reset"``, ``"reset in body"``, ``"truncated"``, ``"garbled"``,
    or a function that changes the page.
    """

    daemon_threads = True

    def __init__(self, records, faults=None, page_size=3):
        super().__init__(("127.0.0.1", 0), Handler)
        self.records, self.faults, self.page_size = records, dict(faults or {}), page_size
        self.requests, self.delivered, self.refuses_own = 0, Counter(), False
        self.known = [*PROPERTIES.values(), "chemical_formula_anonymous"]
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def found(self, query):
        """Records that answer a query, whichever interface it came through."""
        text = query["filter"]
        group = re.search(r'spacegroup="([^"]+)"', text)
        generic, anonymous = re.search(r"generic=(\w+)", text), re.search(r'anonymous="(\w+)"', text)
        return [
            one for one in self.records
            if (not group or one["spacegroup"] == group[1])
            and (not generic or one["composition_generic"] == generic[1])
            and (not anonymous or anonymous_formula(one["composition_generic"]) == anonymous[1])
        ]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        service, address = self.server, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if address.path.endswith("/info/structures"):
            known = dict.fromkeys(service.known, {})
            meta = {"api_version": "1.2.0", "implementation": {"name": "replay", "version": "1"}}
            return self.answer(200, json.dumps({"data": {"properties": known}, "meta": meta}).encode())
        fault = service.faults.get(service.requests)
        service.requests += 1
        if fault in ("hang", "slow"):
            time.sleep(600 if fault == "hang" else 1)
        if service.refuses_own and "_oqmd_" in query.get("filter", ""):
            fault = 400
        if fault == "reset":
            return self.break_off()
        if isinstance(fault, int):
            return self.answer(fault, b"<html>Bad Gateway</html>")
        page = self.page(address.path, query)
        if callable(fault):
            fault(page)
        body = json.dumps(page).encode()
        if fault in ("truncated", "reset in body"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            return self.break_off() if fault == "reset in body" else self.connection.close()
        if fault == "garbled":
            body = body[: len(body) // 2]
        elif fault is None:
            service.delivered[query.get("filter"), query.get("offset", query.get("page_offset", "0"))] += 1
        self.answer(200, body)

    def break_off(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self, path, query):
        optimade = path.endswith("/structures")
        found = self.server.found(query)
        key, size = ("page_offset" if optimade else "offset"), self.server.page_size
        offset = int(query.get(key, 0))
        following = None
        if offset + size < len(found):
            following = f"http://oqmd.org{path}?{urlencode({**query, key: offset + size})}"
        chosen = found[offset : offset + size]
        if optimade:
            return {"data": [entry_of(one) for one in chosen], "links": {"next": {"href": following}},
                    "meta": {"data_returned": len(found), "data_available": 1000000}}  # fmt: skip
        return {"links": {"next": following}, "data": chosen, "response_message": "OK",
                "meta": {"data_returned": len(chosen), "data_available": len(found)}}  # fmt: skip


def entry_of(record):
    """A record of the OQMD as an entry of OPTIMADE, geometry by the standard properties."""
    symbols = [site.split("@")[0].strip() for site in record["sites"]]
    scaled = numpy.array([[float(word) for word in site.split("@")[1].split()] for site in record["sites"]])
    return {
        "id": str(record["entry_id"]), "type": "structures",
        "attributes": {
            "chemical_formula_reduced": record["name"], "lattice_vectors": record["unit_cell"],
            "cartesian_site_positions": (scaled @ numpy.array(record["unit_cell"], float)).tolist(),
            "species_at_sites": symbols, "dimension_types": [1, 1, 1],
            "species": [{"name": one, "chemical_symbols": [one], "concentration": [1]} for one in sorted(set(symbols))],
            **{name: record.get(name.removeprefix("_oqmd_")) for name in PROPERTIES.values()},
        },
    }  # fmt: skip
