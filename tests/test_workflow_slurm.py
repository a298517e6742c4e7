"""What jobs ask Slurm for, how they are recognised, and claims: without a Slurm (make test-cluster has a real one)."""

import logging
import multiprocessing
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.slurm import claims, queue
from phonoscreen.workflow.slurm.executor import StudyExecutor, refuse_arrays
from phonoscreen.workflow.slurm.partitions import read_partitions
from phonoscreen.workflow.slurm.site import Site, read_site
from phonoscreen.workflow.slurm.submission import identity_of, needs_of, request_of

SINFO = (
    "main*|64|256000|2-00:00:00|(null)\ngpu|32+|512000+|1-00:00:00|gpu:a100:4(S:0-1),shard:8\nshort|64|256000|30:00|gpu"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_limits_of_partitions_are_read_from_sinfo():
    found = read_partitions(SINFO)
    assert (found["main"].cpus, found["main"].memory_mb, found["main"].minutes) == (64, 256000, 2880)
    assert found[""] == found["main"]
    assert [found[name].gpus for name in ("main", "gpu", "short")] == [0, 4, 1]
    assert found["short"].minutes == 30
    assert read_partitions("long*|1|1|infinite|gpu:2")["long"].minutes == float("inf")


def test_the_numbers_of_a_rule_reach_slurm_beside_those_of_the_site():
    site = Site(account="crystals", partition="main", gpu_partition="gpu", qos="night")
    options = request_of({"mem_mb": 700, "runtime": 12, "tasks": 8}, 1, site, read_partitions(SINFO)).options
    asked = {"--mem=700M", "--time=12", "--ntasks=8", "--cpus-per-task=1"}
    assert set(options) == asked | {"--account=crystals", "--partition=main", "--qos=night"}
    on_a_gpu = request_of({"mem_mb": 700, "runtime": 12, "gpu": 2}, 1, site, read_partitions(SINFO)).options
    assert "--gpus=2" in on_a_gpu and "--partition=gpu" in on_a_gpu
    chosen = request_of({"mem_mb": 700, "slurm_partition": "short"}, 1, site, None).options
    assert chosen.index("--partition=short") > chosen.index("--partition=main"), "sbatch takes the last one"
    account = {"mem_mb": 700, "runtime": 12, "slurm_account": "crystals"}  # --default-resources slurm_account=crystals
    assert {"--mem=700M", "--time=12", "--account=crystals"} <= set(request_of(account, 1, Site(), None).options)


def test_a_job_asks_for_no_more_than_a_node_of_its_partition_has_and_says_so():
    request = request_of({"mem_mb": 900_000, "runtime": 1440}, 128, Site(partition="short"), read_partitions(SINFO))
    assert {"--mem=256000M", "--time=30", "--cpus-per-task=64"} <= set(request.options)
    assert len(request.capped) == 3 and all("partition short" in words for words in request.capped)
    assert request_of({}, 16, Site(threads_max=4), None).cpus == 4


def test_without_a_site_file_the_variables_and_defaults_of_slurm_hold(here, monkeypatch):
    assert read_site() == Site()
    assert request_of({}, 1, Site(), None).options == ["--ntasks=1", "--cpus-per-task=1"]
    monkeypatch.setenv("SBATCH_PARTITION", "short")
    assert "--time=30" in request_of({"runtime": 60}, 1, Site(), read_partitions(SINFO)).options


def test_a_site_file_with_a_wrong_key_is_refused(here):
    Path("site.yaml").write_text("account: crystals\npartitoin: main\nthreads_max: 0\n")
    with pytest.raises(StudyError, match=r"(?s)threads_max.*partitoin.*its keys are account, partition"):
        read_site()
    Path("site.yaml").write_text("account: crystals\n")
    assert read_site().account == "crystals"


def make_job(path, **params):
    items = SimpleNamespace(_allitems=lambda: list(params.items()))
    return SimpleNamespace(
        is_group=lambda: False, rule=SimpleNamespace(name="fit"), wildcards_dict={"shard": "0001"},
        params=items, input=[path],
    )  # fmt: skip


def test_a_job_is_recognised_by_its_work_settings_and_inputs_but_not_by_what_runs_nothing_again(tmp_path):
    path = tmp_path / "input"
    path.write_text("a")
    work, digest = identity_of(make_job(path, cutoff=3, code="x"), lambda rule: ["code"])
    assert work == "fit:shard=0001"
    assert identity_of(make_job(path, cutoff=3, code="y"), lambda rule: ["code"]) == (work, digest)
    assert identity_of(make_job(path, cutoff=4, code="x"), lambda rule: ["code"])[1] != digest
    path.write_text("other")
    assert identity_of(make_job(path, cutoff=3, code="x"), lambda rule: ["code"])[1] != digest


def make_group(*members):
    return SimpleNamespace(is_group=lambda: True, groupid="lattice", jobs=list(members))


def test_the_jobs_of_a_group_run_one_after_another_in_one_job(tmp_path):
    first = SimpleNamespace(resources={"mem_mb": 900, "runtime": 10, "slurm_partition": "short"}, threads=1)
    second = SimpleNamespace(resources={"mem_mb": 400, "runtime": 20, "gpu": 1}, threads=2)
    resources, threads = needs_of(make_group(first, second))
    assert (resources, threads) == ({"mem_mb": 900, "runtime": 30, "gpu": 1, "slurm_partition": "short"}, 2)


def test_what_is_left_of_a_group_is_known_as_that_group(tmp_path):
    (tmp_path / "relaxed").write_text("a")
    bases, supercells = make_job(tmp_path / "relaxed"), make_job(tmp_path / "bases")
    bases.output, supercells.output = [tmp_path / "bases"], [tmp_path / "supercells"]
    bases.rule, supercells.rule = SimpleNamespace(name="build"), SimpleNamespace(name="displace")
    whole = identity_of(make_group(bases, supercells), lambda rule: [])
    rest = identity_of(make_group(supercells), lambda rule: [])
    assert whole[0] == rest[0] == "lattice:displace:shard=0001" and whole[1] != rest[1]
    assert identity_of(make_group(supercells, bases), lambda rule: []) == whole


def test_states_of_the_accounts_and_of_the_queue_are_put_together(monkeypatch):
    answers = {
        "sacct": "1|CANCELLED by 1000\n2|RUNNING\n3|OUT_OF_MEMORY\n",
        "squeue": "2|COMPLETING\n4|PENDING\n9|RUNNING\n",
    }
    monkeypatch.setattr(queue, "ask", lambda program, *_: answers[program])
    assert queue.states_of("12345") == {"1": "CANCELLED", "2": "COMPLETING", "3": "OUT_OF_MEMORY", "4": "PENDING"}
    monkeypatch.setattr(queue, "ask", lambda program, *_: None)
    assert queue.states_of("1") is None
    assert queue.is_alive("1"), "without an answer a claim holds"


def test_the_reason_why_a_job_ended_is_said_in_words(monkeypatch, tmp_path):
    row = "7|{}|0:9|200M||00:05:00|00:01:40|node3\n7.batch|FAILED|0:9||316024K||00:01:40|node3\n"
    log = tmp_path / "log"
    log.write_text("slurmstepd: error: StepId=7.batch exceeded memory limit (9 > 8), being killed\n")

    def why(state, account, log=None):
        monkeypatch.setattr(queue, "ask", lambda *_: row.format(account))
        return queue.why_ended("7", state, log)

    assert why("FAILED", "FAILED", log) == "out of memory: 200 MB were asked for, 309 MB were used on node3"
    assert why("OUT_OF_MEMORY", "OUT_OF_MEMORY").startswith("out of memory: 200 MB")
    assert why("TIMEOUT", "TIMEOUT") == "out of time: 00:05:00 were asked for on node3"
    assert why("CANCELLED", "CANCELLED by 1000") == "cancelled by user 1000 after 00:01:40 on node3"
    assert why("FAILED", "FAILED") == "failed, exit code 0:9, after 00:01:40 on node3"
    monkeypatch.setattr(queue, "ask", lambda *_: None)
    assert "out of time" in queue.why_ended("7", "TIMEOUT")


def test_a_claim_of_a_living_job_is_waited_for_and_that_of_a_dead_one_taken(here):
    living = {"1"}
    path = claims.claim("fit,shard=0001", "1", alive=living.__contains__)
    assert list(claims.held()) == [(path.name, "1")]
    claims.claim("fit,shard=0001", "1", alive=living.__contains__)  # Slurm has started the same job again
    waiting = threading.Thread(
        target=claims.claim, args=("fit,shard=0001", "2"), kwargs={"alive": living.__contains__, "pause_s": 1.0}
    )
    waiting.start()
    time.sleep(0.3)
    assert path.read_text() == "1"
    assert list(claims.FOLDER.iterdir()) == [path], "a job that is killed while it waits would leave a file behind"
    living.clear()
    waiting.join(timeout=5)
    assert path.read_text() == "2"
    claims.release(path, "1", os.getpid())
    assert path.exists(), "a job removes no claim of another"
    claims.release(path, "2", os.getpid())
    assert not list(claims.FOLDER.iterdir())


def take_turns(number, folder, out):
    os.chdir(folder)
    path = claims.claim("fit,shard=0001", str(number), alive=lambda other: other != "dead", pause_s=0.01)
    start = time.monotonic()
    time.sleep(0.05)
    out.put((start, time.monotonic()))
    claims.release(path, str(number), os.getpid())


def test_of_many_jobs_one_at_a_time_holds_a_claim_that_a_dead_job_has_left(here):
    claims.FOLDER.mkdir(parents=True)
    (claims.FOLDER / "fit,shard=0001").write_text("dead")
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    jobs = [context.Process(target=take_turns, args=(n, here, out)) for n in range(6)]
    for job in jobs:
        job.start()
    turns = sorted(out.get(timeout=20) for _ in jobs)
    for job in jobs:
        job.join()
    assert all(end <= begin for (_, end), (begin, _) in zip(turns, turns[1:])), "two held it at the same time"


def test_a_job_claims_what_its_snakemake_call_names(here, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(claims, "is_alive", lambda number: False)
    claims.claim_work(
        ["--snakefile", "x", "--target-jobs", "solve:shard=0001,source=reference", "table:", "--cores", "1"]
    )
    assert {work for work, _ in claims.held()} == {claims.file_name("solve,shard=0001,source=reference"), "table"}
    monkeypatch.delenv("SLURM_JOB_ID")
    claims.claim_work(["--target-jobs", "other:"])
    assert len(list(claims.held())) == 2


def test_a_launcher_that_lists_no_rules_says_all_the_same_why_a_job_ended(caplog, tmp_path):
    """The profile's ``quiet: rules`` hides what Snakemake itself prints about a job that failed."""
    executor = object.__new__(StudyExecutor)
    executor.logger, reported = logging.getLogger("launcher"), []
    executor._unwatched = lambda rule: []
    executor.report_job_error = reported.append
    info = SimpleNamespace(job=make_job(tmp_path / "input"))
    executor._report_end(info, "SLURM job 7 ended: out of time.")
    (record,) = caplog.records
    assert record.getMessage() == "fit:shard=0001: SLURM job 7 ended: out of time."
    assert record.levelno == logging.ERROR and not hasattr(record, "event") and reported == [info]


def test_an_array_whose_jobs_no_later_launcher_could_find_is_refused():
    refuse_arrays(SimpleNamespace(array_jobs=None))
    with pytest.raises(StudyError, match="(?s)--slurm-array-jobs all.*leave the option out"):
        refuse_arrays(SimpleNamespace(array_jobs="all"))
