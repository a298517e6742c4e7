"""Shards: nothing finished is lost, one bad structure never stops the others, statuses sum to the manifest."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import h5py
import numpy
import pandas
import pytest

from phonoscreen.audit import pieces
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.audit.shard import Outcome, run_shard
from tests.conftest import ROOT

OUTPUT = {"records": "0000.parquet", "arrays": "0000.h5"}


def test_each_outcome_is_recorded_and_the_run_goes_on(make_job):
    def compute(structure_id):
        if structure_id == "b":
            raise StudyError("no neighbours", where="b", fix="give it a friend")
        if structure_id == "c":
            raise ZeroDivisionError("division by zero")
        return Outcome(values={"energy_ev": numpy.float64(1.5)}, arrays={"forces": numpy.ones((2, 3))})

    job = make_job(output=OUTPUT)
    upstream = pandas.DataFrame(
        [{"structure_id": i, "stage": "before", "status": s, "reason": "x" * (s != "ok")} for i, s in
         [("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "unstable")]]
    )  # fmt: skip
    run_shard(job, ["a", "b", "c", "d", "e"], compute, stage="test", upstream=upstream)
    records = read_records(job.output.records).set_index("structure_id")
    assert Counter(records["status"]) == {"ok": 1, "failed": 2, "skipped": 2}
    assert "give it a friend" in records.loc["b", "reason"]
    assert records.loc["c", "reason"] == "ZeroDivisionError: division by zero"
    assert records.loc["d", "reason"] == "before: unstable"
    assert "no record" in records.loc["e", "reason"]
    with h5py.File(job.output.arrays) as store:
        assert list(store) == ["a"]
        assert store["a/forces"].shape == (2, 3)


WORKER = """
import sys, time
from types import SimpleNamespace
import numpy
from phonoscreen.audit.shard import Outcome, run_shard
from tests.conftest import Named
folder, key = sys.argv[1:]
def compute(structure_id):
    with open(folder + "/computed", "a") as stream:
        stream.write(structure_id + "\\n")
    time.sleep(0.05)
    return Outcome(values={"number": int(structure_id)}, arrays={"x": numpy.full(3, float(structure_id))})
output = Named(records=folder + "/r.parquet", arrays=folder + "/a.h5")
job = SimpleNamespace(output=output, key=key, work=folder + "/work")
run_shard(job, [str(n) for n in range(30)], compute, stage="test")
"""


def test_a_killed_shard_continues_where_it_stopped(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(tmp_path), "same"]
    process = subprocess.Popen(command, env=environment)
    while not (tmp_path / "computed").exists() or len((tmp_path / "computed").read_text().split()) < 8:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "r.parquet").exists() and not (tmp_path / "a.h5").exists()
    subprocess.run(command, env=environment, check=True)
    counts = Counter((tmp_path / "computed").read_text().split())
    assert set(counts) == {str(n) for n in range(30)}
    assert sum(counts.values()) <= 31  # at most the one under way at the kill is computed twice
    assert list(read_records(tmp_path / "r.parquet")["number"]) == list(range(30))
    with h5py.File(tmp_path / "a.h5") as store:
        assert len(store) == 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "computed", "r.parquet"]


def test_a_long_shard_keeps_few_files_and_goes_on_from_them(make_job, monkeypatch):
    monkeypatch.setattr(pieces, "PACKED_AT", 4)
    job, ids, computed, most, stop_at = make_job(output=OUTPUT), [str(n) for n in range(30)], [], 0, None

    def compute(structure_id):
        nonlocal most
        most = max(most, sum(path.is_file() for path in job.work.rglob("*")))
        if structure_id == stop_at:
            raise KeyboardInterrupt
        computed.append(structure_id)
        return Outcome(values={"number": int(structure_id)}, arrays={"x": numpy.full(3, float(structure_id))})

    for last in ("11", "22"):
        stop_at = last
        with pytest.raises(KeyboardInterrupt):
            run_shard(job, ids, compute, stage="test")
    packs = sorted((job.work / "outcomes.test").glob("pack.*.h5"))
    assert len(packs) == 5
    packs[1].write_bytes(packs[1].read_bytes()[:-1])  # damaged: its four structures are computed again
    stop_at = None
    run_shard(job, ids, compute, stage="test")
    assert Counter(computed) == {i: 2 if i in "4567" else 1 for i in ids}
    assert list(read_records(job.output.records)["number"]) == list(range(30))
    with h5py.File(job.output.arrays) as store:
        assert {name: store[name]["x"][0] for name in store} == {i: float(i) for i in ids}
    assert most <= 2 * 30 / 4 + 2 * 4 and not job.work.exists()


def test_outcomes_of_other_settings_are_not_reused(tmp_path, make_job):
    stale = tmp_path / "work/outcomes.oldkey"
    stale.mkdir(parents=True)
    (stale / "junk.json").write_text("{}")
    job = make_job(output=OUTPUT, key="newkey")
    run_shard(job, ["a"], lambda structure_id: Outcome(values={"n": 1}), stage="test")
    assert list(read_records(job.output.records)["n"]) == [1]
    assert not stale.exists()


@pytest.mark.parametrize("suffix", ["json", "h5"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
def test_a_damaged_piece_of_an_interrupted_shard_is_computed_again(tmp_path, make_job, suffix, damage):
    computed = []

    def compute(structure_id):
        if structure_id == "c" and not computed.count("c"):
            computed.append("c")
            raise KeyboardInterrupt
        computed.append(structure_id)
        return Outcome(values={"n": ord(structure_id)}, arrays={"x": numpy.full(3, float(ord(structure_id)))})

    job = make_job(output=OUTPUT)
    with pytest.raises(KeyboardInterrupt):
        run_shard(job, ["a", "b", "c"], compute, stage="test")
    pieces = sorted(tmp_path.rglob(f"*.{suffix}"))
    content = pieces[0].read_bytes()
    flipped = bytes([*content[:-9], content[-9] ^ 1, *content[-8:]])
    pieces[0].write_bytes({"flip": flipped, "cut": content[:-1], "empty": b"", "swap": pieces[1].read_bytes()}[damage])
    computed.clear()
    computed.append("c")
    run_shard(job, ["a", "b", "c"], compute, stage="test")
    assert len(computed) == 3, "the damaged one and the one under way are computed, the sound one is not"
    assert list(read_records(job.output.records)["n"]) == [ord(name) for name in "abc"]
    with h5py.File(job.output.arrays) as store:
        assert [store[f"{name}/x"][0] for name in "abc"] == [ord(name) for name in "abc"]


@pytest.mark.parametrize(
    "records, words",
    [
        ([{"structure_id": "a", "stage": "s", "status": "ok"}], "lacks"),
        ([{"structure_id": "a", "stage": "s", "status": "fine", "reason": ""}], "unknown status"),
        ([{"structure_id": "a", "stage": "s", "status": "failed", "reason": ""}], "needs a reason"),
        ([{"structure_id": "a", "stage": "s", "status": "ok", "reason": ""}] * 2, "twice"),
    ],
)
def test_records_that_lose_or_invent_something_are_refused(tmp_path, records, words):
    with pytest.raises(ValueError, match=words):
        write_records(records, tmp_path / "r.parquet")
    assert not (tmp_path / "r.parquet").exists()
