"""The real Slurm of the tests in this folder; they are skipped where ``make test-cluster`` does not start them."""

import os

import pytest

from tests.cluster.slurm import RealSlurm
from tests.cluster.study import ClusterStudy


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of one node with two CPUs."""
    if "PHONOSCREEN_CLUSTER" not in os.environ:
        pytest.skip("needs a Slurm that is installed and started as root: make test-cluster")
    with RealSlurm(tmp_path_factory.mktemp("slurm") / "daemons") as running:
        yield running


@pytest.fixture
def make_study(tmp_path, slurm):
    """Return a function that makes a study in a folder of its own."""

    def make(name="study", **choices):
        return ClusterStudy(tmp_path / name, slurm, **choices)

    return make
