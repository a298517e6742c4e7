"""What compute nodes and their file systems ask of the jobs: no network, no locks, scratch on the node's own disk."""

import fcntl
import os
import re
import subprocess
import sys
import tempfile

import h5py
import pytest

from phonoscreen.stages.other_solvers import solve_with_shengbte
from phonoscreen.transport.scattering import _make_matrix
from phonoscreen.workflow.code import modules_of
from phonoscreen.workflow.environment import prepare_jobs
from tests.conftest import ROOT
from tests.test_workflow_plan import rules, scripts_of

WEIGHTS = "phonoscreen/formats/weights.py"
"""Fetched before the first job: ``phonoscreen.workflow.slurm.preflight`` stops a study whose jobs would miss them."""


def importing(module, files):
    """Return the files of some that import a module."""
    pattern = re.compile(rf"^\s*(?:import {module}\b|from {module}\b)", re.M)
    return {path for path in files if pattern.search((ROOT / path).read_text())}


@pytest.fixture(scope="module")
def files():
    """The project's files that each rule runs, by rule."""
    return {name: modules_of(*scripts_of(name, body)) for name, body in rules().items()}


def test_what_speaks_to_a_network_runs_where_the_launcher_runs(files):
    speaking = {
        name
        for name, paths in files.items()
        if any(importing(module, paths) - {WEIGHTS} for module in ("requests", r"urllib\.request", r"http\.client"))
    }
    assert speaking == {"download_structures", "collect_structures"}
    assert all(re.search(r"^    localrule: True$", rules()[name], re.M) for name in speaking)


def test_no_job_takes_a_lock_on_a_file(files):
    assert {name: importing("fcntl", paths) for name, paths in files.items() if importing("fcntl", paths)} == {}


def test_jobs_write_their_files_in_utf_8_whatever_the_locale_is(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONUTF8", "")  # put back afterwards
    del os.environ["PYTHONUTF8"]
    prepare_jobs(ROOT)
    assert os.environ["PYTHONUTF8"] == "1"


def test_hdf5_takes_none_either_in_the_environment_of_the_jobs(tmp_path, monkeypatch):
    """A file that a job writes can be locked by another process, which it cannot where HDF5 holds a lock of its own."""
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "")  # put back afterwards
    del os.environ["HDF5_USE_FILE_LOCKING"]
    prepare_jobs(ROOT)
    code = "import h5py, sys; h5py.File(sys.argv[1], 'w'); print(flush=True); sys.stdin.read()"
    for environment, is_free in (({}, True), ({"HDF5_USE_FILE_LOCKING": "TRUE"}, False)):
        path = tmp_path / f"{is_free}.h5"
        command = [sys.executable, "-c", code.replace("h5py.File(", "store = h5py.File("), str(path)]
        with subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as job:
            job.stdout.readline()
            with path.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found = True
                except BlockingIOError:
                    found = False
            job.stdin.close()
        assert found is is_free
    with h5py.File(path) as store:
        assert not list(store)


def test_matrices_and_folders_of_one_job_alone_are_on_the_disk_that_tmpdir_names(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    matrix = _make_matrix((40, 30), memory_gib=0.0)
    matrix[:] = 1.0
    with open("/proc/self/maps") as stream:
        assert any(str(tmp_path) in line for line in stream), "a matrix beyond the memory is a file there"
    del matrix
    monkeypatch.setattr("phonoscreen.formats.shengbte.write_directory", lambda *_, **__: None)
    seen = tmp_path / "seen"
    settings = {"command": f"sh -c 'pwd > {seen}; for n in RTA CONV; do echo 300 1 2 3 4 5 6 7 8 9 > "
                           "BTE.KappaTensorVsT_$n; done'", "scalebroad": 1.0, "isotopes": True,
                "iterations_max": 1, "iterations_tolerance": 1.0}  # fmt: skip
    found = solve_with_shengbte(None, None, None, (1, 1, 1), 300.0, settings)
    assert found["full"][2, 2] == 9 and seen.read_text().startswith(f"{tmp_path}/")
    assert [path.name for path in tmp_path.iterdir()] == ["seen"], "the folder ends with the calculation"
