"""A study on a real Slurm gives what it gives on one machine, whatever happens to jobs, launcher and node."""

import os
import signal
import time
from collections import Counter

import pytest

from tests.cluster.slurm import PATIENCE_S
from tests.cluster.study import STAGES


def check(study, undisturbed):
    """Compare a study with the undisturbed one, to its last table; no calculation was done twice, no claim is left."""
    wanted, products = undisturbed(), study.products(*STAGES)
    assert {"tables/transport.csv", "tables/headline.csv", "tables/status.csv"} <= set(wanted)
    assert set(products) == set(wanted)
    assert not [name for name, content in wanted.items() if products[name] != content]
    assert not study.finished_twice()
    assert not list((study.folder / ".snakemake/phonoscreen_claims").iterdir()), "a claim has outlived its job"


def test_a_study_whose_launchers_die_submits_no_work_twice(make_study, undisturbed):
    """SIGKILL, a second launcher at once, a second job on one shard, jobs that end while no launcher runs, SIGHUP."""
    study = make_study()
    study.hold()
    first = study.launch("labels", name="first")
    number = study.wait_for_run("relax_structures")[0]
    double = study.submit_again(number)
    study.wait_for(
        lambda: study.logs_say(f"waiting for Slurm job {number}, which works on relax"), "two jobs, one shard"
    )
    study.slurm.change("scancel", double)
    said = study.run("labels", fails=True)
    assert "which still runs: one launcher at a time" in said
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=PATIENCE_S)
    said = study.run("labels", fails=True)
    assert "has ended without removing its lock" in said and "--unlock" in said

    study.run("--unlock")
    second = study.launch("labels", name="second")
    study.wait_for(lambda: study.said("second").count("work of an earlier launcher's SLURM job") == 2, "two jobs found")
    study.hold(False)
    study.wait_for(lambda: "rule_label_forces" in study.said("second"), "the labels are submitted")
    study.hold()
    study.wait_for_run("label_forces")
    os.kill(second.pid, signal.SIGHUP)
    second.wait(timeout=PATIENCE_S)
    study.hold(False)
    study.wait_for(lambda: not study.jobs("PENDING,RUNNING,COMPLETING"), "the jobs have ended alone")

    study.run("--unlock")
    third = study.run("all")
    assert "rule_label_forces" not in third, "what has ended alone is taken as it is"
    check(study, undisturbed)
    submitted = Counter(comment.split()[0] for _, _, comment in study.jobs())
    assert {"relax_structures:shard=0000", "label_forces:shard=0001"} <= set(submitted)
    assert set(submitted.values()) == {1}, "each work was submitted once"
    reports = [comment for comment in submitted if comment.startswith("report:")]
    assert len(reports) == 1 and not [c for c in submitted if c.startswith(("tabulate", "draw", "write"))]
    settings = ["--config", "supercell={displacement_angstrom: 0.02}"]
    assert "displace_supercells" in study.run("-n", "labels", *settings), "changed settings are seen all the same"


def fill(disk):
    """Write to a disk until nothing more fits, and return the file."""
    with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(bytes(1 << 16))
    return disk / "filler"


def test_jobs_that_lack_time_memory_or_disk_or_are_cancelled_go_on_and_the_reason_is_said(
    make_study, undisturbed, small_disk
):
    """A cancelled job, a controller that starts anew, a drained node, out of time, out of memory, a full disk."""
    study = make_study()
    disk = small_disk(study.folder / "results/work", megabytes=20)
    begin = time.monotonic()
    study.run("manifest")
    minutes = 1 + int((time.monotonic() - begin) // 40)  # a job gets the longer, the busier the machine is
    study.hold()
    needs = [f"relax_structures:runtime={minutes}*attempt", "label_forces:mem_mb=attempt*240"]
    (study.folder / "hang").touch()  # one calculation of the relaxation takes forever
    launcher = study.launch("all", "--retries", "5", "--set-resources", *needs)
    study.wait_for_run("relax_structures")
    hanging = study.wait_for(lambda: study.number_in("hang.taken"), "a calculation hangs")
    others = [i for i, _, comment in study.jobs("RUNNING") if i != hanging and "relax" in comment]
    assert others, study.jobs()
    study.slurm.change("scancel", others[0])
    study.hold(False)
    study.slurm.stop("slurmctld")
    study.slurm.start_controller()
    study.wait_for(lambda: "out of time" in study.said(), "the time of the job is over")
    study.slurm.change("scontrol", "update", f"NodeName={study.slurm.host}", "State=DRAIN", "Reason=test")
    study.wait_for(lambda: not study.jobs("RUNNING,COMPLETING"), "what ran on the drained node has ended")
    study.hold()
    study.slurm.change("scontrol", "update", f"NodeName={study.slurm.host}", "State=RESUME")
    study.wait_for(lambda: {job for _, place, job in study.runs() if "label_forces" in place}, "labels are calculated")
    filler = fill(disk)
    study.hold(False)
    study.wait_for(lambda: study.logs_say("No space left on device"), "a job says that the disk is full")
    filler.unlink()
    assert launcher.wait(timeout=PATIENCE_S) == 0, study.said()[-4000:]
    check(study, undisturbed)
    said = study.said()
    assert "ended: cancelled" in said and f"out of time: 00:{minutes:02d}:00 were asked for" in said
    assert "out of memory: 240 MB were asked for" in said and "Attempt 2 of 6 asks for more" in said
