"""Sources on disk: no file lost, no id clashing or turned into a number, every oddity a record with its reason."""

import os

import numpy
import pandas
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from hypothesis import HealthCheck, given, settings, strategies

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import LONGEST, file_name, harmless_id, problem_of_id
from phonoscreen.audit.records import count_reasons
from phonoscreen.formats.file_kinds import ids_of_files, structure_files
from phonoscreen.structures.candidate import read_structures_by_id, write_structures
from phonoscreen.structures.filters import part_sizes
from phonoscreen.structures.formulas import formula_of
from phonoscreen.structures.sources import read_folder, read_pool
from phonoscreen.workflow.inputs import machine_state, output_files, source_files, vasp_potentials
from tests.fuzz.strategies import mutated

KINDS = {"225-AB": {"sites": [[[0, 0, 0]], [[0.5, 0.5, 0.5]]]}}
LIKE_NUMBERS = ["001234", "1e5", "1_000", "NaN", "null", "True", "None", "0x10", "1.0", "on", "inf"]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "a/b", "/etc/x", "a\nb", "a\tb", "a\0b", " a", "a ", "α", "a..b", "-rf", "x" * 101,
             "a:b", "=1+1", "*", "a.", "~", "\ud800"],
)  # fmt: skip
def test_ids_that_could_harm_are_named_and_replaced_by_one_that_cannot(text):
    assert problem_of_id(text)
    name = harmless_id(text)
    assert not problem_of_id(name) and name == file_name(text) and os.path.basename(name) == name


@settings(max_examples=200, database=None, derandomize=True)
@given(strategies.text(), strategies.text())
def test_every_text_gives_an_id_and_different_texts_different_ones(one, other):
    assert not problem_of_id(harmless_id(one)) and len(harmless_id(one)) <= LONGEST
    assert harmless_id(harmless_id(one)) == harmless_id(one)
    assert one == other or harmless_id(one) != harmless_id(other)


def test_ids_that_look_like_numbers_stay_texts_on_every_way(tmp_path):
    assert not any(problem_of_id(name) for name in LIKE_NUMBERS)
    structures = {name: bulk("NaCl", "rocksalt", a=5.6) for name in LIKE_NUMBERS}
    write_structures(structures, tmp_path / "some.extxyz")
    assert list(read_structures_by_id(tmp_path / "some.extxyz")) == LIKE_NUMBERS
    rows = "".join(f"{name},NaCl,225-AB,training\n" for name in LIKE_NUMBERS)
    (tmp_path / "pool.csv").write_text(f"structure_id,formula,prototype,part\n{rows}")
    assert [one.structure_id for one in read_pool(tmp_path / "pool.csv", KINDS)] == LIKE_NUMBERS


def test_files_that_would_share_an_id_get_ids_of_their_own():
    names = [
        "POSCAR.NaF",
        "POSCAR.LiCl",
        "a.cif",
        "a.vasp",
        "b/POSCAR",
        "b-poscar",
        "A.CIF",
        "c.cif.gz",
        "α.cif",
        "β.cif",
    ]
    ids = ids_of_files(names)
    assert len({one.lower() for one in ids}) == len(names) and not any(map(problem_of_id, ids))
    assert ids[:2] == ["poscar.naf", "poscar.licl"] and ids[3] == "a-vasp" and ids[7] == "c"
    assert ids_of_files(["a.cif", "b.cif"]) == ["a", "b"]


def test_backups_and_hidden_files_are_no_candidates(tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.6)
    kept = ["POSCAR", "POSCAR.2", "mp-1_POSCAR", "deep/er/salt.cif", "001.vasp"]
    others = ["POSCAR~", "#POSCAR#", "POSCAR.bak", ".POSCAR.swp", "salt.cif.bak", "salt.cif~", ".git/POSCAR",
              "notes.txt", "old~/POSCAR", "salt.cif.orig", "._salt.cif", "POSCAR.old"]  # fmt: skip
    for name in kept + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, salt, format="cif" if ".cif" in name else "vasp")
    assert {path.relative_to(tmp_path).as_posix() for path in structure_files(tmp_path)} == set(kept)
    assert source_files({"kind": "files", "path": str(tmp_path)}) == [str(path) for path in structure_files(tmp_path)]
    assert len(read_folder(tmp_path)) == len(kept)


def test_a_folder_of_odd_files_loses_none_and_names_each_problem(tmp_path):
    write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    write(tmp_path / "salt.vasp", bulk("KCl", "rocksalt", a=6.3))
    frames = [bulk("KBr", "rocksalt", a=6.6), bulk("KBr", "rocksalt", a=0.66), Atoms("H", positions=[[0, 0, 0]])]
    write(tmp_path / "many.extxyz", frames)
    (tmp_path / "many-0.vasp").write_text("nothing\n")
    (tmp_path / "binary.cif").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "POSCAR").write_text("")
    found = {one.structure_id: one for one in read_folder(tmp_path)}
    assert len(found) == 8
    good = {name for name, one in found.items() if one.atoms is not None}
    assert {"salt-cif", "salt-vasp"} < good and len(good) == 3
    assert all(one.problem and "\n" not in one.problem for one in found.values() if one.atoms is None)
    assert {one.source_id for one in found.values()} == {p.name for p in structure_files(tmp_path)}


@pytest.mark.parametrize("text", [
    "\ufeffstructure_id;formula;prototype\na;NaCl;225-AB\n",
    "structure_id, formula, prototype, part\r\na, NaCl, 225-AB, training\r\n",
    "prototype\tstructure_id\tformula\n225-AB\ta\tNaCl\n",
])  # fmt: skip
def test_lists_of_compounds_as_spreadsheets_write_them(tmp_path, text):
    (tmp_path / "pool.csv").write_bytes(text.encode())
    (one,) = read_pool(tmp_path / "pool.csv", KINDS)
    assert one.structure_id == "a" and one.atoms is not None and one.formula == "NaCl"


def test_rows_of_a_list_that_cannot_be_are_problems_of_those_rows(tmp_path):
    rows = ["../up,NaCl,225-AB", ",KCl,225-AB", "twice,KBr,225-AB", "Twice,KI,225-AB", "good,LiF,225-AB", "short"]
    (tmp_path / "pool.csv").write_text("structure_id,formula,prototype\n" + "\n".join(rows) + "\n")
    found = read_pool(tmp_path / "pool.csv", KINDS)
    assert len({one.structure_id for one in found}) == 6 and [bool(one.problem) for one in found] == [1, 1, 1, 1, 0, 1]
    assert not any(problem_of_id(one.structure_id) for one in found)
    assert "several rows" in found[2].problem and "'../up'" in found[0].problem
    for text in ("", "a,b\n1,2\n", "structure_id,formula,prototype\n", "structure_id,formula,prototype\n\x00"):
        (tmp_path / "pool.csv").write_text(text)
        try:
            assert all(one.problem for one in read_pool(tmp_path / "pool.csv", KINDS)), text
        except StudyError as error:
            assert error.fix


@settings(max_examples=60, deadline=3000, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(
    text=mutated(["structure_id,formula,prototype,part\na,NaCl,225-AB,training\nb,KCl,225-AB,check\nc,LiF,225-AB,\n"])
)
def test_mutated_lists_are_read_in_full_or_refused(tmp_path, text):
    (tmp_path / "pool.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = read_pool(tmp_path / "pool.csv", KINDS)
    except StudyError:
        return
    assert len({one.structure_id for one in found}) == len(found)
    assert all((one.atoms is None) == bool(one.problem) and not problem_of_id(one.structure_id) for one in found)


@pytest.mark.parametrize("formula", [
    "NaCl", "NaKAs", "ZnTe", "Li3Sb", "Cs2KIrCl6", "MgAl2O4", "Li2NaSb", "K2CsSb", "BaLiF3", "SrTiO3", "GaAs", "NaN",
])  # fmt: skip
def test_formulas_are_those_of_chemists_whatever_the_order_of_the_atoms(formula):
    numbers = Atoms(formula).numbers
    for seed in range(3):
        assert formula_of(numpy.random.default_rng(seed).permutation(numpy.tile(numbers, 2))) == formula


def test_parts_of_small_studies_leave_something_to_predict_and_to_judge():
    assert part_sizes(77091, 3182, 400) == (3182, 400)
    assert part_sizes(8, 4, 2) == (4, 2) and part_sizes(8, 8, 0) == (8, 0)
    sizes = {n: part_sizes(n, 3182, 400) for n in (1, 2, 3, 10, 100, 3581)}
    assert sizes == {1: (1, 0), 2: (1, 1), 3: (1, 1), 10: (8, 1), 100: (80, 10), 3581: (2865, 358)}


def test_reasons_are_counted_with_what_differs_left_out():
    reasons = ["formation energy 0.12 above 0.0 eV/atom", "formation energy 1.5 above 0.0 eV/atom"]
    rows = zip("abcde", [*reasons, "same structure as x-1", "same structure as y", "class 186-AB is none of them"])
    records = [{"structure_id": name, "status": "skipped", "reason": reason} for name, reason in rows]
    records.append({"structure_id": "f", "status": "ok", "reason": ""})
    assert count_reasons(records) == count_reasons(pandas.DataFrame(records)) == [
        ("skipped", "formation energy … above … eV/atom", 2, ["a", "b"]),
        ("skipped", "same structure as another", 2, ["c", "d"]),
        ("skipped", "class 186-AB is none of them", 1, ["e"]),
    ]  # fmt: skip


def test_outputs_and_variables_of_the_machine_are_among_what_a_rule_depends_on(tmp_path):
    for name in ("a/vasprun.xml", "a/WAVECAR", "b/x.extxyz", ".hidden/y", "b/x.extxyz~"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert output_files(str(tmp_path)) == [str(tmp_path / name) for name in ("a/vasprun.xml", "b/x.extxyz")]
    assert output_files(None) == []
    states = [vasp_potentials({}), vasp_potentials({"VASP_PP_PATH": str(tmp_path)})]
    for element in ("Na_pv", "Cl"):
        (tmp_path / "potpaw_PBE" / element).mkdir(parents=True)
        (tmp_path / "potpaw_PBE" / element / "POTCAR").write_text("")
        states.append(vasp_potentials({"VASP_PP_PATH": str(tmp_path)}))
    assert len(set(states)) == 4
    reference = {"engine": "vasp", "mode": "run", "calculations": None}
    assert machine_state(reference) == [vasp_potentials(), "run", None]
