"""Members trained together: the loss is that of one member alone, batches hide nothing, a killed training goes on."""

import json

import numpy
import pandas
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.dataset import STRAINED, Dataset
from phonoscreen.forcefield.items import dataset_items
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.precomputed import Item, PrecomputedLoss, Tables, item_arrays
from phonoscreen.forcefield.together import Stack, batch_sizes, pack, train_together
from phonoscreen.forcefield.training import prepare_item
from phonoscreen.stages.label_dataset import write_label_dataset
from phonoscreen.structures.formulas import formula_of, parse_formula
from tests.conftest import ROOT

LABELS = ROOT / "resources" / "labels" / "teacher_labels.h5"
SETTINGS = {
    "kind": "equivariant", "cutoff_angstrom": 5.0, "hidden": [16, 8], "channels": 6, "element_hidden": 16,
    "long_range": True, "subtract_undisplaced": True, "dtype": "float64",
}  # fmt: skip
TRAINING = {
    "epochs": 4, "batch_environments": 128, "learning_rate": 1e-3, "weight_decay": 0.01, "patience_epochs": 100,
    "relative_floor_mev_per_angstrom": 20, "stress_weight": 1.0, "warmup_steps": 3, "ema_decay": 0.9,
}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Data set of the first compounds of the kept labels, its items and two models."""
    path = tmp_path_factory.mktemp("together") / "dataset.h5"
    write_label_dataset(LABELS, path, held_out_fraction=0.3, seed=1, compounds_max=8)
    dataset = Dataset(path, SETTINGS["cutoff_angstrom"])
    samples = [dataset.read(item) for item in dataset.supercells("training")[:6]]
    models = [create_model(SETTINGS, seed) for seed in (1, 2)]
    for model in models:
        model.calibrate(samples, 3)
    return path, dataset, models


def arrays_of(dataset, item, weights, at_rest=None):
    """An item with its stresses, by the public pieces."""
    neighbourhoods, forces = dataset.read(item)
    virials, unit = dataset.virials(item)
    return item_arrays(Item(neighbourhoods, forces, weights[item[0]], virials, 1 / unit**2, at_rest))


def test_loss_and_gradient_are_those_of_one_member_alone(labelled):
    _, dataset, (model, other) = labelled
    weights = dataset.weights(20)
    supercells = dataset.supercells("training")
    items = [supercells[0], (supercells[0][0], STRAINED), supercells[5]]
    alone = model.collate([prepare_item(model, dataset, item, weights[item[0]], 1.0) for item in items])
    loss, square = model.loss(alone)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    tables = Tables([arrays_of(dataset, item, weights) for item in items], 5.0, torch.float64, CPU)
    sizes, _ = batch_sizes(tables, 600)
    batch = tables.batch(torch.tensor([2, 0, 3, 1, 3]), sizes)
    stack = Stack([model, other], CPU)
    losses, squares = stack.losses(stack.weights, batch)
    together = torch.autograd.grad(losses.sum(), list(stack.weights.values()))
    assert losses[0].item() == pytest.approx(loss.item(), rel=1e-10)
    assert squares[0].item() == pytest.approx(square.item(), rel=1e-10)
    largest = max(gradient.abs().max() for gradient in gradients)
    for one, both in zip(gradients, together, strict=True):
        assert (one - both[0]).abs().max() < 1e-9 * largest
    assert losses[1].item() == pytest.approx(PrecomputedLoss(other)(batch)[0].item(), rel=1e-10)


def test_forces_relative_to_the_undisplaced_crystal_are_those_that_a_study_uses(labelled):
    _, dataset, (model, _) = labelled
    item = dataset.supercells("training")[0]
    neighbourhoods, reference = dataset.read(item)
    at_rest = dataset.undisplaced(item)
    used = model.predict(model.describe(neighbourhoods, at_rest)).numpy()
    tables = Tables([item_arrays(Item(neighbourhoods, reference, 1.0, numpy.zeros((1, 3, 3)), 0.0, at_rest))],
                    5.0, torch.float64, CPU)  # fmt: skip
    sizes, _ = batch_sizes(tables, 1)
    loss, _ = PrecomputedLoss(model)(tables.batch(torch.tensor([0, 1]), sizes))
    assert loss.item() == pytest.approx(float(((used - reference) ** 2).mean()), rel=1e-9)


def test_every_item_is_in_one_batch_and_too_large_a_one_is_refused(labelled):
    path, _, _ = labelled
    items, arrays = dataset_items(path, ["training", "held_out"], 5.0, TRAINING)
    tables = Tables(arrays, 5.0, torch.float32, CPU)
    sizes, n_items = batch_sizes(tables, 200)
    batches = pack(tables, range(len(items)), sizes, n_items)
    found = batches[batches < len(items)].tolist()
    assert sorted(found) == list(range(len(items)))
    for batch in batches:
        counts = tables.counts["atoms"][batch[batch < len(items)].numpy()]
        assert counts.sum() <= sizes["atoms"]
    with pytest.raises(StudyError, match="larger than a batch"):
        pack(tables, [0], {**sizes, "pairs": 10}, n_items)


def test_a_training_that_ends_early_goes_on_as_if_it_had_not(labelled, tmp_path, monkeypatch):
    path, dataset, models = labelled
    monkeypatch.setattr("phonoscreen.forcefield.together.EPOCHS_PER_CHECKPOINT", 1)
    items, arrays = dataset_items(path, ["training", "held_out"], 5.0, TRAINING)
    tables = Tables(arrays, 5.0, torch.float64, CPU)
    n_training = len(dataset.cells("training"))
    split = list(range(n_training)), list(range(n_training, len(items)))

    def run(checkpoint, stop_after=None):
        own = [create_model(SETTINGS, 1), create_model(SETTINGS, 2)]
        for model, source in zip(own, models, strict=True):
            model.load_state_dict(source.state_dict())
        if stop_after:
            monkeypatch.setattr("phonoscreen.forcefield.together._Run.waited", lambda run: 1000 * (run.epoch == 2))
        history = train_together(own, tables, *split, TRAINING, seed=4, checkpoint=checkpoint)
        monkeypatch.undo()
        return own, history

    whole, history = run(None)
    run(tmp_path / "kept", stop_after=2)
    resumed, again = run(tmp_path / "kept")
    assert len(again) == len(history) == 2 * TRAINING["epochs"]
    numeric = ["training_rmse_relative", "held_out_rmse_relative"]
    numpy.testing.assert_allclose(again[numeric], history[numeric], rtol=1e-9)
    for one, other in zip(whole, resumed, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-8, atol=1e-10)
    first, last = history[history.epoch == 0], history[history.epoch == TRAINING["epochs"] - 1]
    assert last.training_rmse_relative.mean() < first.training_rmse_relative.mean()


def test_force_sets_of_others_are_trained_on_and_those_left_out_have_a_reason(tmp_path):
    import ase.io

    from phonoscreen.stages.force_set_dataset import read_roles, write_force_sets

    folder = tmp_path / "sets"
    crystals = {"cu": bulk("Cu", cubic=True), "al": bulk("Al", cubic=True), "alni": bulk("NiAl", "cesiumchloride", 2.9)}
    for name, crystal in crystals.items():
        frames = []
        for number in range(5):
            moved = crystal.repeat(2)
            if number:
                moved.positions[0, 0] += 0.01 * number
            moved.calc = EMT()
            moved.get_forces()
            frames.append(moved)
        (folder / name).mkdir(parents=True)
        ase.io.write(folder / name / "frames.extxyz", frames)
    (tmp_path / "roles.csv").write_text("file,role\ncu,train\nal,train\nalni,train\nni,judge\n")
    names = read_roles(tmp_path / "roles.csv")
    table = write_force_sets(folder, names, tmp_path / "sets.h5", excluded={"Al", "NiAl"},
                             floor_mev_per_angstrom=20, seed=1).set_index("name")  # fmt: skip
    assert table.n_supercells.to_dict() == {"cu": 4, "al": 0, "alni": 0}
    assert table.space_group_number.to_dict() == {"cu": 225, "al": 225, "alni": 221}
    assert formula_of([28, 13]) == "AlNi"  # labels write it as their pool does
    assert "judges" in table.reason["al"] and "judges" in table.reason["alni"]
    items, arrays = dataset_items(tmp_path / "sets.h5", ["training"], 5.0, TRAINING)
    assert len(items) == 4
    assert all(one["virial_share"].sum() == 0 and one["reference"].max() >= 32 for one in arrays)
    write_force_sets(folder, names, tmp_path / "thrice.h5", excluded=set(), floor_mev_per_angstrom=20, seed=1, weight=3)
    once, thrice = (Dataset(tmp_path / f"{name}.h5", 5.0).weights(20.0) for name in ("sets", "thrice"))
    assert thrice["cu"] == pytest.approx(3 * once["cu"], rel=1e-12)
    (tmp_path / "roles.csv").write_text("path,role\n")
    with pytest.raises(StudyError, match="no columns file and role"):
        read_roles(tmp_path / "roles.csv")


def test_members_are_trained_to_files_that_a_published_model_is_made_of(tmp_path):
    from phonoscreen.forcefield.committee import Committee
    from phonoscreen.stages.joint_training import train_members_together
    from phonoscreen.stages.published_model import LEARNED_BEFORE, learned_compounds, member_files, prepare_training

    training = {**TRAINING, "epochs": 2, "held_out_fraction": 0.3}
    prepare_training(LABELS, tmp_path, force_model=SETTINGS, training=training, seed=1, compounds_max=6)
    train_members_together(tmp_path, 2, "cpu")
    files = [member_files(tmp_path, member) for member in range(2)]
    committee = Committee.load([weights for weights, _, _ in files], [settings for _, settings, _ in files], "cpu")
    assert committee.has_energy
    dataset, learned = pandas.read_parquet(tmp_path / "dataset.parquet"), learned_compounds(tmp_path)
    assert set(learned.formula) == set(dataset[dataset.split != "test"].formula) and len(learned) == 6
    used = pandas.DataFrame({"formula": ["Cu", "Al"], "space_group_number": 225, "n_supercells": [4, 0]})
    used.to_parquet(tmp_path / "force_sets.parquet")
    more = learned_compounds(tmp_path)
    assert more[more.source == "force sets"].formula.tolist() == ["Cu"] and len(more) == 7
    backwards = ["".join(symbol + str(count) for symbol, count in parse_formula(one)[::-1]) for one in more.formula]
    more.assign(formula=backwards).to_csv(tmp_path / LEARNED_BEFORE, index=False)
    pandas.testing.assert_frame_equal(learned_compounds(tmp_path), more)
    times = [path.stat().st_mtime_ns for path, _, _ in files]
    train_members_together(tmp_path, 2, "cpu")  # done already
    assert [path.stat().st_mtime_ns for path, _, _ in files] == times


@pytest.mark.parametrize(
    "options", [["--together", "--start", "before"], ["--device", "cuda"], ["--force-sets-weight", "3"]]
)
def test_options_without_effect_are_refused(options, tmp_path, capsys):
    """A training together had begun from nothing although --start named another."""
    from phonoscreen.__main__ import main

    assert main(["train", str(LABELS), str(tmp_path / "run"), *options]) == 2
    assert "no effect" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_command_refuses_force_sets_without_their_roles(tmp_path, capsys):
    from phonoscreen.__main__ import main

    code = main(["train", str(LABELS), str(tmp_path / "run"), "--force-sets", str(tmp_path)])
    assert code != 0
    assert "--roles" in capsys.readouterr().err


def test_the_published_members_say_what_they_learned_from():
    content = json.loads((ROOT / "resources" / "model" / "model.json").read_text())
    card = (ROOT / "resources" / "model" / "README.md").read_text()
    assert "phonondb" in card and "CC BY 4.0" in card
    assert content
