"""Odd answers of the OQMD and of OPTIMADE services: problems of records, never tracebacks or wrong crystals."""

import copy
import json

import numpy
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import problem_of_id
from phonoscreen.structures.oqmd import candidates_of, collect_oqmd, drop_duplicates, optimade_record
from phonoscreen.structures.snapshot import fetch_series, open_snapshot
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


class Silent:
    """A pager that may not be asked."""

    def get(self, url, params=None):
        raise StudyError(f"asked for {url}", fix="nothing")


def one(**changes):
    (candidate,) = candidates_of("oqmd", [{**RECORD, **changes}])
    return candidate


def test_numbers_as_text_are_numbers_and_others_are_problems():
    good = one(delta_e="-2.1", entry_id="17", stability=None)
    assert (good.structure_id, good.formation_energy_ev_per_atom) == ("oqmd-17", -2.1) and good.formula == "NaCl"
    assert good.atoms is not None and numpy.isnan(good.hull_distance_ev_per_atom)
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
    record = optimade_record(ENTRY, "optimade.materialsproject.org")
    strange = optimade_record({**ENTRY, "id": "../../x"}, "example.org")
    own = optimade_record({"id": "9", "attributes": {"_oqmd_entry_id": 9, "_oqmd_unit_cell": RECORD["unit_cell"],
                                                     "_oqmd_sites": RECORD["sites"]}}, "oqmd.org")  # fmt: skip
    found = candidates_of("optimade", drop_duplicates([record, strange, own, optimade_record(None, "x")]))
    assert found[0].structure_id == "optimade.materialsproject.org-mp-22862" and found[0].source_id == "mp-22862"
    assert found[1].structure_id.startswith("example.org-") and not problem_of_id(found[1].structure_id)
    assert found[2].structure_id == "oqmd-9" and "without an entry id" in found[3].problem
    assert [len(one.atoms) for one in found[:3]] == [2, 2, 2] and found[0].formula == "NaCl"


def test_partly_occupied_sites_of_a_service_are_refused():
    entry = copy.deepcopy(ENTRY)
    entry["attributes"]["species"][0] |= {"chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}
    (found,) = candidates_of("optimade", [optimade_record(entry, "example.org")])
    assert found.atoms is None and "partly occupied" in found.problem
    entry["attributes"] = None
    (found,) = candidates_of("optimade", [optimade_record(entry, "example.org")])
    assert found.atoms is None and found.structure_id == "example.org-mp-22862"


def test_an_entry_that_is_given_twice_is_not_lost_silently():
    found = candidates_of("oqmd", [RECORD, RECORD])
    assert len({one.structure_id for one in found}) == 2 and "twice" in found[1].problem


CASES = {"max_examples": 100, "deadline": 3000, "suppress_health_check": list(HealthCheck), "database": None,
         "derandomize": True}  # fmt: skip


@settings(**CASES)
@given(strategies.dictionaries(strategies.sampled_from(sorted(RECORD)), json_values(), max_size=3), json_values())
def test_any_record_is_a_crystal_or_a_problem(changes, other):
    records = [{**RECORD, **changes}, other]
    entry = copy.deepcopy(ENTRY)
    entry["attributes"] |= dict(zip(entry["attributes"], changes.values()))
    records += [optimade_record(one, "example.org") for one in (entry, other, {"attributes": other})]
    found = candidates_of("oqmd", drop_duplicates(records))
    assert len({one.structure_id for one in found}) == len(found)
    for candidate in found:
        assert not problem_of_id(candidate.structure_id)
        assert (candidate.atoms is None) == bool(candidate.problem)
        if candidate.atoms is not None:
            assert numpy.isfinite(candidate.atoms.positions).all()


@settings(**CASES)
@given(text=mutated([json.dumps(PAGE)]))
def test_damaged_pages_of_a_snapshot_are_named(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("series")
    (folder / "000000.json").write_text(text, errors="surrogatepass")
    try:
        records = fetch_series(Silent(), folder, "https://oqmd.org/x", None, "data_available")
        candidates_of("oqmd", drop_duplicates(records))
    except StudyError as error:
        assert error.fix


def test_a_damaged_snapshot_is_named(tmp_path):
    folder = open_snapshot(tmp_path, {"url": "x"})
    assert open_snapshot(tmp_path, {"url": "x"}) == folder
    (folder / "snapshot.json").write_text("{")
    with pytest.raises(StudyError, match="snapshot.json"):
        collect_oqmd("https://oqmd.org", tmp_path, ["225-AB"], 0.0, 0.2, Silent())
