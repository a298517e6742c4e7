"""Stress of the equivariant model, and its training on kept labels: derivatives by differences, data, command."""

import json

import h5py
import numpy
import pandas
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from phonoscreen.__main__ import main
from phonoscreen.forcefield.calculator import ForceModelCalculator
from phonoscreen.forcefield.dataset import STRAINED, Dataset
from phonoscreen.forcefield.models.equivariant import MEAN_STRESS_SHARE, virial_errors
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, atoms_neighbourhoods
from phonoscreen.forcefield.publish import default_model_path, load_published
from phonoscreen.stages.label_dataset import write_label_dataset
from phonoscreen.stages.label_product import write_product
from tests.forcefield_crystals import LATTICE_CONSTANTS, SETTINGS, perovskite, random_moves, rock_salt

ORIGIN = {"engine": "emt", "weights_sha256": "0"}


@pytest.fixture(scope="module")
def cells():
    """Two crystals of low symmetry."""
    first, second = perovskite().repeat((2, 1, 1)), rock_salt()
    first.rattle(0.05, seed=1)
    second.rattle(0.1, seed=2)
    return [first, second]


@pytest.fixture(scope="module")
def model(cells):
    model = create_model({**SETTINGS, "kind": "equivariant"}, 1)
    model.calibrate([(atoms_neighbourhoods(atoms, 4.0), numpy.zeros((len(atoms), 3))) for atoms in cells], 1)
    return model


def test_virials_are_the_derivative_of_the_energy_with_respect_to_strain(model, cells):
    together = Neighbourhoods.concatenate([atoms_neighbourhoods(atoms, 4.0) for atoms in cells])
    virials = model.virials(model.describe(together)).numpy()
    generator = numpy.random.default_rng(3)
    for atoms, virial in zip(cells, virials, strict=True):
        strain = generator.normal(size=(3, 3))
        energies = []
        for step in (1e-4, -1e-4):
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (numpy.eye(3) + step * strain), scale_atoms=True)
            energies.append(model.energy(model.describe(atoms_neighbourhoods(moved, 4.0))))
        slope = (energies[0] - energies[1]) / 2e-4 / len(atoms)
        assert slope == pytest.approx(float((virial * strain).sum()), abs=1e-5 * numpy.abs(virial).max())
        assert virial == pytest.approx(virial.T, abs=1e-12)  # no torque


def test_a_wrong_lattice_constant_costs_less_than_wrong_elastic_constants():
    """The same error in all strained cells of a structure is its mean; cells of other structures do not count."""
    errors = torch.randn(7, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = torch.tensor([4, 1, 2])
    errors[:4] -= errors[:4].mean(dim=0)
    before = virial_errors(errors, torch.repeat_interleave(counts), counts)
    assert before[0] == pytest.approx(float((errors[:4] ** 2).mean()), rel=1e-12)
    assert before[1] == pytest.approx(MEAN_STRESS_SHARE * float((errors[4] ** 2).mean()), rel=1e-12)
    errors[:4] += torch.eye(3, dtype=torch.float64)
    after = virial_errors(errors, torch.repeat_interleave(counts), counts)
    assert after[0] - before[0] == pytest.approx(MEAN_STRESS_SHARE / 3, rel=1e-9)
    assert torch.equal(after[1:], before[1:])


def test_training_computes_the_long_ranged_part_as_prediction_does(model, cells):
    """Matrices of all pairs and sums over wave vectors are the same forces and virials, in one batch or several."""
    together = Neighbourhoods.concatenate([atoms_neighbourhoods(atoms, 4.0) for atoms in cells])
    forces, virials = model.predict(model.describe(together)), model.virials(model.describe(together))
    prepared = model.prepare(together, forces.numpy(), 1.0, virials.numpy(), 1.0)
    alone = model.prepare(atoms_neighbourhoods(cells[1], 4.0), forces[-2:].numpy(), 1.0, virials[1:].numpy(), 1.0)
    batch = model.collate([prepared, alone])
    by_matrices, strain = (values.detach() for values in model._derivatives(batch)[1:])
    torch.testing.assert_close(by_matrices, torch.cat([forces, forces[-2:]]), rtol=0, atol=1e-12)
    torch.testing.assert_close(strain, torch.cat([virials, virials[1:]]), rtol=0, atol=1e-12)
    assert float(model.loss(batch)[0].detach()) < 1e-20


def labelled_metals(count=2):
    """Yield labels of the seven EMT metals and one alloy as a label library does; nickel judges."""
    for number, (symbol, constant) in enumerate(LATTICE_CONSTANTS.items()):
        atoms, rng = bulk(symbol, "fcc", a=constant), numpy.random.default_rng(number)
        supercell, moves = atoms.repeat(2), random_moves(count, 8, number)
        strains = 0.01 * rng.normal(size=(3, 3, 3))
        strains = (strains + strains.swapaxes(1, 2)) / 2
        moved, strained = [supercell.copy() for _ in moves], [atoms.copy() for _ in strains]
        for one, move in zip(moved, moves, strict=True):
            one.positions += move
        for one, strain in zip(strained, strains, strict=True):
            one.set_cell(atoms.cell.array @ (numpy.eye(3) + strain), scale_atoms=True)
        arrays = {
            "cell": atoms.cell.array, "scaled_positions": atoms.get_scaled_positions(), "numbers": atoms.numbers,
            "repetitions": [2, 2, 2], "displacements": moves, "strained/strains": strains,
        }  # fmt: skip
        for prefix, images in (("", moved), ("strained/", strained)):
            for image in images:
                image.calc = EMT()
            arrays[f"{prefix}energies_ev"] = [image.get_potential_energy() for image in images]
            arrays[f"{prefix}forces"] = numpy.array([image.get_forces() for image in images])
            arrays[f"{prefix}stresses"] = [image.get_stress(voigt=False) for image in images]
        role = "test" if symbol == "Ni" else "training"
        record = {"structure_id": symbol, "formula": symbol, "prototype": "225-A", "role": role, "status": "ok"}
        yield record, arrays, ORIGIN
    yield {**record, "structure_id": "failed", "status": "failed", "role": "training"}, {}, ORIGIN


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    write_product(labelled_metals(), path)
    return path


def test_kept_labels_become_training_data_and_test_compounds_stay_out(labels, tmp_path):
    table = write_label_dataset(labels, tmp_path / "d.h5", held_out_fraction=0.3, seed=1).set_index("structure_id")
    assert set(table.index) == set(LATTICE_CONSTANTS)
    assert table.split["Ni"] == "test" and {"training", "held_out"} <= set(table.split)
    fewer = write_label_dataset(labels, tmp_path / "f.h5", held_out_fraction=0.3, seed=1, compounds_max=3)
    assert len(fewer) == 4 and "Ni" in set(fewer.structure_id)
    dataset = Dataset(tmp_path / "d.h5", 4.0)
    items = dataset.cells("training") + dataset.cells("held_out")
    assert {name for name, _ in items} == set(LATTICE_CONSTANTS) - {"Ni"}
    assert len(items) == 6 * (2 + 1)
    neighbourhoods, forces = dataset.read(("Al", STRAINED))
    virials, unit = dataset.virials(("Al", STRAINED))
    assert len(neighbourhoods) == len(forces) == len(virials) == 4  # the relaxed cell and three strained ones
    assert not virials[0].any() and unit > 0.05
    lattice = neighbourhoods.structures[1][1]
    atoms = bulk("Al", "fcc", a=LATTICE_CONSTANTS["Al"])
    atoms.set_cell(lattice, scale_atoms=True)
    atoms.calc = EMT()
    expected = atoms.get_stress(voigt=False) * atoms.get_volume()
    assert virials[1] == pytest.approx(expected, abs=1e-6 * numpy.abs(expected).max())


def test_labels_without_a_compound_to_train_on_are_refused(tmp_path):
    only_test = [one for one in labelled_metals(1) if one[0]["role"] == "test"]
    write_product(only_test, tmp_path / "labels.h5")
    assert main(["train", str(tmp_path / "labels.h5"), str(tmp_path / "folder")]) == 2
    (tmp_path / "text").write_text("no labels")
    assert main(["train", str(tmp_path / "text"), str(tmp_path / "other")]) == 2
    assert main(["train", str(tmp_path / "missing.h5"), str(tmp_path / "other")]) == 2
    assert main(["train", str(tmp_path / "labels.h5"), str(tmp_path / "other"), "--interim"]) == 2
    assert main(["train", str(tmp_path / "labels.h5"), str(tmp_path / "other"), "--publish", str(tmp_path)]) == 2
    assert (tmp_path / "text").exists()  # nothing that is no model is replaced


SMALL = {
    "force_model": {"equivariant": {"channels": 4, "hidden": [16], "cutoff_angstrom": 4.0}},
    "training": {
        "epochs": 4, "batch_environments": 16, "held_out_fraction": 0.3, "warmup_steps": 2, "learning_rate": 0.01,
    },
}  # fmt: skip


def test_the_command_trains_goes_on_after_a_kill_and_publishes(labels, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps(SMALL))
    arguments = ["train", str(labels), "--members", "2", "--settings", str(settings)]
    assert main([*arguments[:2], str(tmp_path / "whole"), *arguments[2:], "--processes", "2"]) == 0
    assert main([*arguments[:2], str(tmp_path / "whole"), *arguments[2:], "--together", "--processes", "2"]) == 2
    stopped = [*arguments[:2], str(tmp_path / "stopped"), *arguments[2:]]
    from phonoscreen.forcefield import training

    write, epochs = training.write_checkpoint, []

    def killed(path, state):
        write(path, state)
        epochs.append(path)
        if len(epochs) == 6:  # in the second epoch of the second member
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "write_checkpoint", killed)
    assert main(stopped) == 130
    monkeypatch.undo()
    assert main([*stopped, "--interim", "--publish", str(tmp_path / "early")]) == 0
    assert len(json.loads((tmp_path / "early" / "model.json").read_text())["members"]) == 2
    assert main([*stopped, "--memory-gib", "1e-4"]) == 0  # room for a few of the supercells
    for name in ("member0.safetensors", "member1.safetensors", "model/member1.safetensors", "member1.csv"):
        one, other = (tmp_path / folder / name for folder in ("whole", "stopped"))
        if name.endswith("csv"):  # times differ
            errors = [pandas.read_csv(path)[["epoch", "held_out_rmse_relative"]] for path in (one, other)]
            assert errors[0].equals(errors[1])
        else:
            assert one.read_bytes() == other.read_bytes()
    judged = pandas.read_parquet(tmp_path / "whole" / "test.parquet")
    assert list(judged.structure_id) == ["Ni"] and numpy.isfinite(judged.virial_rmse_relative).all()
    settings.write_text(json.dumps({**SMALL, "training": {"epochs": 5}}))
    assert main(stopped) == 2  # another training than the one begun there
    atoms = bulk("Ni", "fcc", a=3.5)
    atoms.calc = ForceModelCalculator(tmp_path / "whole" / "model")
    assert atoms.get_stress().shape == (6,) and numpy.isfinite(atoms.get_stress()).all()
    with h5py.File(tmp_path / "whole" / "dataset.h5") as store:
        assert store["Ni"].attrs["split"] == "test"


def test_the_model_of_the_repository_is_whole_and_small():
    folder = default_model_path()
    _, content = load_published(folder, "cpu")  # reproduces its stored forces
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6
    assert content["validation_structures"] >= 100 and len(content["elements"]) == 63
    assert "Errors" in (folder / "README.md").read_text()
