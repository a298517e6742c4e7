"""OQMD and OPTIMADE clients against a local server that replays true answers, with the faults the services show."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.oqmd import (
    SPACE_GROUPS,
    anonymous_formula,
    collect_optimade,
    collect_oqmd,
    drop_duplicates,
    parse_sites,
)
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.snapshot import Pager

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path(os.environ.get("PHONOSCREEN_REFERENCE", ROOT / "../shared/reference")) / "oqmd"
CLASSES = ["216-ABC", "216-ABC2", "227-AB2"]
LIMITS = (10.0, 10.0)

pytestmark = pytest.mark.skipif(
    not REFERENCE.exists(), reason=f"recorded OQMD answers are not at {REFERENCE} (PHONOSCREEN_REFERENCE)"
)


@pytest.fixture(scope="module")
def records():
    return json.loads((REFERENCE / "formationenergy_records.json").read_text())


class Service(ThreadingHTTPServer):
    """Serves recorded answers in pages of three; ``faults`` maps the number of a request to what goes wrong."""

    daemon_threads = True

    def __init__(self, records, faults=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.records, self.faults = records, dict(faults or {})
        self.requests, self.delivered = 0, Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        service, address = self.server, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        fault = service.faults.get(service.requests)
        service.requests += 1
        if fault == "hang":
            time.sleep(600)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if isinstance(fault, int):
            self.answer(fault, b"<html>Bad Gateway</html>")
            return
        body = json.dumps(self.page(address.path, query)).encode()
        if fault == "truncated":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        if fault == "garbled":
            body = body[: len(body) // 2]
        else:
            service.delivered[query["filter"], query.get("offset", query.get("page_offset", "0"))] += 1
        self.answer(200, body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self, path, query):
        optimade = path.endswith("/structures")
        space_group = re.search(r'spacegroup="([^"]+)"', query["filter"])[1]
        found = [one for one in self.server.records if one["spacegroup"] == space_group and self.wanted(one, query)]
        key, size = ("page_offset" if optimade else "offset"), 3
        offset = int(query.get(key, 0))
        following = None
        if offset + size < len(found):
            following = f"http://oqmd.org{path}?{urlencode({**query, key: offset + size})}"
        chosen = found[offset : offset + size]
        if optimade:
            data = [
                {"id": str(one["entry_id"]), "type": "structures",
                 "attributes": {f"_oqmd_{name}": value for name, value in one.items()}}
                for one in chosen
            ]  # fmt: skip
            return {"data": data, "links": {"next": {"href": following} if following else None},
                    "meta": {"data_returned": len(found), "data_available": 1000000}}  # fmt: skip
        return {"links": {"next": following}, "data": chosen, "response_message": "OK",
                "meta": {"data_returned": len(chosen), "data_available": len(found)}}  # fmt: skip

    @staticmethod
    def wanted(record, query):
        generic = re.search(r"generic=(\w+)", query["filter"])
        if generic:
            return record["composition_generic"] == generic[1]
        anonymous = re.search(r'anonymous="(\w+)"', query["filter"])[1]
        return anonymous_formula(record["composition_generic"]) == anonymous


@pytest.fixture
def serve(records):
    services = []

    def start(faults=None):
        services.append(Service(records, faults))
        return services[-1]

    yield start
    for service in services:
        service.shutdown()
        service.server_close()


def patient():
    return Pager(tries=4, wait_s=0.01, timeout_s=5)


def expected_ids(records):
    wanted = {(SPACE_GROUPS[name[:3]], name[4:]) for name in CLASSES}
    chosen = [one for one in records if (one["spacegroup"], one["composition_generic"]) in wanted]
    return {f"oqmd-{one['entry_id']}" for one in drop_duplicates(chosen)}


def test_all_pages_of_every_class_arrive_once_and_in_full(serve, records, tmp_path):
    service = serve()
    candidates = collect_oqmd(service.url, tmp_path, CLASSES, *LIMITS, patient())
    ids = [one.structure_id for one in candidates]
    assert len(set(ids)) == len(ids) and set(ids) == expected_ids(records) and len(ids) > 20
    assert set(service.delivered.values()) == {1} and len(service.delivered) >= 8
    by_id = {f"oqmd-{one['entry_id']}": one for one in records}
    for one in candidates:
        assert one.formation_energy_ev_per_atom == by_id[one.structure_id]["delta_e"]
        assert one.hull_distance_ev_per_atom == by_id[one.structure_id]["stability"]
        assert one.atoms.cell.volume == pytest.approx(by_id[one.structure_id]["volume"], rel=1e-3)


def test_faults_of_the_service_change_nothing_but_the_number_of_requests(serve, tmp_path):
    calm, stormy = serve(), serve({0: 502, 1: "reset", 2: "garbled", 5: "truncated", 6: 503, 9: "reset"})
    one = collect_oqmd(calm.url, tmp_path / "calm", CLASSES, *LIMITS, patient())
    other = collect_oqmd(stormy.url, tmp_path / "stormy", CLASSES, *LIMITS, patient())
    assert [x.structure_id for x in one] == [x.structure_id for x in other]
    assert stormy.requests == calm.requests + 6
    assert set(stormy.delivered.values()) == {1}


def test_a_killed_download_continues_where_it_stopped(serve, records, tmp_path):
    service = serve({4: "hang"})
    program = (
        "from phonoscreen.structures.oqmd import collect_oqmd\n"
        f"collect_oqmd({service.url!r}, {str(tmp_path)!r}, {CLASSES!r}, *{LIMITS!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while service.requests < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sum(service.delivered.values()) == 4
    candidates = collect_oqmd(service.url, tmp_path, CLASSES, *LIMITS, patient())
    assert {one.structure_id for one in candidates} == expected_ids(records)
    assert set(service.delivered.values()) == {1}
    assert len(list(tmp_path.glob("*/snapshot.json"))) == 1


def test_a_finished_snapshot_needs_no_network_and_other_questions_get_their_own(serve, tmp_path):
    service = serve()
    first = collect_oqmd(service.url, tmp_path, CLASSES, *LIMITS, patient())
    asked = service.requests
    again = collect_oqmd(service.url, tmp_path, CLASSES, *LIMITS, patient())
    assert service.requests == asked
    assert [x.structure_id for x in first] == [x.structure_id for x in again]
    collect_oqmd(service.url, tmp_path, CLASSES, 0.0, 0.2, patient())
    assert service.requests > asked and len(list(tmp_path.glob("*/snapshot.json"))) == 2


def test_a_dead_or_refusing_service_ends_in_an_error_that_says_what_to_do(serve, tmp_path):
    dead = serve({number: 502 for number in range(100)})
    with pytest.raises(StudyError, match=r"HTTP 502[\s\S]*pages already fetched are kept"):
        collect_oqmd(dead.url, tmp_path, CLASSES, *LIMITS, patient())
    assert dead.requests == 4
    refusing = serve({0: 404})
    with pytest.raises(StudyError, match=r"HTTP 404[\s\S]*source.url"):
        collect_oqmd(refusing.url, tmp_path, CLASSES, *LIMITS, patient())


def test_optimade_gives_the_same_crystals(serve, records, tmp_path):
    service = serve({1: 502, 3: "garbled"})
    native = collect_oqmd(service.url, tmp_path / "native", CLASSES, *LIMITS, patient())
    open_standard = collect_optimade(f"{service.url}/optimade/v1", tmp_path / "open", CLASSES, *LIMITS, patient())
    # OPTIMADE names no duplicates: it offers every entry, the filter finds the crystals that occur twice.
    assert {one.structure_id for one in native} <= {one.structure_id for one in open_standard}
    assert {one.source for one in open_standard} == {"optimade"}


def test_recorded_optimade_and_rest_answers_are_read_alike():
    optimade = json.loads((REFERENCE / "optimade_example_he.json").read_text())
    rest = json.loads((REFERENCE / "rest_example_he.json").read_text())
    atoms = {one["_oqmd_entry_id"]: parse_sites(one["_oqmd_unit_cell"], one["_oqmd_sites"]) for one in optimade}
    for one in rest:
        assert atoms[one["entry_id"]] == parse_sites(one["unit_cell"], one["sites"])


def test_duplicates_keep_the_preferred_entry(records):
    kept = drop_duplicates(records)
    crystals = [one["duplicate_entry_id"] for one in kept]
    assert len(set(crystals)) == len(crystals) == len({one["duplicate_entry_id"] for one in records})
    present = {one["entry_id"] for one in records}
    assert all(one["entry_id"] == one["duplicate_entry_id"] for one in kept if one["duplicate_entry_id"] in present)


def test_space_group_from_rounded_sites_equals_the_one_recorded(records):
    """Sites rounded to three decimals are symmetrised exactly: Fd-3m sites return to eighths."""
    for record in records:
        if record["spacegroup"] in SPACE_GROUPS.values():
            found = classify(parse_sites(record["unit_cell"], record["sites"]), 0.01)
            assert SPACE_GROUPS.get(str(found.space_group_number)) == record["spacegroup"], record["entry_id"]
            assert found.formula_type == record["composition_generic"]
            eighths = found.atoms.get_scaled_positions() * 8
            assert numpy.abs(eighths - eighths.round()).max() < 1e-6


def test_sites_that_make_no_sense_are_a_problem_of_that_record_only():
    for cell, sites in ((None, ["H @ 0 0 0"]), (numpy.eye(3), ["H 0 0 0"]), (numpy.eye(3), ["Xx @ 0 0 0"])):
        with pytest.raises(StudyError):
            parse_sites(cell, sites)
