"""The OQMD and OPTIMADE services, replayed on this machine from true records, with the faults that services show."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.oqmd import oqmd_ids, parse_sites
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.service_records import Request, preferred_rows
from phonoscreen.structures.snapshot import read_snapshot
from phonoscreen.structures.space_groups import symbol_of
from tests.replaying_service import PROPERTIES, Service, collected, patient

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path(os.environ.get("PHONOSCREEN_REFERENCE", ROOT / "../shared/reference")) / "oqmd"
CLASSES = ["216-ABC", "216-ABC2", "227-AB2"]
CUBIC = {"216": "F-43m", "221": "Pm-3m", "225": "Fm-3m", "227": "Fd-3m"}

pytestmark = pytest.mark.skipif(
    not REFERENCE.exists(), reason=f"recorded OQMD answers are not at {REFERENCE} (PHONOSCREEN_REFERENCE)"
)


@pytest.fixture(scope="module")
def records():
    return json.loads((REFERENCE / "formationenergy_records.json").read_text())


@pytest.fixture
def serve(records):
    services = []

    def start(faults=None, records=records, **options):
        services.append(Service(records, faults, **options))
        return services[-1]

    yield start
    for service in services:
        service.shutdown()
        service.server_close()


def request(service, limits=(10.0, 10.0), properties=None):
    url = service.url if properties is None else f"{service.url}/optimade/v1"
    return Request(url, CLASSES, *limits, properties=properties or {})


def oqmd(service, folder, limits=(10.0, 10.0)):
    return collected("oqmd", request(service, limits), folder)


def kept(records):
    rows = preferred_rows(*zip(*map(oqmd_ids, records)))
    return [one for keep, one in zip(rows, records) if keep]


def expected_ids(records):
    wanted = {(symbol_of(int(name[:3])), name[4:]) for name in CLASSES}
    chosen = [one for one in records if (one["spacegroup"], one["composition_generic"]) in wanted]
    return {f"oqmd-{one['entry_id']}" for one in kept(chosen)}


def test_all_pages_of_every_class_arrive_once_and_in_full(serve, records, tmp_path):
    service = serve()
    candidates = oqmd(service, tmp_path)
    ids = [one.structure_id for one in candidates]
    assert len(set(ids)) == len(ids) and set(ids) == expected_ids(records) and len(ids) > 20
    assert set(service.delivered.values()) == {1} and len(service.delivered) >= 8
    by_id = {f"oqmd-{one['entry_id']}": one for one in records}
    for one in candidates:
        record = by_id[one.structure_id]
        assert one.formation_energy_ev_per_atom == record["delta_e"]
        assert one.hull_distance_ev_per_atom == record["stability"]
        assert one.atoms.cell.volume == pytest.approx(record["volume"], rel=1e-3)
        assert CUBIC[str(one.source_space_group_number)] == record["spacegroup"]


def test_faults_of_the_service_change_nothing_but_the_number_of_requests(serve, tmp_path):
    faults = {0: 502, 1: "reset", 2: "garbled", 5: "truncated", 6: 503, 9: "reset in body", 11: 429}
    calm, stormy = serve(), serve(faults)
    one, other = oqmd(calm, tmp_path / "calm"), oqmd(stormy, tmp_path / "stormy")
    assert [x.structure_id for x in one] == [x.structure_id for x in other]
    assert stormy.requests == calm.requests + len(faults)
    assert set(stormy.delivered.values()) == {1}


def test_a_killed_download_continues_where_it_stopped(serve, records, tmp_path):
    service = serve({4: "hang"})
    program = (
        "from pathlib import Path\n"
        "from phonoscreen.structures.pages import Pager\n"
        "from phonoscreen.structures.service_records import Request\n"
        "from phonoscreen.structures.services import download\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"request = Request({service.url!r}, {CLASSES!r}, 10.0, 10.0)\n"
        "download('oqmd', request, folder / 'pages', folder / 'snapshot.parquet', Pager())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while service.requests < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sum(service.delivered.values()) == 4 and not (tmp_path / "snapshot.parquet").exists()
    (damaged,) = tmp_path.glob("pages/216-ABC/000001-*.json")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b" ")  # still JSON, or not: its checksum tells
    candidates = oqmd(service, tmp_path)
    assert {one.structure_id for one in candidates} == expected_ids(records)
    assert sorted(service.delivered.values()) == [1] * (len(service.delivered) - 1) + [2]


def test_a_snapshot_needs_no_network_says_what_it_is_and_refuses_other_questions(serve, tmp_path):
    service = serve()
    first, asked = oqmd(service, tmp_path), service.requests
    narrower = oqmd(service, tmp_path, (0.0, 0.2))
    assert service.requests == asked and [x.structure_id for x in narrower] == [x.structure_id for x in first]
    snapshot = read_snapshot(tmp_path / "snapshot.parquet")
    assert snapshot.about["url"] == service.url and snapshot.about["finished"] >= snapshot.about["started"]
    assert snapshot.about["queries"]["216-ABC"].startswith('spacegroup="F-43m" AND generic=ABC AND delta_e<=10.0')
    assert snapshot.about["n_records"] == len(list(snapshot.records()))
    for other, words in (
        (Request(service.url, ["225-AB"], 0.0, 0.2), "the classes 225-AB are not in it"),
        (Request(service.url, CLASSES, 11.0, 0.2), "it ends at 10.0"),
        (Request("https://oqmd.org", CLASSES, 0.0, 0.2), "source.url is https://oqmd.org"),
    ):
        with pytest.raises(StudyError, match=words):
            collected("oqmd", other, tmp_path)
    with pytest.raises(StudyError, match="kind oqmd"):
        collected("optimade", request(service), tmp_path)


def test_a_dead_or_refusing_service_ends_in_an_error_that_says_what_to_do(serve, tmp_path):
    dead = serve({number: 502 for number in range(100)})
    with pytest.raises(StudyError, match=r"HTTP 502[\s\S]*pages already fetched are kept"):
        oqmd(dead, tmp_path)
    assert dead.requests == 4
    with pytest.raises(StudyError, match=r"HTTP 404[\s\S]*source.url"):
        oqmd(serve({0: 404}), tmp_path / "other")
    with pytest.raises(StudyError, match="no proper answer after 4 tries"):
        oqmd(serve({number: "garbled" for number in range(100)}), tmp_path / "garbled")


def test_an_answer_that_does_not_come_is_asked_for_again(serve, records, tmp_path):
    service = serve({1: "slow", 4: "slow"})
    hasty = Pager(tries=3, wait_s=0.01, timeout_s=0.3)
    found = collected("oqmd", request(service), tmp_path, hasty)
    assert {one.structure_id for one in found} == expected_ids(records)


def growing(page):
    page["meta"]["data_available"] += 1


def test_a_database_that_changes_meanwhile_is_asked_again_and_at_last_refused(serve, records, tmp_path):
    once = serve({1: growing})
    assert {one.structure_id for one in oqmd(once, tmp_path / "once")} == expected_ids(records)
    assert (tmp_path / "once/pages/216-ABC.set-aside-1").is_dir()
    always = serve({number: growing for number in range(1, 100, 2)})
    with pytest.raises(StudyError, match=r"announces 9 records, earlier ones 8, in 3 downloads[\s\S]*is kept in"):
        oqmd(always, tmp_path / "always")
    assert len(list(tmp_path.glob("always/pages/216-ABC.set-aside-*/*.json"))) == 6


def test_missing_entries_are_noticed_and_repeated_ones_are_kept_once(serve, records, tmp_path):
    def lacking(page):
        page["data"].pop()

    with pytest.raises(StudyError, match="7 records of 8 announced"):
        oqmd(serve({number: lacking for number in range(0, 100, 3)}), tmp_path / "missing")
    first = next(one for one in records if one["spacegroup"] == "F-43m" and one["composition_generic"] == "ABC")
    service = serve(records=[*records, first])
    assert {one.structure_id for one in oqmd(service, tmp_path / "repeated")} == expected_ids(records)
    assert read_snapshot(tmp_path / "repeated/snapshot.parquet").about["repeated"] == 1


def test_optimade_gives_the_same_crystals_whatever_the_provider_can_filter(serve, records, tmp_path):
    native = oqmd(serve(), tmp_path / "native")
    for name, refuses in (("filters", False), ("refuses", True)):
        service = serve({1: 502, 3: "garbled"})
        service.refuses_own = refuses
        found = collected("optimade", request(service, properties=PROPERTIES), tmp_path / name)
        numbers = {int(one[:3]) for one in CLASSES}
        kept = [one for one in found if refuses is False or one.source_space_group_number in numbers]
        assert {one.source_id for one in kept} >= {one.source_id for one in native}
        by_id = {one.source_id: one for one in found}
        for one in native:
            other = by_id[one.source_id]
            assert other.structure_id == f"127.0.0.1-{one.source_id}" and other.formula == one.formula
            assert other.hull_distance_ev_per_atom == one.hull_distance_ev_per_atom
            assert other.source_space_group_number == one.source_space_group_number
            assert numpy.allclose(other.atoms.positions, one.atoms.positions)
        about = read_snapshot(tmp_path / name / "snapshot.parquet").about
        assert about["server"]["implementation"]["name"] == "replay"
        assert ("_oqmd_spacegroup" in about["queries"]["216-ABC"]) == (not refuses)


def test_a_property_that_the_service_lacks_is_named(serve, tmp_path):
    asked = request(serve(), properties={**PROPERTIES, "hull_distance": "_mp_stability.hull"})
    with pytest.raises(StudyError, match=r"no property _mp_stability.hull[\s\S]*_oqmd_stability"):
        collected("optimade", asked, tmp_path)


def test_duplicates_keep_the_preferred_entry(records):
    chosen = kept(records)
    crystals = [one["duplicate_entry_id"] for one in chosen]
    assert len(set(crystals)) == len(crystals) == len({one["duplicate_entry_id"] for one in records})
    present = {one["entry_id"] for one in records}
    assert all(one["entry_id"] == one["duplicate_entry_id"] for one in chosen if one["duplicate_entry_id"] in present)
    assert preferred_rows(["1", "", "2", "3", "3"], ["3", "", "", "3", "3"]) == [False, True, True, True, True]


def test_space_group_from_rounded_sites_equals_the_one_recorded(records):
    """Sites rounded to three decimals are symmetrised exactly: Fd-3m sites return to eighths."""
    for record in records:
        if record["spacegroup"] in CUBIC.values():
            found = classify(parse_sites(record["unit_cell"], record["sites"]), 0.01)
            assert CUBIC.get(str(found.space_group_number)) == record["spacegroup"], record["entry_id"]
            assert found.formula_type == record["composition_generic"]
            eighths = found.atoms.get_scaled_positions() * 8
            assert numpy.abs(eighths - eighths.round()).max() < 1e-6


def test_recorded_rest_answers_are_read():
    rest = json.loads((REFERENCE / "rest_example_he.json").read_text())
    assert {len(parse_sites(one["unit_cell"], one["sites"])) for one in rest} >= {1, 2}


def test_sites_that_make_no_sense_are_a_problem_of_that_record_only():
    for cell, sites in ((None, ["H @ 0 0 0"]), (numpy.eye(3), ["H 0 0 0"]), (numpy.eye(3), ["Xx @ 0 0 0"])):
        with pytest.raises(StudyError):
            parse_sites(cell, sites)


def test_the_pager_keeps_its_pause(serve):
    service, pager = serve(), patient()
    pager.be_slower({"request_delay": 0.2})
    begin = time.monotonic()
    for _ in range(3):
        pager.fetch(f"{service.url}/oqmdapi/formationenergy", {"filter": "generic=ABC"})
    assert time.monotonic() - begin > 0.4
