"""Real DFT codes on a real Slurm: a job cancelled during a calculation, and inputs that are run as an array.

GPAW relaxes LiH and calculates its supercells, pw.x of Quantum ESPRESSO those of silicon, both as loosely as they can:
what is tested is that nothing is lost, repeated or mixed up. A script around the code notes when it begins and ends.
"""

import shutil
import subprocess
import sys
from collections import Counter

import h5py
import numpy
import pandas
import pytest
from ase.build import bulk

from phonoscreen.reference.calculations import read_calculations
from tests.cluster.slurm import PATIENCE_S
from tests.test_espresso import DEBIAN

CODES = {
    "gpaw": (
        {"LiH": bulk("LiH", "rocksalt", a=4.0)},
        {"cutoff_ev": 200, "cutoff_relax_ev": 300, "k_spacing_relax_per_angstrom": 0.4},
        "reference",
        (sys.executable, "gpaw.txt"),
    ),
    "espresso": (
        {"Si": bulk("Si", "diamond", a=5.46)},
        {"cutoff_ev": 200, "density_cutoff_factor": 4},
        "published",
        ("pw.x", "espresso.pwo"),
    ),
}
"""Crystals, settings, what relaxes them, command and output of a code."""
NOTING = """#!/bin/sh
note() {{ echo "$1 $PWD ${{SLURM_JOB_ID:--}}" >> {runs}; }}
note begun
{command} "$@" &
code=$!
if [ -e {hold} ] && [ "${{PWD##*/}}" = {held} ]; then
    until grep -qs iter {log}; do kill -0 $code || exit 1; sleep 0.05; done
    kill -STOP $code
    note held
    while [ -e {hold} ]; do sleep 0.2; done
    kill -CONT $code
fi
wait $code || exit 1
note done
"""
HELD = "1"
"""The supercell whose calculation stands still in its iterations while the file ``hold`` is there, until a test cancels
its job."""
FORCES_SAME = 1e-5
"""eV/angstrom: two runs of one program on the same inputs, forces of a third of an eV/angstrom."""


@pytest.fixture(params=CODES)
def make_dft_study(request, make_study, tmp_path):
    """Return a function that makes a study on a DFT code, whose runs it notes."""
    code = request.param
    if code == "espresso" and not (shutil.which("pw.x") and DEBIAN.exists()):
        pytest.skip("Quantum ESPRESSO is not installed (Debian: quantum-espresso, quantum-espresso-data)")
    compounds, settings, relaxes, (command, log) = CODES[code]
    if code == "espresso":
        settings = {**settings, "potentials": str(tmp_path / "potentials")}
        (tmp_path / "potentials").mkdir()
        shutil.copy(DEBIAN, tmp_path / "potentials")

    def make(name, **reference):
        program, folder = tmp_path / f"{name}-code", tmp_path / name
        words = {"command": command, "log": log, "held": HELD, "runs": folder / "runs.txt", "hold": folder / "hold"}
        program.write_text(NOTING.format(**words))
        program.chmod(0o755)
        own = {"k_spacing_supercell_per_angstrom": 0.8, "k_points": "shifted", **settings, "command": str(program)}
        changes = {
            "shards": 1,
            "source": {"kind": "files", "path": "compounds"},
            "filter": {"classes": "any", "elements": "paper63", "training_structures": 1, "validation_structures": 0},
            "relax": {"engine": relaxes},
            "reference": {"engine": code, "jobs_per_shard": 2, code: own, **reference},
            "supercell": {"min_length_angstrom": 5.0, "reference_oversampling": 1, "reference_min": 2},
            "force_constants": {"third_cutoff_angstrom": 2.45},
        }
        study = make_study(name, compounds=compounds, settings=changes)
        study.hold()
        return study

    return make


def calculations(study):
    """Return the finished calculations of a study by label; none failed, none is there twice."""
    found = [
        one for path in sorted((study.folder / "results/work/calculations").glob("*.jsonl"))
        for one in read_calculations(path)
    ]  # fmt: skip
    assert not [one for one in found if one.failure]
    counts = Counter((one.label, one.positions.tobytes(), one.cell.tobytes()) for one in found)
    assert set(counts.values()) <= {1}, "a step of a relaxation may try several crystals, each once"
    return {one.label: one for one in found}


def wait_for_held(study, launcher=None):
    """Wait until the held supercell is calculated and another one has ended; return its folder and its Slurm job."""

    def held():
        rows = [row for row in study.runs() if "/relax-" not in row[1]]
        found = [(place, job) for what, place, job in rows if what == "held"]
        return found[0] if found and any(what == "done" for what, _, _ in rows) else None

    return study.wait_for(held, "the held supercell is calculated and another one has ended", launcher)


def check_cancelled(study, place, before):
    """Check that only the cancelled calculation began twice, and what had ended before is as it was."""
    begun, done = (
        Counter(where for what, where, _ in study.runs() if what == word and "/relax-" not in where)
        for word in ("begun", "done")
    )
    assert {where: n for where, n in begun.items() if n > 1} == {place: 2} and set(done.values()) == {1}
    after = calculations(study)
    assert before and set(before) < set(after)
    assert all((after[label].results["forces"] == one.results["forces"]).all() for label, one in before.items())


def run_here(study, *arguments):
    """Run a launcher without Slurm to its end, and return what ``list.csv`` says of each calculation."""
    assert study.start_here(*arguments).wait(timeout=PATIENCE_S) == 0, study.said("here")[-6000:]
    listed = pandas.read_csv(study.folder / "results/calculations/list.csv")
    return dict(zip(listed["calculation"], listed["status"], strict=True))


def labels(study):
    """Return every array of the labels of a study."""
    found = {}
    with h5py.File(study.folder / "results/labels/0000.h5") as store:
        store.visititems(lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {}))
    return found


def submit_array(study, folder):
    """Submit the written script from a folder with the inputs, its first lines edited for this cluster."""
    script = folder / "array.sh"
    text = script.read_text()
    assert text.count("--ntasks=16\n") == 1
    script.write_text(text.replace("--ntasks=16\n", "--ntasks=2\n"))
    command = ["sbatch", "--parsable", "--mem=2000M", "--output=array-%a.log", "array.sh"]
    done = subprocess.run(command, cwd=folder, env=study.environment, capture_output=True, text=True, check=True)
    script.write_text(text)
    return done.stdout.strip()


def test_real_dft_goes_on_behind_a_cancelled_job_and_an_array_elsewhere_gives_the_same(make_dft_study, tmp_path):
    study = make_dft_study("jobs")
    launcher = study.launch("calculations", "labels")
    place, job = wait_for_held(study, launcher)
    before = calculations(study)
    study.slurm.change("scancel", job)
    study.wait_for(
        lambda: job not in [number for number, _, _ in study.jobs("RUNNING,COMPLETING")], "the cancelled job has ended"
    )
    study.hold(False)
    assert launcher.wait(timeout=PATIENCE_S) == 0, study.said()[-6000:]
    assert "ended: cancelled" in study.said()
    check_cancelled(study, place, before)

    relaxed = tmp_path / "relaxations.jsonl"
    kept = sorted((study.folder / "results/work/calculations").glob("*.jsonl"))
    lines = [line for path in kept for line in path.read_text().splitlines(keepends=True)]
    relaxed.write_text("".join(line for line in lines if "/relax-" in line))
    other = make_dft_study("array", calculations=str(relaxed))
    states = run_here(other, "calculations", "--config", "reference={mode: write_inputs}")
    wanted = {label.split("/")[1] for label in calculations(study) if "/relax-" not in label}
    assert {name for name, state in states.items() if state == "missing"} == wanted and not other.runs()

    inputs, elsewhere = other.folder / "results/work/inputs/calculations", tmp_path / "elsewhere"
    shutil.move(inputs, elsewhere)
    array = submit_array(other, elsewhere)
    place, _ = wait_for_held(other)
    task = 1 + (elsewhere / "folders.txt").read_text().split().index("/".join(place.split("/")[-2:]))
    other.slurm.change("scancel", f"{array}_{task}")
    other.wait_for(lambda: not other.slurm.ask("squeue", "-h", "-j", array), "the other tasks of the array have ended")
    shutil.move(elsewhere, inputs)
    states = run_here(other, "calculations", "--config", "reference={mode: collect}")
    assert {name: states[name] for name in wanted} == {name: "ok" if name != HELD else "failed" for name in wanted}
    before = calculations(other)

    other.hold(False)
    shutil.move(inputs, elsewhere)
    array = submit_array(other, elsewhere)
    other.wait_for(lambda: not other.slurm.ask("squeue", "-h", "-j", array), "the array has ended")
    shutil.move(elsewhere, inputs)
    states = run_here(other, "calculations", "labels", "--config", "reference={mode: collect}")
    assert set(states.values()) == {"ok"}
    check_cancelled(other, place, before)
    one, two = labels(study), labels(other)
    assert one.keys() == two.keys() and any("forces" in name for name in one)
    for name, array in one.items():
        if array.dtype.kind == "f":
            numpy.testing.assert_allclose(two[name], array, atol=FORCES_SAME, err_msg=name)

    for module in (other.folder / "phonoscreen").rglob("*.py"):
        module.write_text(f"{module.read_text()}\nEDITED = True\n")
    runs = other.runs()
    forced = ["--forcerun", "calculate_relaxations", "calculate_supercells"]
    assert set(run_here(other, "calculations", *forced).values()) == {"ok"}
    assert other.runs() == runs, "an edit of the library repeats no calculation, even where its rules run again"
