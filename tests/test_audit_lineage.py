"""Lineage: what made a result is found, and any file that no longer matches is named."""

import os
import subprocess
import sys
import time

import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import Job
from phonoscreen.audit.lineage import Lineage, describe
from phonoscreen.audit.provenance import write_provenance
from tests.conftest import ROOT, Named


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two jobs in a row: settings.txt -> results/a.txt -> results/b.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "settings.txt").write_text("300 K")

    def run(rule, source, target, text):
        snakemake = Snake(rule, [source], [target])
        job = Job(snakemake)
        (tmp_path / target).write_text(text)
        write_provenance(job, [target], started=time.time())

    run("first", "settings.txt", "results/a.txt", "a")
    run("second", "results/a.txt", "results/b.txt", "b")
    return tmp_path, run


class Snake:
    """What Job needs to know of a running Snakemake job."""

    def __init__(self, rule, inputs, outputs):
        self.rule, self.input, self.output = rule, inputs, outputs
        self.params, self.wildcards, self.threads = Named(code="abc", temperature_k=300), Named(), 1
        self.resources = Named()


def states(node):
    return {node.path: node.state} | {k: v for child in node.inputs for k, v in states(child).items()}


def test_an_untouched_result_matches_down_to_its_sources(study):
    node = Lineage().trace("results/b.txt")
    assert states(node) == {"results/b.txt": "ok", "results/a.txt": "ok", "settings.txt": "source"}
    lines, wrong = describe(node)
    assert not wrong and "second" in lines[0] and "abc" in lines[0]


def test_an_edited_result_is_named(study):
    (study[0] / "results/a.txt").write_text("tampered")
    assert states(Lineage().trace("results/b.txt"))["results/a.txt"] == "changed"


def test_an_edited_source_is_named(study):
    (study[0] / "settings.txt").write_text("400 K")
    assert states(Lineage().trace("results/b.txt"))["settings.txt"] == "changed"


def test_a_result_of_an_older_version_is_stale(study):
    folder, run = study
    run("first", "settings.txt", "results/a.txt", "a2")
    assert states(Lineage().trace("results/b.txt"))["results/a.txt"] == "stale"


def test_a_missing_file_is_named(study):
    os.remove(study[0] / "results/a.txt")
    assert states(Lineage().trace("results/b.txt"))["results/a.txt"] == "missing"


def test_an_unknown_result_is_refused(study):
    with pytest.raises(StudyError, match="nothing is known"):
        Lineage().trace("results/c.txt")


def test_the_command_reports_a_mismatch_in_its_exit_status(study):
    command = [sys.executable, "-m", "phonoscreen", "lineage", "results/b.txt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    (study[0] / "results/a.txt").write_text("tampered")
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "results/a.txt  [changed]" in result.stdout
