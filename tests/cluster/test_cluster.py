"""A study on a real Slurm gives what it gives on one machine, whatever happens to jobs, launcher and node."""

import os
import signal
from collections import Counter

import pytest

from tests.cluster.study import ClusterStudy

STAGES = ("structures", "relaxed", "supercells", "labels", "checked_labels")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, slurm):
    """Products of a study that ran on this machine without Slurm and without faults."""
    study = ClusterStudy(tmp_path_factory.mktemp("undisturbed") / "study", slurm)
    study.run_here("labels")
    return study.products(*STAGES)


def check(study, undisturbed):
    """Compare a study with the undisturbed one; no calculation was done twice and no claim is left."""
    assert study.products(*STAGES) == undisturbed
    assert not study.finished_twice()
    assert not list((study.folder / ".snakemake/phonoscreen_claims").iterdir()), "a claim has outlived its job"


def test_a_study_whose_launchers_die_submits_no_work_twice(make_study, undisturbed):
    """SIGKILL, a second launcher at once, an end of a job while no launcher runs, SIGHUP; what the pages says to do."""
    study = make_study()
    study.hold()
    first = study.launch("labels", name="first")
    study.wait_for_run("relax_structures")
    said = study.run("labels", fails=True)
    assert "which still runs: one launcher at a time" in said
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    said = study.run("labels", fails=True)
    assert "has ended without removing its lock" in said and "--unlock" in said

    study.run("--unlock")
    second = study.launch("labels", name="second")
    study.wait_for(lambda: study.said("second").count("work of an earlier launcher's SLURM job") == 2, "two jobs found")
    study.hold(False)
    study.wait_for(lambda: "rule label_forces" in study.said("second"), "the labels are submitted")
    study.hold()
    study.wait_for_run("label_forces")
    os.kill(second.pid, signal.SIGHUP)
    second.wait()
    study.hold(False)
    study.wait_for(lambda: not study.jobs("PENDING,RUNNING,COMPLETING"), "the jobs have ended alone")

    study.run("--unlock")
    third = study.run("labels")
    assert "rule label_forces" not in third, "what has ended alone is taken as it is"
    check(study, undisturbed)
    submitted = Counter(comment for _, _, comment in study.jobs())
    assert set(submitted.values()) == {1}, "each work was submitted once"
    settings = ["--config", "supercell={displacement_angstrom: 0.02}"]
    assert "displace_supercells" in study.run("-n", "labels", *settings), "changed settings are seen all the same"


def test_jobs_that_are_cancelled_or_lack_time_or_memory_go_on_and_the_reason_is_said(make_study, undisturbed):
    """A cancelled job, a controller that starts anew, a drained node, out of time, out of memory."""
    study = make_study()
    study.hold()
    needs = ["relax_structures:runtime=attempt", "label_forces:mem_mb=attempt*240"]
    (study.folder / "hang").touch()  # one calculation of the relaxation takes forever
    launcher = study.launch("labels", "--set-resources", *needs)
    study.wait_for_run("relax_structures")
    hanging = study.wait_for(lambda: study.number_in("hang.taken"), "a calculation hangs")
    others = [i for i, _, comment in study.jobs("RUNNING") if i != hanging and "relax" in comment]
    assert others, study.jobs()
    study.slurm.change("scancel", others[0])
    study.hold(False)
    study.slurm.stop("slurmctld")
    study.slurm.start_controller()
    study.wait_for(lambda: "out of time" in study.said(), "the time of the job is over", seconds=240)
    study.slurm.change("scontrol", "update", f"NodeName={study.slurm.host}", "State=DRAIN", "Reason=test")
    study.wait_for(lambda: not study.jobs("RUNNING,COMPLETING"), "what ran on the drained node has ended")
    study.slurm.change("scontrol", "update", f"NodeName={study.slurm.host}", "State=RESUME")
    assert launcher.wait(timeout=400) == 0, study.said()[-4000:]
    check(study, undisturbed)
    said = study.said()
    assert "ended: cancelled" in said and "out of time: 00:01:00 were asked for" in said
    assert "out of memory: 240 MB were asked for" in said and "Attempt 2 of 3 asks for more" in said


def test_a_full_disk_of_the_node_stops_the_job_and_no_structure(make_study, undisturbed, small_disk):
    study = make_study()
    disk = small_disk(study.folder / "results/work", megabytes=20)
    study.run("structures")
    study.hold()
    launcher = study.launch("labels")
    study.wait_for_run("label_forces")
    with (disk / "filler").open("wb") as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    study.hold(False)
    study.wait_for(lambda: "SLURM job" in study.said() and "ended" in study.said(), "the job fails")
    (disk / "filler").unlink()
    assert launcher.wait(timeout=400) == 0, study.said()[-4000:]
    check(study, undisturbed)
