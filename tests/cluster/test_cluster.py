"""A study on a real Slurm gives what it gives on one machine, whatever happens to jobs, launcher and node."""

import pytest

STAGES = ("structures", "relaxed", "supercells", "labels", "checked_labels")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, slurm):
    """Products of a study that ran on this machine without Slurm and without faults."""
    from tests.cluster.study import ClusterStudy

    study = ClusterStudy(tmp_path_factory.mktemp("undisturbed") / "study", slurm)
    study.run_here("labels")
    return study.products(*STAGES)


def test_a_study_through_the_profile_gives_what_it_gives_on_one_machine(make_study, undisturbed):
    study = make_study()
    study.run("labels")
    assert study.products(*STAGES) == undisturbed
    assert not study.finished_twice()
    assert not list((study.folder / ".snakemake/phonoscreen_claims").iterdir()), "a claim has outlived its job"
