"""Odd answers of the OQMD and of OPTIMADE services: problems of records, never tracebacks or wrong crystals."""

import copy
import json

import numpy
import pytest
import spglib
from hypothesis import HealthCheck, given, settings, strategies

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import problem_of_id
from phonoscreen.crystal.space_group_names import standard_symbol
from phonoscreen.structures.optimade import conditions, optimade_ids, optimade_record
from phonoscreen.structures.oqmd import oqmd_ids, oqmd_ids_first, oqmd_record
from phonoscreen.structures.pages import Series, fetch_series, parse_page
from phonoscreen.structures.service_records import Request, candidates_of, preferred_rows
from phonoscreen.structures.snapshot import read_snapshot, write_snapshot
from phonoscreen.structures.space_groups import space_group_number, symbol_of
from tests.fuzz.strategies import json_values, mutated

RECORD = {
    "entry_id": 1, "name": "ClNa", "delta_e": -2.1, "stability": 0.0,
    "unit_cell": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]],
    "sites": ["Na @ 0 0 0", "Cl @ 0.5 0.5 0.5"], "duplicate_entry_id": 1,
}  # fmt: skip
ENTRY = {
    "id": "mp-22862", "type": "structures", "attributes": {
        "lattice_vectors": RECORD["unit_cell"], "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]],
        "species_at_sites": ["Na", "Cl"], "dimension_types": [1, 1, 1],
        "species": [{"name": "Na", "chemical_symbols": ["Na"], "concentration": [1.0]},
                    {"name": "Cl", "chemical_symbols": ["Cl"], "concentration": [1.0]}],
    },
}  # fmt: skip
PAGE = {"data": [RECORD], "links": {"next": None}, "meta": {"data_available": 1}}


ASKED = Request("https://example.org/v1", ["225-AB"], 0.0, 0.2, properties={
    "space_group": "_x_group", "formation_energy": "_x_e.gga.per_atom", "hull_distance": "_x_hull",
    "duplicate_of": None,
})  # fmt: skip


class Silent:
    """A pager that may not be asked, but for what is damaged."""

    def __init__(self, body=None):
        self.body = body

    def fetch(self, url, params=None):
        if self.body is None:
            raise StudyError(f"asked for {url}", fix="nothing")
        return self.body

    def be_slower(self, meta):
        pass


def read(record):
    (candidate,) = candidates_of("oqmd", [oqmd_record(record)])
    return candidate


def one(**changes):
    return read({**RECORD, **changes})


def test_numbers_as_text_are_numbers_and_others_are_problems():
    good = one(delta_e="-2.1", entry_id="17", stability=None, spacegroup="Fm-3m")
    assert (good.structure_id, good.formation_energy_ev_per_atom) == ("oqmd-17", -2.1) and good.formula == "NaCl"
    assert good.atoms is not None and numpy.isnan(good.hull_distance_ev_per_atom)
    assert good.source_space_group_number == 225
    for value in ("low", float("nan"), "inf", True, [1], {}, 10**400):
        assert "is no number" in one(delta_e=value).problem and one(delta_e=value).atoms is None


@pytest.mark.parametrize(
    "changes, words",
    [({"entry_id": None}, "without an entry id"), ({"entry_id": True}, "without an entry id"),
     ({"entry_id": {}}, "without an entry id"), ({"unit_cell": None}, "cannot be read"),
     ({"unit_cell": [[1, 0, 0]] * 3}, "no volume"), ({"sites": "Na @ 0 0 0"}, "no list"), ({"sites": []}, "no list"),
     ({"sites": ["Na @ 0 0"]}, "cannot be read"), ({"sites": ["Na @ nan 0 0"]}, "not finite"),
     ({"sites": ["X @ 0 0 0"]}, "without an element"), ({"sites": ["Na @ 0 0 0", "Na @ 0 0 0.001"]}, "apart"),
     ({"sites": ["Na @ 0 0 0"] * 501}, "no list of 1 to 500")],
)  # fmt: skip
def test_what_a_record_lacks_is_its_problem(changes, words):
    assert one(**changes).atoms is None and words in one(**changes).problem


def test_ids_carry_the_provider_and_harm_nothing():
    entries = [ENTRY, {**ENTRY, "id": "../../x"}, None]
    found = list(candidates_of("optimade", [optimade_record(entry, ASKED) for entry in entries]))
    assert found[0].structure_id == "example.org-mp-22862" and found[0].source_id == "mp-22862"
    assert found[1].structure_id.startswith("example.org-") and not problem_of_id(found[1].structure_id)
    assert "without an entry id" in found[2].problem
    assert [len(one.atoms) for one in found[:2]] == [2, 2] and found[0].formula == "NaCl"


def test_what_a_provider_gives_beyond_the_standard_is_read_where_the_settings_say():
    entry = copy.deepcopy(ENTRY)
    entry["attributes"] |= {"_x_group": "F m -3 m", "_x_e": {"gga": {"per_atom": "-1.5"}}, "_x_hull": 0.1}
    (found,) = candidates_of("optimade", [optimade_record(entry, ASKED)])
    assert found.source_space_group_number == 225
    assert (found.formation_energy_ev_per_atom, found.hull_distance_ev_per_atom) == (-1.5, 0.1)
    entry["attributes"]["_x_e"] = "none"
    (found,) = candidates_of("optimade", [optimade_record(entry, ASKED)])
    assert numpy.isnan(found.formation_energy_ev_per_atom) and not found.problem


def test_only_standard_conditions_are_asked_of_every_service():
    always, besides = conditions(ASKED, "225-AB3")
    assert always == ['chemical_formula_anonymous="A3B"']
    assert besides == ['_x_group="Fm-3m"', "_x_e.gga.per_atom<=0.0", "_x_hull<=0.2"]
    properties = {"space_group": "space_group_it_number", "hull_distance": "_mp_stability.gga_gga+u.hull"}
    number = Request("x", ["225-AB"], 0.0, 0.2, properties=properties)
    assert conditions(number, "225-AB")[1] == ["space_group_it_number=225"]  # the grammar knows no plus sign
    assert conditions(number, None) == ([], [])


def test_every_filter_is_one_by_the_grammar_of_the_specification():
    parser = pytest.importorskip("optimade.filterparser", reason="optimade (optimade-python-tools) is not installed")
    for asked in (ASKED, Request("x", None, -1e-05, 1e10, properties={**ASKED.properties, "space_group": "number"})):
        for name in ("225-ABC2D6", "186-AB"):
            always, besides = conditions(asked, name)
            assert parser.LarkParser().parse(" AND ".join([*always, *besides]))


def test_space_groups_are_known_by_number_and_symbol():
    for number in range(1, 231):
        for text in (number, str(number), symbol_of(number), f"{symbol_of(number)} ({number})"):
            assert space_group_number(text) == number, text
    assert space_group_number("P6_3mc") == 186 and space_group_number("P2_1/c") == 14
    for text in (None, True, 0, 231, "", "Fm4", "F43m", "cubic", "x" * 10**6, [225], 225.0):
        assert space_group_number(text) is None


def test_space_groups_are_known_by_old_and_odd_spellings():
    spellings = {225: ("Fm3m", "F m 3 m", "FM-3M", "fm-3m", "F m \\bar{3} m", "Fm3\u0305m", "F m -3m", "Fm-3m:1"),
                 227: ("Fd3m", "F d -3 m :2", "F d 3 m"), 205: ("Pa3",), 202: ("Fm3",), 230: ("I a 3 d",),
                 14: ("P2(1)/c", "P121/c1", "p 1 21/c 1"), 194: ("P6(3)/mmc",), 64: ("Cmca",), 160: ("R3m",),
                 229: ("Im3m",), 215: ("P-43m",), 196: ("F23",)}  # fmt: skip
    for number, texts in spellings.items():
        for text in texts:
            assert space_group_number(text) == number, text
    settings = [spglib.get_spacegroup_type(hall) for hall in range(1, 531)]
    for kind in settings:  # no symbol of any setting is taken for one of another group
        for text in (kind.international_short, kind.international.split("=")[0], kind.international_full):
            symbol = standard_symbol(text)
            assert symbol is None or space_group_number(symbol) == kind.number, text


def test_partly_occupied_sites_of_a_service_are_refused():
    entry = copy.deepcopy(ENTRY)
    entry["attributes"]["species"][0] |= {"chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}
    (found,) = candidates_of("optimade", [optimade_record(entry, ASKED)])
    assert found.atoms is None and "partly occupied" in found.problem
    entry["attributes"] = None
    (found,) = candidates_of("optimade", [optimade_record(entry, ASKED)])
    assert found.atoms is None and found.structure_id == "example.org-mp-22862"


def test_an_entry_that_is_given_twice_is_not_lost_silently():
    found = list(candidates_of("oqmd", [oqmd_record(RECORD), oqmd_record(RECORD)]))
    assert len({one.structure_id for one in found}) == 2 and "twice" in found[1].problem


CASES = {"max_examples": 100, "deadline": 3000, "suppress_health_check": list(HealthCheck), "database": None,
         "derandomize": True}  # fmt: skip


@settings(**CASES)
@given(strategies.dictionaries(strategies.sampled_from(sorted(RECORD)), json_values(), max_size=3), json_values())
def test_any_record_is_a_crystal_or_a_problem(changes, other):
    records = [{**RECORD, **changes}, other]
    entry = copy.deepcopy(ENTRY)
    entry["attributes"] |= dict(zip(entry["attributes"], changes.values()))
    entries = [entry, other, {"attributes": other}]
    assert any(preferred_rows(*zip(*map(oqmd_ids, records))))
    assert len([optimade_ids(one, ASKED) for one in entries]) == 3
    read = [*map(oqmd_record, records), *(optimade_record(one, ASKED) for one in entries)]
    found = list(candidates_of("oqmd", read))
    assert len({one.structure_id for one in found}) == len(found) == 5
    for candidate in found:
        assert not problem_of_id(candidate.structure_id)
        assert (candidate.atoms is None) == bool(candidate.problem)
        if candidate.atoms is not None:
            assert numpy.isfinite(candidate.atoms.positions).all()


@settings(**CASES)
@given(text=mutated([json.dumps(PAGE)]))
def test_odd_pages_of_a_service_are_read_or_named(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("series")
    body = text.encode("utf-8", "surrogatepass")
    try:
        parse_page(body)
    except ValueError:
        return  # the pager asks again
    try:
        series = fetch_series(Silent(body), folder / "225-AB", "https://oqmd.org/x", None, "data_available",
                              oqmd_ids_first)  # fmt: skip
        snapshot = write_snapshot(folder / "snapshot.parquet", {"225-AB": series}, oqmd_ids, {})
        records = [record for _, record in snapshot.records()]
        assert len(list(candidates_of("oqmd", map(oqmd_record, records)))) == len(records)
    except StudyError as error:
        assert error.fix


@pytest.fixture
def snapshot(tmp_path):
    (tmp_path / "page").write_text(json.dumps({"data": [RECORD] * 2 + [{**RECORD, "name": "\ud800 \u2028 =1+1"}, 5]}))
    series = {"225-AB": Series([tmp_path / "page"])}
    about = {"kind": "oqmd", "url": "u", "limits": {}}
    return write_snapshot(tmp_path / "snapshot.parquet", series, oqmd_ids, about)


def test_a_snapshot_holds_every_record_as_it_came(snapshot):
    again = read_snapshot(snapshot.path)
    assert again.about == snapshot.about and again.about["repeated"] == 1
    assert list(again.records()) == [("225-AB", RECORD), ("225-AB", {**RECORD, "name": "\ud800 \u2028 =1+1"}),
                                     ("225-AB", 5)]  # fmt: skip


def test_a_damaged_snapshot_is_named(snapshot, tmp_path):
    sound = snapshot.path.read_bytes()
    snapshot.path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(StudyError, match=r"cannot be used[\s\S]*snapshot.parquet"):
        read_snapshot(snapshot.path)
    snapshot.about["records_sha256"] = "0" * 64
    snapshot.path.write_bytes(sound)
    with pytest.raises(StudyError, match="not those that were downloaded"):
        list(snapshot.records())
    with pytest.raises(StudyError, match="cannot be used"):
        read_snapshot(tmp_path / "absent.parquet")
