"""Which compounds of a screened pool are labelled next, and what a training makes of labels in several files."""

import ase.io
import h5py
import numpy
import pandas
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.training import prepare_item
from phonoscreen.stages.label_dataset import write_label_dataset
from phonoscreen.stages.label_product import read_product, write_product
from phonoscreen.stages.pool_query import FIELDS, queried
from phonoscreen.stages.published_model import learned_compounds, prepare_training, train_members
from phonoscreen.structures.formulas import composition_key
from tests.test_forcefield_together import LABELS, SETTINGS, TRAINING

SCREENED = pandas.DataFrame(
    [
        ("agreed", "NaCl:225-AB", 49.0, 5), ("none-stable", "KCl:225-AB", 20.0, 0), ("wide", "RbF:225-AB", 51.0, 5),
        ("disputed", "CsF:225-AB", 5.0, 3), ("wider", "LiF:225-AB", 400.0, 0), ("judges", "NaF:225-AB", 900.0, 0),
        ("oxygen", "WF3:221-AB3-ReO3", 70.0, 0), ("other", "TlBr:221-AB", 60.0, 0),
        ("unsolved", "TlI:221-AB", numpy.nan, numpy.nan),
    ],
    columns=["structure_id", "source", "epsilon_max_mev_per_angstrom", "members_stable"],
)  # fmt: skip
SHARES = {"225-AB": 2, "221-AB": 1, "221-AB3": 1}


def test_what_the_committee_disagrees_on_is_labelled_and_what_judges_is_not():
    table = queried(SCREENED, SHARES, {("225-AB", composition_key("FNa"))}, 100, 5)
    assert set(table.structure_id) == {"wide", "disputed", "wider", "oxygen", "other"}
    assert list(table) == FIELDS and set(table.role) == {"training"}
    salts = table[table.prototype == "225-AB"]
    assert salts.structure_id.tolist() == ["wider", "wide", "disputed"]
    assert table.set_index("structure_id").loc["oxygen", ["formula", "prototype"]].tolist() == ["WF3", "221-AB3-ReO3"]


def test_a_beginning_of_the_query_has_the_proportions_of_the_classes():
    found = queried(SCREENED, SHARES, set(), 4, 5)
    assert found.prototype.str.split("-").str[:2].str.join("-").value_counts().to_dict() == SHARES


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """The first six compounds of the kept labels; the last two, two more as if queried, and one that judges."""
    folder = tmp_path_factory.mktemp("labels")
    origin, labelled = read_product(LABELS)
    training = [one for one in labelled if one[0]["role"] == "training" and one[1]][:8]
    judging = next(one for one in labelled if one[0]["role"] == "test")
    parts = {"first.h5": training[:6], "more.h5": [*training[4:], judging]}
    for name, part in parts.items():
        write_product([(record, arrays, origin) for record, arrays in part], folder / name)
    return folder, training, origin


def test_a_compound_in_two_files_is_trained_on_once_and_only_those_of_the_first_judge(two_files, tmp_path):
    folder, training, _ = two_files
    table = write_label_dataset(
        folder / "first.h5", tmp_path / "d.h5", more=[folder / "more.h5"], held_out_fraction=0.0, seed=1
    )
    assert table.structure_id.tolist() == [record["structure_id"] for record, _ in training]


def test_labels_of_two_engines_are_not_mixed(two_files, tmp_path):
    folder, training, origin = two_files
    write_product([(*training[7], {**origin, "engine": "another"})], tmp_path / "other.h5")
    with pytest.raises(StudyError, match="labels of another"):
        write_label_dataset(
            folder / "first.h5", tmp_path / "d.h5", more=[tmp_path / "other.h5"], held_out_fraction=0.0, seed=1
        )


def write_frames(folder, crystal):
    """A force set: one undisplaced and two displaced supercells with EMT's forces."""
    frames = []
    for number in range(3):
        moved = crystal.repeat(2)
        moved.positions[0, 0] += 0.02 * number
        moved.calc = EMT()
        moved.get_forces()
        frames.append(moved)
    folder.mkdir(parents=True)
    ase.io.write(folder / "frames.extxyz", frames)


def loss_is_of_relative_forces(dataset):
    """In one batch with a supercell whose forces are bare: what training minimises is what prediction is judged by."""
    model = create_model(SETTINGS, 1)
    items = [("free", 1), next(one for one in dataset.supercells("training") if not dataset.is_relative(one))]
    model.calibrate([dataset.read(item) for item in items], 1)
    expected, squares = 0.0, 0.0
    for item, weight in zip(items, (2.0, 3.0), strict=True):
        neighbourhoods, forces = dataset.read(item)
        at_rest = dataset.undisplaced(item) if dataset.is_relative(item) else None
        error = model.predict(model.describe(neighbourhoods, at_rest)).numpy() - forces
        expected, squares = expected + weight * (error**2).mean(), squares + (error**2).sum() / 3
    prepared = [prepare_item(model, dataset, item, w, 1.0) for item, w in zip(items, (2.0, 3.0), strict=True)]
    for batch in (prepared, prepared[::-1]):
        loss, square = model.loss(
            model.collate([{**one, "virial_weights": one["virial_weights"] * 0} for one in batch])
        )
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
        assert float(square) == pytest.approx(squares, rel=1e-9)


def test_a_training_on_a_cpu_goes_on_from_another_with_more_labels_and_forces_of_dft(two_files, tmp_path):
    """Crystals whose atoms may move freely rest elsewhere with DFT: their forces at rest are no error of the model."""
    folder, training, _ = two_files
    free = bulk("Cu", "hcp", a=2.6, c=6.0)
    free.append("Al")
    free.positions[-1] = [0.0, 1.5, 3.1]
    free.calc = EMT()
    assert BFGS(free, logfile=None).run(fmax=1e-3, steps=200)
    write_frames(tmp_path / "sets" / "cu", bulk("Cu", cubic=True))
    write_frames(tmp_path / "sets" / "free", free)
    (tmp_path / "roles.csv").write_text("file,role\ncu,train\nfree,train\n")
    settings = {"force_model": SETTINGS, "training": {**TRAINING, "epochs": 1, "held_out_fraction": 0.3}, "seed": 1}
    prepare_training(folder / "first.h5", tmp_path / "before", **settings, compounds_max=None)
    train_members(tmp_path / "before", 1)
    learned_compounds(tmp_path / "before").to_csv(tmp_path / "before" / "compounds.csv", index=False)
    prepare_training(
        folder / "first.h5", tmp_path / "after", **settings, compounds_max=None, more_labels=[folder / "more.h5"],
        start=tmp_path / "before", force_sets=(tmp_path / "sets", tmp_path / "roles.csv"),
    )  # fmt: skip
    with pytest.raises(StudyError, match="more_labels_sha256, roles_sha256, together"):  # else it would go on with them
        prepare_training(
            folder / "first.h5", tmp_path / "after", **settings, compounds_max=None, start=tmp_path / "before"
        )
    used = pandas.read_parquet(tmp_path / "after" / "force_sets.parquet").set_index("name")
    assert used.n_supercells["cu"] == 2
    assert used.n_supercells["free"] == 3
    dataset = Dataset(tmp_path / "after" / "dataset.h5", SETTINGS["cutoff_angstrom"])
    items = dataset.cells("training")
    strained = [name for name, number in items if number < 0]
    assert {"cu", "free"} < {name for name, _ in items} and not {"cu", "free"} & set(strained) and strained
    assert dataset.virials(("cu", 0))[1] == numpy.inf
    assert dataset.is_relative(("free", 1)) and not dataset.is_relative((strained[0], 0))
    loss_is_of_relative_forces(dataset)
    train_members(tmp_path / "after", 1, tmp_path / "before")
    assert (tmp_path / "after" / "member0.safetensors").exists()
    learned = learned_compounds(tmp_path / "after")
    assert len(learned) == 10 and learned[learned.formula == "Cu"].source.tolist() == ["force sets"]


def test_structures_without_stresses_learn_the_same_beside_those_that_have_them(two_files, tmp_path):
    """The loss of a supercell does not depend on whether others of its batch have stresses."""
    folder, _, _ = two_files
    write_label_dataset(folder / "first.h5", tmp_path / "d.h5", held_out_fraction=0.0, seed=1)
    with h5py.File(tmp_path / "d.h5", "a") as store:
        without = sorted(store)[0]
        del store[without]["strained"]
    dataset = Dataset(tmp_path / "d.h5", SETTINGS["cutoff_angstrom"])
    model = create_model(SETTINGS, 1)
    supercells = dataset.supercells("training")
    model.calibrate([dataset.read(item) for item in supercells[:4]], 1)
    items = [next(one for one in supercells if one[0] == without), next(one for one in supercells if one[0] != without)]
    alone = [
        float(model.loss(model.collate([prepare_item(model, dataset, one, 1.0, 1.0)]))[0].detach()) for one in items
    ]
    together = float(
        model.loss(model.collate([prepare_item(model, dataset, one, 1.0, 1.0) for one in items]))[0].detach()
    )
    assert together == pytest.approx(sum(alone), rel=1e-9)
    forces_only = float(model.loss(model.collate([model.prepare(*dataset.read(items[0]), 1.0)]))[0].detach())
    assert alone[0] == pytest.approx(forces_only, rel=1e-12)
