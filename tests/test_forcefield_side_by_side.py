"""Members trained side by side: the weights of members trained alone, and no process that outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield import training as training_module
from phonoscreen.forcefield.dataset import assemble_dataset
from phonoscreen.forcefield.member import train_to_files
from phonoscreen.forcefield.side_by_side import train_side_by_side
from tests.forcefield_crystals import SETTINGS, TRAINING, write_metals

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metals")
    assemble_dataset(*write_metals(folder), [], folder / "dataset.h5", held_out_fraction=0.2, seed=1)
    return folder / "dataset.h5"


def task(folder, member):
    stem = folder / f"member{member}"
    files = {name: stem.with_suffix(f".{name}") for name in ("weights", "model", "history")}
    return {**files, "seed": 1, "member": member, "round_number": 0, "key": "k", "start": None, "folder": stem}


@pytest.mark.parametrize("kind", ["equivariant", "elemental_sdnnff"])
def test_members_side_by_side_are_those_trained_alone(dataset, tmp_path, kind, monkeypatch):
    settings, short = {**SETTINGS, "kind": kind}, {**TRAINING, "epochs": 2}
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for member in range(2):
        train_to_files(dataset, settings, short, **task(alone, member))
    original = training_module.prepare_item
    prepared_here = []
    monkeypatch.setattr(
        training_module, "prepare_item", lambda *given: prepared_here.append(given[2]) or original(*given)
    )
    for processes in (1, 2):
        prepared_here.clear()
        tasks = [task(beside / str(processes), member) for member in range(2)]
        train_side_by_side(dataset, settings, short, tasks, processes=processes, memory_gib=1.0)
        # every supercell once, by this process; each member looks at the first one again
        assert len(prepared_here) - len(set(prepared_here)) == (2 if processes == 1 else 0)
        for member in range(2):
            one = load_file(task(alone, member)["weights"])
            other = load_file(tasks[member]["weights"])
            assert all((one[name] == other[name]).all() for name in one)


def test_supercells_prepared_for_a_model_of_other_scales_are_not_taken(dataset, tmp_path):
    settings, short = {**SETTINGS, "kind": "elemental_sdnnff"}, {**TRAINING, "epochs": 1}
    other = training_module.prepare_training_cells(dataset, {**settings, "frames": 2}, short, seed=1, bytes_max=2**30)
    members = {}
    for name, prepared in (("alone", None), ("given", other)):
        train_to_files(dataset, settings, short, **task(tmp_path / name, 0), prepared=prepared)
        members[name] = load_file(task(tmp_path / name, 0)["weights"])
    assert all((members["alone"][name] == members["given"][name]).all() for name in members["alone"])


def test_a_member_that_fails_is_named(dataset, tmp_path):
    wild = {**TRAINING, "epochs": 3, "learning_rate": 1e30, "warmup_steps": 0}
    with pytest.raises(StudyError, match="loss is not finite\n  where: member [01]"):
        tasks = [task(tmp_path, member) for member in range(2)]
        train_side_by_side(dataset, SETTINGS, wild, tasks, processes=2, memory_gib=1.0)


def test_processes_end_with_a_parent_that_was_killed(dataset, tmp_path):
    """Else they would train on, beside those of the command given again."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, pathlib, torch\n"
        "torch.set_num_threads(1)\n"
        "from phonoscreen.forcefield.side_by_side import train_side_by_side\n"
        "from tests.forcefield_crystals import SETTINGS, TRAINING\n"
        "from tests.test_forcefield_side_by_side import task\n"
        "tasks = [task(pathlib.Path(sys.argv[2]), member) for member in range(2)]\n"
        "train_side_by_side(sys.argv[1], SETTINGS, {**TRAINING, 'epochs': 10000, 'patience_epochs': 10000}, tasks,\n"
        "                   processes=2, memory_gib=1.0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, str(script), str(dataset), str(tmp_path)], env=environment)
    try:
        checkpoints = [task(tmp_path, member)["folder"] / "checkpoint.k" for member in range(2)]
        deadline = time.monotonic() + 120
        while not all(path.exists() for path in checkpoints):
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        children = psutil.Process(parent.pid).children()
        assert len(children) == 2
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    for process in alive:
        process.kill()
    assert not alive
