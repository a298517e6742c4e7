"""The commands of the page on a user's own data, copied from it and run."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys

import h5py
import numpy
import pandas
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import build_supercell, displaced_supercell
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


def test_outputs_that_were_made_in_another_way_are_found_by_their_positions(tmp_path):
    for folder in ("my_structures", "my_outputs/salt"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "my_structures/salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    words = command("I run VASP elsewhere", 1)
    few = ["shards=1", "supercell={min_length_angstrom: 7, reference_min: 2, reference_oversampling: 1}"]
    run(["results/supercells/0000.h5" if word == "labels" else word for word in words], tmp_path, *few)
    with h5py.File(tmp_path / "results/supercells/0000.h5") as store:
        group = store["salt"]
        perfect = build_supercell(read_atoms(group), group["repetitions"][()])
        frames = [perfect, *(displaced_supercell(perfect, moves) for moves in group["displacements"][()])]
    order = numpy.random.default_rng(0).permutation(len(perfect))
    for number, atoms in enumerate(frames):
        pull = -(atoms.positions - perfect.positions)
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=pull - pull.mean(axis=0))
        one = atoms[order]
        one.calc = SinglePointCalculator(one, energy=0.0, forces=atoms.get_forces()[order])
        write(tmp_path / f"my_outputs/salt/{number}.extxyz", one)
    run(words, tmp_path, *few)
    with h5py.File(tmp_path / "results/labels/0000.h5") as store:
        forces = store["salt/forces"][()]
    wanted = numpy.array([atoms.get_forces() for atoms in frames[1:]])[: len(forces)]
    assert len(forces) >= 2 and forces == pytest.approx(wanted, abs=1e-6)


def in_repository(words, *more):
    """Run a command in the folder of the repository and return what it prints."""
    done = subprocess.run([sys.executable, "-m", *words, *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_i_have_gpaw_here():
    """The study that comes with its calculations is planned; tests/test_dft_product.py goes through them."""
    assert "label_forces" in in_repository(command("I have GPAW here"), "-n", "--quiet", "rules")


@pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")
def test_i_have_gpaw_here_and_structures_of_my_own(tmp_path):
    (tmp_path / "my_structures").mkdir()
    write(tmp_path / "my_structures/lih.cif", bulk("LiH", "rocksalt", a=4.0, cubic=True))
    # Sixteen atoms instead of 54: a minute of processor time.
    few = ["supercell={min_length_angstrom: 5.5, reference_min: 2, reference_oversampling: 1}",
           "force_constants={third_cutoff_angstrom: 2.7}"]  # fmt: skip
    in_repository(command("I have GPAW here", 1), *few, "--directory", str(tmp_path))
    relaxed, labels = (
        pandas.read_parquet(tmp_path / f"results/{stage}/0000.parquet").set_index("structure_id").loc["lih"]
        for stage in ("relaxed", "labels")
    )
    assert labels["status"] == "ok" and relaxed["lattice_constant_angstrom"] == pytest.approx(3.98, abs=0.02)
