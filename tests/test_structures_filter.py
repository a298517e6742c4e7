"""Filters, duplicates, parts and shards: every candidate is accounted for."""

import time
from collections import Counter

import numpy
import pandas
import pytest
from ase.build import bulk

from phonoscreen.analysis.offered import offered_table
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.geometry import distance_fingerprint
from phonoscreen.stages.division import keep_division, read_division
from phonoscreen.structures.candidate import (
    Candidate,
    read_structures_by_id,
    write_structures,
)
from phonoscreen.structures.filters import Division, assign_shards, draw_parts, find_duplicates
from phonoscreen.structures.manifest import build_manifest
from phonoscreen.structures.sources import read_folder, read_pool
from tests.conftest import ROOT

CLASSES = ["216-AB", "225-AB"]
SETTINGS = {
    "elements": "paper63",
    "classes": "table1",
    "formation_energy_max_ev_per_atom": 0.0,
    "hull_distance_max_ev_per_atom": 0.2,
    "symmetry_tolerance_angstrom": 0.01,
    "training_structures": 2,
    "validation_structures": 1,
}


def candidate(name, atoms, **values):
    return Candidate(name, "test", name, "", atoms, **values)


def salt(formula, a, **values):
    return candidate(f"{formula}-{a}".lower(), bulk(formula, "rocksalt", a=a), **values)


def candidate_table(candidates):
    columns = [name for name in Candidate.__dataclass_fields__ if name != "atoms"]
    return pandas.DataFrame([{name: getattr(one, name) for name in columns} for one in candidates], columns=columns)


def manifest_of(candidates, **changes):
    table = candidate_table(candidates)
    structures = {one.structure_id: one.atoms for one in candidates if one.atoms is not None}
    return build_manifest(table, structures, CLASSES, {**SETTINGS, **changes}, ["0000", "0001"], seed=61)


def test_every_candidate_has_a_record_and_a_reason():
    nan = bulk("KI", "rocksalt", a=7.0)
    nan.positions[0] = numpy.nan
    candidates = [
        salt("NaCl", 5.6),
        salt("KCl", 6.3, formation_energy_ev_per_atom=0.01),
        salt("LiF", 4.0, hull_distance_ev_per_atom=0.21),
        salt("XeF", 5.0),
        candidate("cesium", bulk("Cs", "bcc", a=6.0)),
        candidate("wurtzite", bulk("ZnO", "wurtzite", a=3.25, c=5.2)),
        candidate("nan", nan),
        candidate("nothing", None, problem="cannot be read: empty"),
    ]
    manifest, records, primitive = manifest_of(candidates)
    reasons = {record["structure_id"]: (record["status"], record["reason"]) for record in records}
    assert set(reasons) == {one.structure_id for one in candidates}
    assert list(manifest["structure_id"]) == list(primitive) == ["nacl-5.6"]
    assert reasons["nacl-5.6"] == ("ok", "")
    expected = {
        "kcl-6.3": ("skipped", "formation energy"),
        "lif-4.0": ("skipped", "hull distance"),
        "xef-5.0": ("skipped", "elements outside the study: Xe"),
        "cesium": ("skipped", "formula type A is not among the classes of the study"),
        "wurtzite": ("skipped", "class 186-AB is not among"),
        "nan": ("failed", "not finite"),
        "nothing": ("failed", "cannot be read"),
    }
    for name, (status, text) in expected.items():
        assert reasons[name][0] == status and text in reasons[name][1], name


def test_limits_are_inclusive_and_elements_may_be_listed():
    at_limit = salt("NaCl", 5.6, formation_energy_ev_per_atom=0.0, hull_distance_ev_per_atom=0.2)
    assert len(manifest_of([at_limit])[0]) == 1
    with pytest.raises(StudyError, match="1 skipped: elements outside the study: Cl"):
        manifest_of([at_limit], elements=["Na", "K"])


def test_a_structure_that_occurs_twice_is_kept_once_nearest_the_hull():
    conventional = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    conventional.positions += 0.4
    candidates = [
        salt("NaCl", 5.6, hull_distance_ev_per_atom=0.1),
        candidate("again", conventional, hull_distance_ev_per_atom=0.0),
        candidate("zincblende", bulk("NaCl", "zincblende", a=6.2)),
    ]
    manifest, records, _ = manifest_of(candidates)
    assert list(manifest["structure_id"]) == ["again", "zincblende"]
    assert "same structure as again" in records[0]["reason"]


def test_arrangements_of_one_formula_on_different_sites_are_different_structures():
    def half_heusler(unique, a, b):
        cell = bulk("Cu", "fcc", a=6.0).cell
        atoms = bulk("NaCl", "rocksalt", a=6.0)[[0, 1, 0]]
        atoms.symbols, atoms.cell = [a, b, unique], cell
        atoms.set_scaled_positions([[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]])
        return atoms

    one, other = half_heusler("Ni", "Ti", "Sn"), half_heusler("Ti", "Ni", "Sn")
    mirrored = half_heusler("Ni", "Sn", "Ti")
    marks = [distance_fingerprint(atoms) for atoms in (one, other, mirrored, one)]
    found = find_duplicates(list(zip("abcd", ("key", "key", "key", "another key"), marks, strict=True)))
    assert found == {"c": "a"}


def test_parts_given_by_the_source_are_kept():
    candidates = [salt("NaCl", 5.6, part="unexplored"), salt("KCl", 6.3, part="validation")]
    manifest = manifest_of(candidates)[0].set_index("structure_id")
    assert manifest["part"].to_dict() == {"nacl-5.6": "unexplored", "kcl-6.3": "validation"}


def test_parts_are_drawn_in_proportion_to_the_classes_and_barely_move_when_structures_are_added():
    classes = {f"s{n}": "A" if n < 600 else "B" for n in range(900)}
    parts = draw_parts(classes, 90, 30, seed=61)
    assert Counter(parts.values()) == {"training": 90, "validation": 30, "unexplored": 780}
    drawn = Counter((classes[name], part) for name, part in parts.items())
    assert drawn["A", "training"] == 60 and drawn["B", "training"] == 30
    more = draw_parts({**classes, "new": "B"}, 90, 30, seed=61)
    assert sum(parts[name] != more[name] for name in parts) <= 4
    assert parts == draw_parts(dict(reversed(classes.items())), 90, 30, seed=61)
    assert parts != draw_parts(classes, 90, 30, seed=62)
    few = draw_parts({"a": "A", "b": "B"}, 90, 30, seed=61)
    assert set(few.values()) == {"training"}


def test_shards_are_balanced_and_independent_of_the_order():
    rng = numpy.random.default_rng(1)
    costs = {f"s{n}": float(cost) for n, cost in enumerate(rng.choice([4, 9, 16, 100, 196], 5000))}
    shards = [f"{n:04d}" for n in range(40)]
    assignment = assign_shards(costs, shards)
    loads = pandas.Series(assignment).map(lambda s: s).to_frame("shard").assign(cost=pandas.Series(costs))
    loads = loads.groupby("shard")["cost"].sum()
    assert len(loads) == 40 and loads.max() - loads.min() <= 196
    assert assignment == assign_shards(dict(reversed(costs.items())), shards)


def test_the_size_of_the_study_is_no_problem():
    """Everything but the symmetry search, which costs the same for every structure, at 80,000 structures."""
    names = [f"oqmd-{n}" for n in range(80000)]
    begin = time.process_time()
    parts = draw_parts({name: "225-ABC2D6" if i % 2 else "216-ABC" for i, name in enumerate(names)}, 3182, 400, 61)
    assign_shards({name: 100 if i % 2 else 9 for i, name in enumerate(names)}, [f"{n:04d}" for n in range(386)])
    assert Counter(parts.values())["training"] == 3182
    assert time.process_time() - begin < 10


@pytest.mark.parametrize("n_shards, changed", [(40, 1), (41, 0)])
def test_one_percent_more_structures_leave_the_other_shards_of_the_paper_as_they_are(n_shards, changed):
    """77,091 and 3,182 structures; 803 are added, into a shard of their own or all into one of the others."""
    costs = {f"oqmd-{number}": float((2 + number % 9) ** 2) for number in range(80273)}
    shards = [f"{number:04d}" for number in range(40)]
    before = assign_shards(costs, shards)
    division = Division({name: ("unexplored", shard) for name, shard in before.items()}, tuple(shards))
    more = costs | {f"new-{number}": 16.0 for number in range(803)}
    now = [f"{number:04d}" for number in range(n_shards)]
    assert division.serves(more, now)
    after = division.assign(more, now)
    assert all(after[name] == shard for name, shard in before.items())
    touched = {after[name] for name in more if name not in costs}
    assert len(touched) == 1 and len(touched & set(shards)) == changed


def test_a_study_is_divided_anew_when_that_is_wanted():
    names = [str(number) for number in range(100)]
    division = Division({name: ("training", "0000") for name in names}, ("0000", "0001"))
    assert division.serves(names, ["0000", "0001"]) and division.serves(names[:50], ["0000", "0001"])
    assert not division.serves(names, ["0000", "0001", "0002"]), "other shards for the same structures"
    assert not division.serves([*names, "a"], ["0000"]), "a shard is gone"
    assert not division.serves([*names, *map(str, range(100, 120))], ["0000", "0001"]), "another study"


def test_added_structures_are_unexplored_and_the_division_is_kept_with_what_decides_it(make_job):
    first = [salt(f"{metal}{halide}", 6.0) for metal in ("Li", "Na", "K", "Rb", "Cs") for halide in ("F", "Cl", "I")]
    job = make_job(params={"shards": ["0000", "0001"], "seed": 61, "filter": SETTINGS})
    assert read_division(job) is None
    before, _, _ = manifest_of(first)
    keep_division(job, before)
    table = candidate_table([*first, salt("KBr", 6.6)])
    structures = {one.structure_id: one.atoms for one in [*first, salt("KBr", 6.6)]}
    after, _, _ = build_manifest(
        table, structures, CLASSES, SETTINGS, ["0000", "0001"], seed=61, earlier=read_division(job)
    )
    both = before.merge(after, on="structure_id")
    assert len(both) == len(before) == len(after) - 1
    assert (both["part_x"] == both["part_y"]).all() and (both["shard_x"] == both["shard_y"]).all()
    assert after.set_index("structure_id").loc["kbr-6.6", "part"] == "unexplored"
    job.params["filter"] = {**SETTINGS, "training_structures": 5}
    assert read_division(job) is None


def test_processes_give_the_same_manifest_as_one():
    candidates = [candidate(f"s{n}", bulk("NaCl", "zincblende", a=5 + n / 100)) for n in range(100)]
    table = candidate_table(candidates)
    structures = {one.structure_id: one.atoms for one in candidates}
    one, two = (
        build_manifest(table, structures, CLASSES, SETTINGS, ["0000"], seed=61, threads=threads) for threads in (1, 2)
    )
    assert len(one[0]) == 1 and one[0].equals(two[0]) and one[1] == two[1]


def test_structures_and_files_survive(tmp_path):
    structures = {"b-1": bulk("NaCl", "rocksalt", a=5.6), "a-2": bulk("Si")}
    write_structures(structures, tmp_path / "some.extxyz")
    back = read_structures_by_id(tmp_path / "some.extxyz")
    assert list(back) == ["b-1", "a-2"] and len(back["b-1"]) == 2
    write_structures({}, tmp_path / "none.extxyz")
    assert read_structures_by_id(tmp_path / "none.extxyz") == {}


def test_folder_of_files(tmp_path):
    bulk("NaCl", "rocksalt", a=5.6).write(tmp_path / "salt.cif")
    bulk("Si").write(tmp_path / "POSCAR_si", format="vasp")
    (tmp_path / "broken.cif").write_text("data_nothing\n")
    bulk("KCl", "rocksalt", a=6.3).write(tmp_path / "two.extxyz")
    bulk("KBr", "rocksalt", a=6.6).write(tmp_path / "two.extxyz", append=True)
    found = {one.structure_id: one for one in read_folder(tmp_path)}
    assert {name for name, one in found.items() if one.atoms is not None} == {"poscar_si", "salt", "two-0", "two-1"}
    assert found["broken"].problem
    with pytest.raises(ValueError, match="no structure files"):
        read_folder(tmp_path / "empty")


def test_a_pool_row_that_cannot_be_built_is_a_problem_of_that_row(tmp_path):
    (tmp_path / "pool.csv").write_text(
        "structure_id,formula,prototype,part\na,NaCl,225-AB,training\nb,NaXx,225-AB,training\nc,NaCl,999-AB,training\n"
    )
    kinds = {"225-AB": {"sites": [[[0, 0, 0]], [[0.5, 0.5, 0.5]]]}}
    found = {one.structure_id: one for one in read_pool(tmp_path / "pool.csv", kinds)}
    assert found["a"].atoms is not None and "unknown elements" in found["b"].problem
    assert "unknown structure type" in found["c"].problem
    (tmp_path / "pool.csv").write_text("structure_id,formula,prototype,part\na,NaCl,225-AB,trainig\n")
    with pytest.raises(ValueError, match="unknown parts"):
        read_pool(tmp_path / "pool.csv", kinds)


def test_a_space_group_that_its_source_states_is_compared_and_a_difference_explained():
    moved, agrees = bulk("NaCl", "rocksalt", a=5.6), salt("KCl", 6.3, source_space_group_number=225)
    moved.positions[1, 0] += 0.02
    candidates = [
        agrees,
        candidate("moved", moved, source_space_group_number=225),
        candidate("wrong", bulk("RbCl", "rocksalt", a=6.6), source_space_group_number=216),
        salt("LiF", 4.0),
    ]
    manifest, records, _ = manifest_of(candidates)
    notes = {one["structure_id"]: one["disagreement"] for one in records}
    assert notes[agrees.structure_id] == notes["lif-4.0"] == ""
    assert "its source says Fm-3m (225), which is found with a larger tolerance: 0.1" in notes["moved"]
    assert "Fm-3m (225) within 0.01 angstrom, its source says F-43m (216), which is not found" in notes["wrong"]
    table = candidate_table(candidates)
    rows = offered_table(pandas.DataFrame(records), table, manifest, ROOT / "resources/published/table1.yaml")
    rows = rows.set_index("prototype")
    assert rows.loc["225-AB", ["n_structures", "n_offered", "n_found", "n_disagreements"]].tolist() == [3, 2, 3, 1]
    assert rows.loc["216-ABC", "n_disagreements"] == 1 and rows["n_paper"].sum() == 80273
