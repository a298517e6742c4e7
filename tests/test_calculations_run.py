"""A study on a DFT code through Snakemake: inputs written, run elsewhere in parts, collected, nothing repeated."""

import csv
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Stands for GPAW: springs between all pairs, the same crystal and settings in, the same file out.
PROGRAM = """
import json, sys
from ase import Atoms
from ase.calculators.emt import EMT
given = json.load(open("calculation.json"))
open(sys.argv[1], "a").write("x")
atoms = Atoms(given["numbers"], positions=given["positions"], cell=given["cell"], pbc=True, calculator=EMT())
json.dump({"energy_ev": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist(),
           "stress": atoms.get_stress(voigt=False).tolist(), "version": "springs"}, open("results.json", "w"))
"""
POOL = "structure_id,formula,prototype,part\ncu3au-221,AuCu3,221-AB3,training\nni3al-221,AlNi3,221-AB3,training\n"
STUDY = """
shards: 1
source: {{kind: pool, path: {folder}/pool.csv}}
reference:
  engine: gpaw
  gpaw: {{command: "{python} {folder}/program.py {folder}/count"}}
supercell: {{min_length_angstrom: 7.0, reference_min: 2, reference_oversampling: 1, network_min: 2,
  network_oversampling: 1}}
force_constants: {{third_cutoff_angstrom: 3.0}}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "pool.csv").write_text(POOL)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "study.yaml").write_text(STUDY.format(folder=tmp_path, python=sys.executable))
    return tmp_path


def snakemake(study, target, *settings):
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(study),
        "--configfile", str(study / "study.yaml"), "--cores", "1", "--quiet", "all", "--rerun-triggers", "mtime",
        "params", "input", *(["--config", *settings] if settings else []), "--", target,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with open(study / "results/calculations/list.csv") as stream:
        return {(row["structure_id"], row["calculation"]): row["status"] for row in csv.DictReader(stream)}


def runs(study):
    return len((study / "count").read_text()) if (study / "count").exists() else 0


def finished(study):
    paths = (study / "results/work/calculations").glob("*.jsonl")
    return len("".join(path.read_text() for path in paths).splitlines())


def test_inputs_are_carried_run_and_collected_and_no_calculation_is_repeated(study):
    written = snakemake(study, "calculations", "reference={mode: write_inputs}")
    inputs = study / "results/work/inputs/calculations"
    folders = (inputs / "folders.txt").read_text().splitlines()
    assert folders == ["cu3au-221/relax-0", "ni3al-221/relax-0"]
    assert (set(written.values()), runs(study)) == ({"missing"}, 0)
    subprocess.run(["bash", str(inputs / "array.sh"), "1"], check=True, capture_output=True)
    assert runs(study) == 1
    collected = snakemake(study, "calculations", "reference={mode: collect}")
    assert set(collected.values()) == {"missing"}  # the next step of one, the first of the other
    assert not (inputs / "cu3au-221/relax-0").exists()
    assert finished(study) == runs(study) == 1
    subprocess.run(["bash", str(inputs / "array.sh"), "2"], check=True, capture_output=True)
    snakemake(study, "calculations", "reference={mode: collect}")  # the same command as before
    assert not (inputs / "ni3al-221/relax-0").exists()
    assert finished(study) == runs(study) == 2
