"""The real Slurm of the tests in this folder; they are skipped where ``make test-cluster`` does not start them."""

import os
import shutil
import subprocess
import tempfile
from functools import cache

import pytest

from tests.cluster.slurm import PATIENCE_S, RealSlurm
from tests.cluster.study import STAGES, ClusterStudy


@pytest.fixture(scope="session")
def slurm():
    """A Slurm of one node with four CPUs and two devices that stand for GPUs."""
    if "PHONOSCREEN_CLUSTER" not in os.environ:
        pytest.skip("needs a Slurm that is installed and started as root: make test-cluster")
    folder = tempfile.mkdtemp(prefix="phonoscreen-slurm-")  # folders of pytest are closed to other accounts
    with RealSlurm(folder) as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def first_folder(tmp_path_factory):
    """Where the undisturbed study goes; later studies take its compiled kernels."""
    return tmp_path_factory.mktemp("undisturbed") / "study"


@pytest.fixture(scope="session")
def undisturbed(first_folder, slurm):
    """Return a function of the products of the study that runs here, without Slurm and without faults, to its end.

    It runs beside the first test that wants it; the function waits.
    """
    study = ClusterStudy(first_folder, slurm)
    running = study.start_here("all")

    @cache
    def products():
        assert running.wait(timeout=PATIENCE_S) == 0, study.said("here")[-6000:]
        return study.products(*STAGES)

    yield products
    study.close()


@pytest.fixture
def make_study(tmp_path, slurm, first_folder):
    """Return a function that makes a study in a folder of its own; what still runs of it is ended after the test."""

    made = []

    def make(name="study", **choices):
        made.append(ClusterStudy(tmp_path / name, slurm, compiled=first_folder, **choices))
        return made[-1]

    yield make
    for study in made:
        study.close()


@pytest.fixture
def small_disk():
    """Return a function that mounts a disk of some megabytes on a folder and returns it."""
    mounted = []

    def mount(folder, megabytes):
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False)
