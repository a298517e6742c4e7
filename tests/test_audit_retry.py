"""Failures say what is to blame, a shard that fails as a whole is an error, and chosen classes are tried again."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy
import pytest

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import (
    ACCEPTED,
    FAILURES,
    MachineError,
    StudyError,
    announce_accepted,
    culprit,
    engine_blamed,
)
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.audit.retry import find_repeats, leave_request
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.stages.labels import label_supercells
from tests.conftest import ROOT, Named

OUTPUT = {"records": "0000.parquet", "arrays": "0000.h5"}


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error, blame",
    [
        (StudyError("two atoms in one place"), "structure"),
        (StudyError("cutoff too long", blame="settings"), "settings"),
        (caused(StudyError("cannot be read"), OSError(errno.EIO, "Input/output error")), "machine"),
        (MachineError("no licence"), "machine"),
        (ConnectionResetError("connection reset by peer"), "machine"),
        (TimeoutError("no answer"), "machine"),
        (caused(ValueError("wrapped"), StudyError("inner", blame="engine")), "engine"),
        (ZeroDivisionError("division by zero"), "engine"),
    ],
)
def test_an_error_says_what_is_to_blame(error, blame):
    assert culprit(error) == blame and blame in FAILURES


def test_the_engine_is_blamed_for_what_happens_inside_it_but_not_for_the_crystal():
    with pytest.raises(StudyError) as caught, engine_blamed():
        raise StudyError("VASP ended with code 1")
    assert culprit(caught.value) == "engine"
    with pytest.raises(StudyError) as caught, engine_blamed():
        raise StudyError("atoms 0.1 angstrom apart", blame="structure")
    assert culprit(caught.value) == "structure"


def test_an_index_without_supercell_is_a_matter_of_the_settings():
    with pytest.raises(StudyError) as caught:
        label_supercells(None, "salt", {"displacements": numpy.zeros((2, 4, 3))}, [5])
    assert culprit(caught.value) == "settings"


def run(job, reasons, computed=None):
    """Run a shard whose structures fail with the errors given by id, or leave a count and an array."""

    def compute(name):
        if computed is not None:
            computed.append(name)
        if reasons.get(name):
            raise reasons[name]
        return Outcome(values={"count": ord(name), "x": ord(name) / 7}, arrays={"x": numpy.full(3, float(ord(name)))})

    return run_shard(job, list(reasons), compute, stage="solve_bte")


def test_a_shard_in_which_everything_failed_for_one_reason_is_an_error_and_is_tried_again(make_job, monkeypatch):
    monkeypatch.setenv(ACCEPTED, "[]")
    job, computed = make_job(output=OUTPUT), []
    bad = {name: StudyError(f"no file of {ord(name)} found", fix="put it there", blame="engine") for name in "abc"}
    with pytest.raises(StudyError) as caught:
        run(job, bad, computed)
    text = str(caught.value)
    assert "all 3 structures" in text and "engine" in text and "accept_failed_shards: [solve_bte]" in text
    assert not Path(job.output.records).exists()
    run(job, dict.fromkeys("abc"), computed)
    assert computed == list("abcabc") and set(read_records(job.output.records)["status"]) == {"ok"}


@pytest.mark.parametrize("kind", ["accepted", "other reasons", "one ok", "one alone"])
def test_a_shard_whose_failures_may_be_its_result_ends(make_job, monkeypatch, kind):
    monkeypatch.setenv(ACCEPTED, "[]")
    if kind == "accepted":
        announce_accepted(["solve_bte"])
    bad = {name: StudyError("gone", blame="engine") for name in ("a" if kind == "one alone" else "abc")}
    if kind == "other reasons":
        bad["b"] = StudyError("another")
    if kind == "one ok":
        bad["b"] = None
    records = run(make_job(output=OUTPUT), bad)
    assert [record["failure"] for record in records if record["status"] == "failed"].count("engine") >= len(bad) - 1
    assert all(record["failure"] == "" for record in records if record["status"] == "ok")


def test_a_class_that_does_not_exist_or_does_not_belong_is_refused(tmp_path):
    record = {"structure_id": "a", "stage": "s", "status": "failed", "reason": "r", "failure": "weather"}
    with pytest.raises(ValueError, match="weather"):
        write_records([record], tmp_path / "r.parquet")
    with pytest.raises(ValueError, match="failure"):
        write_records([{**record, "status": "unstable", "failure": "engine"}], tmp_path / "r.parquet")


SCRIPT = """
import json
from pathlib import Path
import numpy
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.kept import digest_of_arrays
from phonoscreen.audit.shard import Outcome, run_shard

def main(job):
    def compute(name):
        with open("computed", "a") as stream:
            stream.write(name)
        faults = json.loads(Path("faults.json").read_text())
        if name in faults:
            raise StudyError(f"trouble of {faults[name]}", blame=faults[name])
        return Outcome(values={"count": ord(name)}, arrays={"x": numpy.full(3, float(ord(name)))})
    own = (lambda name: digest_of_arrays(name)) if job.rule == "label_forces" else None
    run_shard(job, list("abcde"), compute, stage=job.rule, own_inputs=own)

run_job(snakemake, main)
"""
SNAKEFILE = """
import os, sys
sys.path.insert(0, {root!r})
from phonoscreen.audit.remake import announce_call
if workflow.is_main_process:
    announce_call(workflow)
os.environ["PYTHONPATH"] = {root!r}
rule {rule}:
    output:
        arrays="results/products/0000.h5",
        records="results/products/0000.parquet",
    log:
        "logs/a.log",
    script:
        "script.py"
"""


@pytest.mark.parametrize("rule", ["label_forces", "solve_bte"])
def test_retry_repeats_the_chosen_classes_alone_and_ends_where_an_undisturbed_run_does(tmp_path, monkeypatch, rule):
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text(SCRIPT)
    Path("Snakefile").write_text(SNAKEFILE.format(root=str(ROOT), rule=rule))
    faults = {"b": "engine", "c": "machine", "d": "structure"}
    Path("faults.json").write_text(json.dumps(faults))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    before = read_records("results/products/0000.parquet").set_index("structure_id")
    assert before["failure"].to_dict() == {"a": "", "e": "", **faults}
    Path("computed").write_text("")
    assert main(["retry", "--class", "machine,engine", "-n"]) == 0 and Path("computed").read_text() == ""
    Path("faults.json").write_text(json.dumps({"c": "machine", "d": "structure"}))
    assert main(["retry", "--class", "machine,engine"]) == 0
    assert Path("computed").read_text() == "bc", "the two chosen classes and nothing else"
    after = read_records("results/products/0000.parquet").set_index("structure_id")
    assert after["status"].to_dict() == {"a": "ok", "b": "ok", "c": "failed", "d": "failed", "e": "ok"}
    Path("faults.json").write_text("{}")
    assert main(["retry", "--class", "structure,machine"]) == 0
    assert Path("computed").read_text() == "bccd"
    table = read_records("results/products/0000.parquet")
    assert table["count"].dtype == int and list(table["count"]) == [ord(name) for name in "abcde"]
    with h5py.File("results/products/0000.h5") as store:
        assert [store[f"{name}/x"][0] for name in "abcde"] == [ord(name) for name in "abcde"]
    assert not list(Path("results/work").rglob("retry.*")), "the request was met"
    assert main(["retry", "--class", "machine"]) == 0 and main(["verify"]) == 0


def test_a_study_in_another_folder_than_its_snakefile_is_repeated_from_its_own(tmp_path, monkeypatch):
    """``snakemake --directory STUDY``: the command of the record is typed in STUDY, where there is no Snakefile."""
    study = tmp_path / "study"
    study.mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(root=str(ROOT), rule="solve_bte"))
    (study / "faults.json").write_text('{"c": "machine"}')
    command = [sys.executable, "-m", "snakemake", "--directory", "study", "--cores", "1", "--quiet", "all"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.chdir(study)
    Path("faults.json").write_text("{}")
    assert main(["retry", "--class", "machine"]) == 0
    assert set(read_records("results/products/0000.parquet")["status"]) == {"ok"}


def test_retry_refuses_a_class_that_does_not_exist_and_a_damaged_product(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["retry", "--class", "weather"]) == 2 and "'weather'" in capsys.readouterr().err
    assert main(["retry", "--class", ""]) == 2
    from phonoscreen.audit.provenance import write_provenance

    output = Named(records="results/a/0000.parquet")
    Path("results/a").mkdir(parents=True)
    rows = [{"structure_id": "a", "stage": "s", "status": "failed", "reason": "r", "failure": "engine"}]
    write_records(rows, output.records)
    job = SimpleNamespace(rule="s", params={}, wildcards={"shard": "0000"}, key="k", inputs={})
    write_provenance(job, output.values(), started=0.0)
    (repeat,), counted = find_repeats(["engine"])
    assert repeat.counts == {"engine": 1} and counted == {("s", "engine"): 1}
    Path(output.records).write_bytes(Path(output.records).read_bytes() + b"x")
    with pytest.raises(StudyError, match="bytes"):
        leave_request(repeat, ["engine"])
    Path(output.records).write_bytes(b"")
    assert main(["retry", "--class", "engine"]) == 2
    assert "0000.parquet cannot be read" in (said := capsys.readouterr().err) and "phonoscreen verify" in said


def test_outside_of_a_study_nothing_is_called_finished(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["retry", "--class", "machine"]) == 2
    assert "change to the folder of the study" in capsys.readouterr().err
