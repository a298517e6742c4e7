"""Data sets and training: splits, exact resume after a kill, bounded memory, warm start, and that it learns."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.experiment.ablation import held_out_errors
from phonoscreen.forcefield import training as training_module
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import Dataset, assemble_dataset
from phonoscreen.forcefield.training import train_member
from tests.conftest import ROOT
from tests.forcefield_crystals import SETTINGS, TRAINING, write_metals


@pytest.fixture(scope="module")
def metals(tmp_path_factory):
    """Dataset of the seven EMT metals and the paths it was made from."""
    folder = tmp_path_factory.mktemp("metals")
    labels, supercells = write_metals(folder)
    table = assemble_dataset(labels, supercells, [], folder / "dataset.h5", held_out_fraction=0.2, seed=1)
    return folder / "dataset.h5", table, labels, supercells


def weights_of(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def same(one, other):
    return all((one[name] == other[name]).all() for name in one)


def test_structures_are_in_one_split_and_stay_there(metals, tmp_path):
    path, table, labels, supercells = metals
    assert set(table.split) == {"training", "held_out"}
    assert table.n_environments.sum() == 7 * 3 * 27
    fewer = {name: labels[name] for name in list(labels)[:5]}
    earlier = assemble_dataset(fewer, supercells, [], tmp_path / "d.h5", held_out_fraction=0.2, seed=1)
    both = earlier.merge(table, on="structure_id")
    if (earlier.split == "held_out").sum() > 1:
        assert (both.split_x == both.split_y).all()
    dataset = Dataset(path, 4.0)
    training = {structure_id for structure_id, _ in dataset.supercells("training")}
    assert not training & {structure_id for structure_id, _ in dataset.supercells("held_out")}


def test_selected_supercells_join_the_training_data_once(metals, tmp_path):
    _, _, labels, supercells = metals
    initial = {name: labels[name] for name in ("Al", "Ni", "Cu")}
    with h5py.File(tmp_path / "selected.h5", "w") as store:
        for name in ("Ag", "Cu"):
            with h5py.File(labels[name]) as source:
                group = store.create_group(name)
                group["forces"], group["supercell_index"] = source[name]["forces"][1:2], [1]
                group.attrs.update(source[name].attrs)
    selected = dict.fromkeys(["Ag", "Cu"], tmp_path / "selected.h5")
    table = assemble_dataset(initial, supercells, [selected], tmp_path / "d.h5", held_out_fraction=0.2, seed=1)
    rows = table.set_index("structure_id")
    assert rows.n_supercells.to_dict() == {"Ag": 1, "Al": 3, "Cu": 3, "Ni": 3}
    assert rows.first_round["Ag"] == 1
    with h5py.File(tmp_path / "d.h5") as store, h5py.File(supercells["Ag"]) as source:
        assert (store["Ag"]["displacements"][0] == source["Ag"]["displacements"][1]).all()


def test_labels_that_do_not_fit_are_refused(metals, tmp_path):
    _, _, labels, supercells = metals
    with pytest.raises(StudyError, match="no labelled structure"):
        assemble_dataset({}, supercells, [], tmp_path / "d.h5", held_out_fraction=0.2, seed=1)
    for change, words in (("nan", "finite: False"), ("engine", "different engines"), ("index", "supercell 99")):
        with h5py.File(tmp_path / f"{change}.h5", "w") as store:
            with h5py.File(labels["Al"]) as source:
                source.copy("Al", store)
            if change == "nan":
                store["Al"]["forces"][0, 0, 0] = numpy.nan
            elif change == "engine":
                store["Al"].attrs["engine"] = "other"
            else:
                store["Al"]["supercell_index"][2] = 99
        mixed = {"Al": tmp_path / f"{change}.h5", "Cu": labels["Cu"]}
        with pytest.raises(StudyError, match=words):
            assemble_dataset(mixed, supercells, [], tmp_path / "d.h5", held_out_fraction=0.2, seed=1)


def test_training_learns_forces_of_metals_it_has_not_seen(metals):
    model, history = train_member(metals[0], SETTINGS, {**TRAINING, "epochs": 15}, seed=1, member=0, round_number=0)
    absolute, relative = held_out_errors(Committee([model]), metals[0])
    assert relative < 0.6
    assert absolute == pytest.approx(history.held_out_rmse_mev_per_angstrom.min(), rel=1e-6)
    assert history.training_rmse_mev_per_angstrom.iloc[-1] < 0.5 * history.training_rmse_mev_per_angstrom.iloc[0]


def test_same_seed_same_weights_another_member_other_weights(metals):
    short = {**TRAINING, "epochs": 2}
    first, again, other = (
        weights_of(train_member(metals[0], SETTINGS, short, seed=1, member=member, round_number=0)[0])
        for member in (0, 0, 1)
    )
    assert same(first, again)
    assert not same(first, other)


def test_data_larger_than_the_memory_limit_give_the_same_weights(metals, monkeypatch):
    short = {**TRAINING, "epochs": 2}
    kept = train_member(metals[0], SETTINGS, short, seed=1, member=0, round_number=0)[0]
    monkeypatch.setattr(training_module, "CACHE_BYTES", 0)
    streamed = train_member(metals[0], SETTINGS, short, seed=1, member=0, round_number=0)[0]
    assert same(weights_of(kept), weights_of(streamed))


def test_a_warm_start_keeps_the_scales_and_begins_with_the_member_of_the_round_before(metals):
    start = train_member(metals[0], SETTINGS, {**TRAINING, "epochs": 8}, seed=1, member=0, round_number=0)[0]
    before = {name: value.copy() for name, value in weights_of(start).items()}
    warm, history = train_member(metals[0], SETTINGS, TRAINING, seed=1, member=0, round_number=1, start=start)
    assert len(history) == TRAINING["epochs_later_rounds"] and set(history["round"]) == {1}
    assert (weights_of(warm)["whitening"] == before["whitening"]).all()
    assert not same(weights_of(warm), before)
    cold = train_member(metals[0], SETTINGS, {**TRAINING, "epochs": 1}, seed=1, member=0, round_number=0)[1]
    first, other = (table.training_rmse_mev_per_angstrom.iloc[0] for table in (history, cold))
    assert first < 0.7 * other


def test_training_killed_at_any_epoch_continues_to_the_same_weights(metals, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from phonoscreen.forcefield.models.files import save_model\n"
        "from phonoscreen.forcefield.training import train_member\n"
        "from tests.forcefield_crystals import SETTINGS, TRAINING\n"
        "dataset, checkpoint, out = sys.argv[1:]\n"
        "model, history = train_member(dataset, SETTINGS, TRAINING, seed=3, member=0, round_number=0,\n"
        "                              checkpoint=checkpoint)\n"
        "save_model(model, out + '.safetensors', out + '.json')\n"
        "history.drop(columns=['seconds', 'environments_per_second']).to_csv(out + '.csv', index=False)\n"
    )

    def command(name):
        return [sys.executable, str(script), str(metals[0]), str(tmp_path / f"{name}.checkpoint"), str(tmp_path / name)]

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command("whole"), env=environment, check=True)
    process = subprocess.Popen(command("killed"), env=environment)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed.checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    subprocess.run(command("killed"), env=environment, check=True)
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "killed.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_a_damaged_checkpoint_is_no_beginning(metals, tmp_path, caplog):
    short, checkpoint = {**TRAINING, "epochs": 1}, tmp_path / "checkpoint"
    arguments = {"seed": 3, "member": 0, "round_number": 0, "checkpoint": checkpoint}
    first = weights_of(train_member(metals[0], SETTINGS, short, **arguments)[0])
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert same(weights_of(train_member(metals[0], SETTINGS, short, **arguments)[0]), first)
    assert "checkpoint is damaged" in caplog.text


def test_memory_does_not_grow_with_the_data():
    """Ten times the data, the same peak memory up to what an index of the supercells takes.

    The prepared supercells of the larger set would fill about 70 MiB.
    """
    peaks = []
    for n_environments in (6_000, 60_000):
        command = ["-m", "tests.benchmarks.stream_training", "--environments", str(n_environments), "--cache-mib", "4"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        )
        peaks.append(json.loads(run.stdout)["peak_memory_mib"])
    assert peaks[1] - peaks[0] < 30
