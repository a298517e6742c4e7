"""The commands of the page on a user's own data, copied from it and run."""

import os
import re
import shlex
import subprocess
import sys

import pandas
import pytest
from ase.build import bulk
from ase.io import write

from tests.conftest import ROOT
from tests.replaying_service import Service
from tests.shengbte_files import BORN, EPSILON, write_born
from tests.supercell_files import make_model

PAGE = (ROOT / "docs/your_data.md").read_text()
RECORDS = [
    {"entry_id": number, "duplicate_entry_id": number, "name": name, "spacegroup": "Fm-3m", "delta_e": -1.0,
     "composition_generic": "AB", "stability": 0.0, "unit_cell": [[0, a, a], [a, 0, a], [a, a, 0]],
     "sites": [f"{first} @ 0 0 0", f"{second} @ 0.5 0.5 0.5"]}
    for number, (name, first, second, a) in enumerate(
        [("NaCl", "Na", "Cl", 2.8), ("KCl", "K", "Cl", 3.1), ("MgO", "Mg", "O", 2.1), ("LiF", "Li", "F", 2.0)], 1)
]  # fmt: skip


def command(heading, number=0):
    """A command below a heading of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return shlex.split(re.findall(r"```bash\n(.*?)\n```", section, re.S)[number])


def run(words, folder, *more):
    assert words[0] == "snakemake"
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *words[1:], *more]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def test_i_have_forces_already(tmp_path):
    model = make_model()
    (tmp_path / "my_forces/salt").mkdir(parents=True)
    write(tmp_path / "my_forces/salt/POSCAR-unitcell", model.unit_cell, format="vasp")
    write(tmp_path / "my_forces/salt/forces.extxyz", model.snapshots())
    words = command("I have forces already")
    run(words, tmp_path)
    assert pandas.read_parquet(tmp_path / "results/structures/manifest.parquet")["structure_id"].tolist() == ["salt"]
    assert len(pandas.read_parquet(tmp_path / "results/force_sets/calculations.parquet")) == 6
    words.remove("results/structures/manifest.parquet")
    planned = run(words, tmp_path, "-n", "--quiet", "rules")
    assert "label_forces" in planned and "solve_bte" in planned and "collect_force_sets" not in planned


def test_charges_from_files_come_in_beside_forces(tmp_path):
    model = make_model()
    (tmp_path / "my_forces/salt").mkdir(parents=True)
    (tmp_path / "my_charges/salt").mkdir(parents=True)
    write(tmp_path / "my_forces/salt/POSCAR-unitcell", model.unit_cell, format="vasp")
    write(tmp_path / "my_forces/salt/forces.extxyz", model.snapshots())
    write_born(tmp_path / "my_charges/salt/BORN", EPSILON, BORN)
    words = command("I have forces already", 1)
    target = "results/stability/reference/0000.parquet"
    run(["results/charges/0000.parquet" if word == target else word for word in words], tmp_path)
    found = pandas.read_parquet(tmp_path / "results/charges/0000.parquet").set_index("structure_id").loc["salt"]
    assert found["status"] == "ok" and found["charges_from"] == "BORN"
    assert (found["born_charge_max_e"], found["dielectric_mean"]) == pytest.approx((1.1, 2.4))
    planned = run(words, tmp_path, "-n", "--quiet", "rules")
    assert "fit_force_constants" in planned and "calculate_charges" not in planned


def test_i_use_materials_project(tmp_path):
    service = Service(RECORDS, {1: 502, 2: "reset in body"}, page_size=2)
    service.known += ["_mp_stability"]
    words = command("I use Materials Project")
    address = "https://optimade.materialsproject.org/v1"
    assert sum(address in word for word in words) == 1
    words = [word.replace(address, f"{service.url}/v1") for word in words]
    run(words, tmp_path)
    manifest = pandas.read_parquet(tmp_path / "results/structures/manifest.parquet")
    assert sorted(manifest["formula"]) == ["KCl", "LiF", "MgO", "NaCl"]
    offered = pandas.read_csv(tmp_path / "results/structures/offered.csv").set_index("prototype")
    assert offered.loc["225-AB", ["n_structures", "n_paper"]].tolist() == [4, 681]
    sound, asked = (tmp_path / "mp-2026-11.parquet").read_bytes(), service.requests
    planned = run([*words, "--forcerun", "collect_structures"], tmp_path, "-n", "--quiet", "rules")
    assert "download_structures" not in planned and "collect_structures" in planned
    assert service.requests == asked and (tmp_path / "mp-2026-11.parquet").read_bytes() == sound
    service.shutdown()


def test_i_run_vasp_elsewhere(tmp_path):
    (tmp_path / "my_structures").mkdir()
    write(tmp_path / "my_structures/salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    run(command("I run VASP elsewhere"), tmp_path, "shards=1", "supercell={min_length_angstrom: 7}")
    inputs = tmp_path / "results/work/inputs/calculations"
    listed = (inputs / "folders.txt").read_text().split()
    assert {name.partition("/")[0] for name in listed} == {"salt"} and "salt/perfect" in listed
    assert {path.name for path in (inputs / listed[0]).iterdir()} == {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}
    assert "GGA = PE" in (inputs / listed[0] / "INCAR").read_text()
    assert (inputs / "array.sh").exists()
    calculations = pandas.read_csv(tmp_path / "results/calculations/list.csv")
    assert set(calculations["status"]) == {"missing"}


@pytest.mark.parametrize("heading, rules", [("I run VASP elsewhere", ["index_outputs", "label_forces"])])
def test_outputs_that_were_made_in_another_way_are_found(heading, rules, tmp_path):
    (tmp_path / "my_structures").mkdir()
    (tmp_path / "my_outputs/salt").mkdir(parents=True)
    write(tmp_path / "my_structures/salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    write(tmp_path / "my_outputs/salt/a.extxyz", make_model().snapshots())
    planned = run(command(heading, 1), tmp_path, "-n", "--quiet", "rules")
    assert all(rule in planned for rule in rules)


@pytest.mark.parametrize("number", [0, 1])
def test_i_have_gpaw_here(number, tmp_path):
    """The second was run by hand: a hundred seconds of processor time."""
    (tmp_path / "my_structures").mkdir()
    write(tmp_path / "my_structures/lih.cif", bulk("LiH", "rocksalt", a=4.0, cubic=True))
    words = command("I have GPAW here", number) + (["--directory", str(tmp_path)] if number else [])
    done = subprocess.run(
        [sys.executable, "-m", *words, "-n", "--quiet", "rules"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "label_forces" in done.stdout, (done.stdout + done.stderr)[-3000:]
