"""Members from data to files: several processes give what one gives; where a training may start."""

import pandas
import pytest
import torch
from safetensors.torch import load_file

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield import distributed
from phonoscreen.forcefield.dataset import assemble_dataset
from phonoscreen.forcefield.member import train_to_files
from tests.forcefield_crystals import SETTINGS, TRAINING, write_metals

# Both sum the same numbers in another order, in double precision; Adam divides by roots of squared gradients, which
# amplifies that for weights with almost no gradient.
TOLERANCE = 1e-6


@pytest.mark.parametrize("kind", ["equivariant", "elemental_sdnnff"])
def test_two_processes_train_the_model_of_one(tmp_path, kind):
    assemble_dataset(*write_metals(tmp_path), [], tmp_path / "dataset.h5", held_out_fraction=0.2, seed=1)
    results = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        train_to_files(
            tmp_path / "dataset.h5", {**SETTINGS, "kind": kind},
            {**TRAINING, "epochs": 3, "batch_environments": 81},
            weights=folder / "w.safetensors", model=folder / "m.json", history=folder / "h.parquet",
            seed=1, member=0, round_number=0, key="k", processes=processes,
        )  # fmt: skip
        results[processes] = load_file(folder / "w.safetensors"), pandas.read_parquet(folder / "h.parquet")
        assert sorted(path.name for path in folder.iterdir()) == ["h.parquet", "m.json", "w.safetensors"]
    (one, first), (two, second) = results[1], results[2]
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=TOLERANCE, atol=TOLERANCE)
    errors = [name for name in first if "rmse" in name]
    pandas.testing.assert_frame_equal(first[errors], second[errors], rtol=TOLERANCE)


def test_a_process_that_fails_ends_the_others_and_says_so(tmp_path):
    with pytest.raises(StudyError, match="one failed"):
        distributed.run_processes(2, "phonoscreen.forcefield.member", tmp_path / "missing.json", tmp_path / "meeting")
    assert not (tmp_path / "meeting").exists()


def test_a_start_of_another_make_is_refused(tmp_path):
    assemble_dataset(*write_metals(tmp_path), [], tmp_path / "dataset.h5", held_out_fraction=0.2, seed=1)
    files = {"weights": tmp_path / "w.safetensors", "model": tmp_path / "m.json", "history": tmp_path / "h.parquet"}
    short = {**TRAINING, "epochs": 1}
    task = {"seed": 1, "member": 0, "round_number": 0, "key": "k"}
    train_to_files(tmp_path / "dataset.h5", SETTINGS, short, **files, **task)
    again = {name: tmp_path / f"again.{path.name}" for name, path in files.items()}
    start = files["weights"], files["model"]
    with pytest.raises(StudyError, match="frames"):
        train_to_files(tmp_path / "dataset.h5", {**SETTINGS, "frames": 2}, short, **again, **task, start=start)
    train_to_files(tmp_path / "dataset.h5", SETTINGS, short, **again, **task, start=start)
    first, second = (
        pandas.read_parquet(path).training_rmse_relative[0] for path in (files["history"], again["history"])
    )
    assert second < first
