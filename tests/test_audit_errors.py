"""Errors of the machine stop a shard and are tried again; errors of a structure are its record."""

import errno
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures.process import BrokenProcessPool

import h5py
import numpy
import pandas
import pytest

from phonoscreen.audit.errors import MachineError, StudyError, exit_trouble, machine_trouble, run_program
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.bonding.engines import what_is_missing
from phonoscreen.workflow.inputs import bonding_program
from tests.small_study import run_script

OUTPUT = {"records": "0000.parquet", "arrays": "0000.h5"}


class OutOfMemoryError(RuntimeError):
    """As PyTorch names it."""


def raised(make):
    """An error as it arrives, with its traceback."""
    try:
        made = make()
        raise made
    except Exception as error:
        return error


def missing_program():
    subprocess.run(["/nowhere/vasp_std"])


def hidden_in_a_reader():
    try:
        raise OSError(errno.EIO, "Input/output error")
    except OSError as error:
        raise StudyError("forces cannot be read", where="POSCAR", fix="repeat it") from error


def hidden_from_none():
    try:
        import no_such_package_at_all  # noqa: F401
    except ImportError:
        raise StudyError("not installed") from None


MACHINE = {
    "full disk": (lambda: OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    "quota": (lambda: OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
    "read-only": (lambda: OSError(errno.EROFS, "Read-only file system"), "read-only"),
    "permission": (lambda: PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
    "files": (lambda: OSError(errno.EMFILE, "Too many open files"), "too many open files"),
    "hdf5": (lambda: OSError("Can't write data (file write failed: errno = 28, error message = 'No space')"),
             "the disk is full"),
    "memory": (MemoryError, "no memory left"),
    "numpy": (lambda: numpy.empty(2**62, dtype="i1"), "no memory left"),
    "torch": (lambda: OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "no memory left"),
    "torch cpu": (lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9"), "memory"),
    "jax": (lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2 bytes"), "memory"),
    "cuda": (lambda: RuntimeError("CUDA error: device-side assert triggered"), "graphics card"),
    "module": (lambda: ModuleNotFoundError("No module named 'gpaw'"), "missing"),
    "library": (lambda: OSError("libcudart.so.12: cannot open shared object file: No such file"), "missing"),
    "program": (missing_program, "missing"),
    "killed": (lambda: subprocess.CalledProcessError(-9, "vasp"), "killed by SIGKILL"),
    "killed in a shell": (lambda: subprocess.CalledProcessError(137, "vasp"), "killed by SIGKILL"),
    "not found": (lambda: subprocess.CalledProcessError(127, "vasp"), "cannot be started"),
    "licence": (lambda: subprocess.CalledProcessError(1, "x", stderr="FATAL: license checkout failed"), "no licence"),
    "pool": (lambda: BrokenProcessPool("a child process terminated abruptly"), "killed"),
    "inside a reader's error": (hidden_in_a_reader, "the disk or its network failed"),
    "inside an error from None": (hidden_from_none, "missing"),
    "itself": (lambda: MachineError("VASP_PP_PATH is not set", fix="set it"), "VASP_PP_PATH is not set"),
}  # fmt: skip

STRUCTURE = {
    "study": lambda: StudyError("atoms 0.1 angstrom apart"),
    "value": lambda: ValueError("array must not contain infs or NaNs"),
    "number": lambda: ZeroDivisionError("division by zero"),
    "linear algebra": lambda: numpy.linalg.LinAlgError("Singular matrix"),
    "file of the structure": lambda: open("/nowhere/structure/POSCAR"),
    "key": lambda: KeyError("forces"),
    "runtime": lambda: RuntimeError("SCF did not converge"),
    "exit code": lambda: subprocess.CalledProcessError(1, "vasp", stderr="ZBRENT: fatal error in bracketing"),
}


@pytest.mark.parametrize("name", MACHINE)
def test_an_error_of_the_machine_is_known(name):
    make, words = MACHINE[name]
    what, fix = machine_trouble(raised(make))
    assert words in what and fix


@pytest.mark.parametrize("name", STRUCTURE)
def test_an_error_of_a_structure_is_not_blamed_on_the_machine(name):
    assert machine_trouble(raised(STRUCTURE[name])) is None


@pytest.mark.parametrize("name", MACHINE)
def test_the_shard_stops_keeps_what_is_finished_and_continues(make_job, name):
    broken, computed = [True], []

    def compute(structure_id):
        computed.append(structure_id)
        if structure_id == "b":
            raise StudyError("nothing there", fix="add it")
        if structure_id == "c" and broken[0]:
            raise raised(MACHINE[name][0])
        return Outcome(values={"n": 1}, arrays={"x": numpy.ones(3)})

    job = make_job(output=OUTPUT)
    with pytest.raises(MachineError, match=r"where: c, stage test\n  fix: .*run the same command again"):
        run_shard(job, ["a", "b", "c", "d"], compute, stage="test")
    assert not os.path.exists(job.output.records)
    broken[0] = False
    run_shard(job, ["a", "b", "c", "d"], compute, stage="test")
    assert computed == ["a", "b", "c", "c", "d"]
    assert Counter(read_records(job.output.records)["status"]) == {"ok": 3, "failed": 1}


def test_a_disk_that_fills_up_while_outcomes_are_kept_stops_the_shard(make_job, monkeypatch):
    job = make_job(output=OUTPUT)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(MachineError, match=r"the disk is full[\s\S]*where: a, stage test"):
            run_shard(job, ["a"], lambda _: Outcome(arrays={"x": numpy.ones(3)}), stage="test")
    run_shard(job, ["a"], lambda _: Outcome(arrays={"x": numpy.ones(3)}), stage="test")
    with h5py.File(job.output.arrays) as store:
        assert list(store) == ["a"]


@pytest.mark.parametrize(
    "script, words",
    [("kill -9 $$", "killed by SIGKILL"), ("exit 127", "cannot be started"),
     ("nonesuch_program_x", "cannot be started"),
     ("echo 'License: checkout failed'; exit 1", "no licence"),
     ("echo 'write error: No space left on device'; exit 2", "the disk is full"),
     ("echo 'a: error while loading shared libraries: libmkl.so'; exit 3", "missing")],
)  # fmt: skip
def test_a_program_that_the_machine_stopped_is_told_from_one_that_failed(tmp_path, script, words):
    with pytest.raises(MachineError, match=words) as failure:
        run_program(["/bin/sh", "-c", script], tmp_path, tmp_path / "log")
    assert str(tmp_path / "log") in failure.value.fix


@pytest.mark.parametrize("signal, remedy", [(9, "memory"), (15, "who ended it"), (24, "ulimit -t"), (25, "ulimit -f")])
def test_the_remedy_of_a_killed_program_is_that_of_its_signal(signal, remedy):
    """More memory helps a program no further whose time was used up."""
    assert remedy in exit_trouble(-signal)[1] and exit_trouble(128 + signal)[1] == exit_trouble(-signal)[1]


def test_a_program_that_fails_by_itself_returns_its_code(tmp_path):
    assert run_program(["/bin/sh", "-c", "echo LAPACK: Routine ZPOTRF failed; exit 3"], tmp_path, tmp_path / "log") == 3
    assert run_program([sys.executable, "-c", "print('done')"], tmp_path, tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == "done\n" and exit_trouble(0) is None
    with pytest.raises(MachineError, match="cannot be started"):
        run_program(["/nowhere/program"], tmp_path, tmp_path / "log")


def test_bonding_without_its_program_is_skipped_with_the_reason(tmp_path, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "gpaw is not installed" in what_is_missing("gpaw") and not bonding_program("gpaw")
    assert what_is_missing("lobster") is None and bonding_program("lobster")
    row = {"structure_id": "a", "formula": "NaCl", "part": "training", "prototype": "225-AB", "n_atoms": 2}
    pandas.DataFrame([{**row, "shard": "0000"}]).to_parquet(tmp_path / "m.parquet")
    for name in ("r", "t"):
        record = {"structure_id": "a", "stage": "before", "status": "ok", "reason": ""}
        write_records([record], tmp_path / f"{name}.parquet")
    with h5py.File(tmp_path / "r.h5", "w") as store:
        store["a/cell"], store["a/scaled_positions"], store["a/numbers"] = numpy.eye(3), numpy.zeros((1, 3)), [11]
    inputs = {
        "manifest": "m.parquet",
        "relaxed_records": "r.parquet",
        "transport_records": "t.parquet",
        "relaxed": "r.h5",
    }
    run_script(
        "analyse_bonding", input={name: str(tmp_path / path) for name, path in inputs.items()},
        output={"arrays": str(tmp_path / "o.h5"), "records": str(tmp_path / "o.parquet")},
        params={"engine": "gpaw", "outputs": None, "structures_max": 5, "budget_cpu_minutes": None, "seed": 0},
    )  # fmt: skip
    record = read_records(tmp_path / "o.parquet").iloc[0]
    assert record["status"] == "skipped" and "C compiler" in record["reason"]
