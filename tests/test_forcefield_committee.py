"""Committee, selection, validation, publication, and the published model in other hands."""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy
import pandas
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from safetensors.torch import load_file, save_file

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.commands.predict import add_parser
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield import publish as publish_module
from phonoscreen.forcefield.calculator import ForceModelCalculator
from phonoscreen.forcefield.committee import Committee, Lookahead, uncertainty
from phonoscreen.forcefield.dataset import assemble_dataset
from phonoscreen.forcefield.member import train_to_files
from phonoscreen.forcefield.models.model_json import FORMAT_WITHOUT_DIGEST, write_json, write_model_json
from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
from phonoscreen.forcefield.predict import predict_files
from phonoscreen.forcefield.publish import load_published, publish_model
from phonoscreen.forcefield.selection import judge_convergence, select, worst_supercells
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.validation import force_errors
from tests.conftest import ROOT
from tests.forcefield_crystals import SETTINGS, TRAINING, random_moves, write_metals


def publish(folder, kind):
    """Publish a committee of two, trained for two epochs; return its folder."""
    labels, supercells = write_metals(folder)
    table = assemble_dataset(labels, supercells, [], folder / "dataset.h5", held_out_fraction=0.2, seed=1)
    members = []
    for member in range(2):
        members.append((folder / f"{member}.safetensors", folder / f"{member}.json"))
        train_to_files(
            folder / "dataset.h5", {**SETTINGS, "kind": kind}, {**TRAINING, "epochs": 2}, weights=members[-1][0],
            model=members[-1][1], history=folder / "history.parquet", seed=1, member=member, round_number=0, key="k",
        )  # fmt: skip
    target = folder / "model"
    target.mkdir()
    publish_model(
        members, [target / "member0.safetensors", target / "member1.safetensors"], target / "model.json",
        target / "card.md", dataset=table, dataset_path=folder / "dataset.h5",
        validation=pandas.DataFrame({"status": []}), code="0123", licence="CC-BY-4.0",
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folder of a published Elemental-SDNNFF."""
    return publish(tmp_path_factory.mktemp("published"), "elemental_sdnnff")


@pytest.fixture(scope="module")
def conservative(tmp_path_factory):
    """Folder of a published equivariant model."""
    return publish(tmp_path_factory.mktemp("conservative"), "equivariant")


def test_epsilon_is_equation_3_by_hand():
    forces = numpy.zeros((5, 1, 2, 3))
    forces[:, 0, 0, 0] = [1, 2, 3, 4, 5]  # mean 3, squared distances 4 1 0 1 4: sqrt(10 / 5)
    forces[:, 0, 1] = [(0, 3, 4), (0, -3, -4), (0, 0, 0), (0, 0, 0), (0, 0, 0)]  # sqrt((25 + 25) / 5)
    numpy.testing.assert_allclose(uncertainty(forces), [[math.sqrt(2), math.sqrt(10)]])
    with pytest.raises(StudyError, match="cannot disagree"):
        uncertainty(forces[:1])


def test_supercells_together_give_what_they_give_alone(published):
    committee, _ = load_published(published, "cpu")
    moves = random_moves(4, 27, 1)
    crystal, repetitions = Crystal.from_ase(bulk("Cu", "fcc", a=3.59)), numpy.array([3, 3, 3])
    together = committee.supercell_forces(Supercells(crystal, repetitions, moves))
    alone = [committee.supercell_forces(Supercells(crystal, repetitions, moves[n : n + 1]))[:, 0] for n in range(4)]
    numpy.testing.assert_allclose(together, numpy.stack(alone, axis=1), atol=1e-7)
    assert together.shape == (2, 4, 27, 3)


def test_structures_computed_ahead_give_what_they_give_alone(conservative):
    committee, _ = load_published(conservative, "cpu", dtype="float64")
    pool = {
        symbol: Supercells(
            Crystal.from_ase(bulk(symbol, "fcc", a=a)), numpy.array([n, 3, 3]), random_moves(3, 9 * n, n)
        )
        for symbol, a, n in (("Cu", 3.59, 3), ("Ag", 4.06, 2), ("Au", 4.06, 3))
    }
    pool["broken"] = Supercells(pool["Cu"].crystal, numpy.array([3, 3, 3]), numpy.full((1, 27, 3), numpy.nan))
    ids, read = ["Cu", "Ag", "broken", "Au"], []

    def remember(structure_id):
        read.append(structure_id)
        return pool[structure_id]

    ahead = Lookahead(committee, ids, remember)
    for structure_id in ids:
        if structure_id == "broken":
            with pytest.raises(StudyError, match="not finite"):
                ahead.forces(structure_id)
        else:
            forces, seconds = ahead.forces(structure_id)
            assert seconds > 0
            numpy.testing.assert_allclose(forces, committee.supercell_forces(pool[structure_id]), atol=1e-12)
    together = Lookahead(committee, ["Cu", "Ag", "Au"], remember)
    read.clear()
    together.forces("Cu")
    assert read == ["Cu", "Ag", "Au"] and set(together.ready) == {"Ag", "Au"}


def uncertain(**epsilon):
    rows = [{"structure_id": name, "shard": "0000", "epsilon_mev_per_angstrom": e} for name, e in epsilon.items()]
    return pandas.DataFrame(rows)


def test_the_worst_supercell_of_each_structure_is_taken_but_never_twice():
    table = uncertain(a=[10.0, 70.0, 60.0], b=[90.0, 20.0], c=[5.0, 4.0])
    worst = worst_supercells(table, set())
    assert list(zip(worst.structure_id, worst.supercell_index)) == [("b", 0), ("a", 1), ("c", 0)]
    again = worst_supercells(table, {("b", 0), ("a", 1), ("c", 0), ("c", 1)})
    assert list(zip(again.structure_id, again.supercell_index)) == [("a", 2), ("b", 1)]
    assert worst_supercells(uncertain(a=[1.0]).iloc[:0], set()).empty


def test_strategies_choose_what_they_say():
    formulas = {"salt": "NaCl", "other salt": "KBr", "metal": "CuPd", "third salt": "NaBr"}
    worst = worst_supercells(uncertain(**{name: [100.0 - n] for n, name in enumerate(formulas)}), set())
    chosen = {
        name: list(select(worst, name, 2, seed=1, formulas=formulas).structure_id)
        for name in ("worst_supercell", "diverse", "random")
    }
    assert chosen["worst_supercell"] == ["salt", "other salt"]
    assert chosen["diverse"] == ["salt", "metal"]
    column = pandas.Series(formulas)  # as the workflow hands it over
    assert list(select(worst, "diverse", 2, seed=1, formulas=column).structure_id) == ["salt", "metal"]
    draws = {tuple(select(worst, "random", 2, seed=seed).structure_id) for seed in range(20)}
    assert len(draws) > 3
    assert tuple(select(worst, "random", 2, seed=1).structure_id) == tuple(chosen["random"])
    with pytest.raises(StudyError, match="unknown strategy"):
        select(worst, "guess", 2, seed=1)


def test_rounds_stop_when_the_number_recommended_is_nearly_constant():
    assert judge_convergence(0, [], 0.05)[0]
    assert not judge_convergence(100, [], 0.05)[0]
    before = [{"recommended": 100, "converged": False, "reason": ""}]
    assert judge_convergence(96, before, 0.05)[0] and judge_convergence(104, before, 0.05)[0]
    assert not judge_convergence(90, before, 0.05)[0]
    stopped = [{"recommended": 0, "converged": True, "reason": "none"}]
    assert judge_convergence(50, stopped, 0.05)[0]


def test_errors_of_a_known_committee():
    reference = numpy.random.default_rng(0).normal(size=(2, 5, 3))
    shift = numpy.array([0.03, 0.0, 0.04])
    errors = force_errors(numpy.array([reference + shift, reference + shift]), numpy.zeros((2, 1, 3)), reference)
    assert errors["force_rmse_mev_per_angstrom"] == pytest.approx(1e3 * numpy.sqrt((shift**2).mean()))
    assert errors["error_rms_mev_per_angstrom"] == pytest.approx(50)
    assert errors["epsilon_rms_mev_per_angstrom"] == pytest.approx(0, abs=1e-9)
    assert errors["force_rms_mev_per_angstrom"] == pytest.approx(1e3 * numpy.sqrt((reference**2).mean()))
    with pytest.raises(StudyError, match="against labels"):
        force_errors(numpy.zeros((2, 3, 5, 3)), numpy.zeros((2, 1, 3)), reference)


def test_a_published_model_says_what_it_is(published):
    content = json.loads((published / "model.json").read_text())
    assert content["label_engine"] == "emt" and content["code"] == "0123"
    assert len(content["training_data_sha256"]) == 64
    card = (published / "card.md").read_text()
    for words in ("emt", "CC-BY-4.0", "never" if content["validation_structures"] else "not known", "Cu"):
        assert words in card


def test_a_changed_member_is_refused(published, tmp_path):
    for path in published.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "member1.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "member1.safetensors").write_bytes(weights)
    with pytest.raises(StudyError, match="not the file that was stored"):
        load_published(tmp_path, "cpu")
    with pytest.raises(StudyError, match=r"no model\.json"):
        load_published(tmp_path / "nowhere", "cpu")
    with pytest.raises(StudyError, match="one kind"):
        Committee([])


def copied(published, folder, change, weights_of=None, sealed=True):
    """Copy a published model, change its JSON and one member's weights, and seal it as if nothing had happened."""
    folder.mkdir(exist_ok=True)
    for path in published.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "model.json").read_text())
    change(content)
    if weights_of:
        weights = load_file(folder / "member1.safetensors")
        weights_of(weights)
        save_file(weights, folder / "member1.safetensors")
        content["members_sha256"]["member1.safetensors"] = file_sha256(folder / "member1.safetensors")
    (write_model_json if sealed else write_json)(content, folder / "model.json")
    return folder


ALTERED = {
    "cutoff": lambda content: content["settings"].update(cutoff_angstrom=3.0),
    "elements": lambda content: content["elements"].append(92),
    "number": lambda content: content["check"]["forces_ev_per_angstrom"][0][0].__setitem__(0, 1e6),
    "hash": lambda content: content["members_sha256"].update({"member0.safetensors": "0" * 64}),
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_settings_of_a_published_model_are_refused(conservative, tmp_path, name):
    with pytest.raises(StudyError, match="was changed after it was stored"):
        load_published(copied(conservative, tmp_path / "m", ALTERED[name], sealed=False), "cpu")


def test_a_model_that_no_longer_gives_its_stored_forces_is_refused(conservative, tmp_path):
    """Altered by somebody who made the digest again, or computed by code that changed."""
    for change, words in ((ALTERED["cutoff"], "differ by"), (ALTERED["number"], "differ by"),
                          (lambda content: content.pop("check"), "lacks its stored structure"),
                          (lambda content: content.update(members=["../model/member0.safetensors"]), "no members"),
                          (lambda content: content["settings"].pop("hidden"), "does not fit")):  # fmt: skip
        with pytest.raises(StudyError, match=words):
            load_published(copied(conservative, tmp_path / "m", change), "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(conservative, tmp_path, value):
    def spoil(weights):
        weights["embedding.0.weight"][0, 0] = value

    with pytest.raises(StudyError, match="embedding.0.weight are not finite"):
        load_published(copied(conservative, tmp_path / "m", lambda content: None, spoil), "cpu")


def test_a_model_published_by_the_first_version_is_to_be_published_again(conservative, tmp_path):
    folder = copied(conservative, tmp_path / "m", lambda c: c.update(format=FORMAT_WITHOUT_DIGEST), sealed=False)
    with pytest.raises(StudyError, match="earlier version") as error:
        load_published(folder, "cpu")
    assert "publish the model again" in str(error.value)


def test_the_calculator_is_the_mean_of_the_committee(published):
    atoms = bulk("Cu", "fcc", a=3.59).repeat(3)
    atoms.positions += random_moves(1, 27, 2)[0]
    atoms.calc = ForceModelCalculator(published, "cpu")
    forces = atoms.get_forces()
    assert forces.shape == (27, 3) and numpy.isfinite(forces).all() and numpy.abs(forces).max() > 1e-4
    assert (atoms.calc.results["uncertainty"] > 0).all()
    atoms.positions[0] += 0.1
    assert not numpy.allclose(atoms.get_forces(), forces)


def predict(structures, model, output):
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["predict", str(structures), "--model", str(model), "--output", str(output)])
    return arguments.run(arguments)


def test_forces_of_the_calculator_are_the_slope_of_its_energy(conservative, published):
    atoms = bulk("Cu", "fcc", a=3.59).repeat(2)
    atoms.positions += random_moves(1, 8, 2)[0]
    atoms.calc = ForceModelCalculator(conservative, "cpu", dtype="float64")
    force, ends = atoms.get_forces()[3, 1], []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[3, 1] += sign * 1e-4
        moved.calc = atoms.calc
        ends.append(moved.get_potential_energy())
    assert force == pytest.approx(-(ends[0] - ends[1]) / 2e-4, rel=1e-5)
    single = ForceModelCalculator(conservative, "cpu", dtype="float32").get_forces(atoms)
    assert numpy.abs(single - atoms.get_forces()).max() < 1e-5 * numpy.abs(single).max()
    lone = Atoms("Cu")
    lone.calc = atoms.calc
    assert not lone.get_forces().any()
    with pytest.raises(PropertyNotImplementedError):
        ForceModelCalculator(published, "cpu").get_potential_energy(atoms)


def test_predict_writes_forces_and_reports_nonsense(published, tmp_path):
    good = bulk("Cu", "fcc", a=3.59).repeat(2)
    good.positions += random_moves(1, 8, 3)[0]
    lone, unknown = Atoms("Cu", pbc=False), bulk("U", "fcc", a=4.4)
    doubled = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0.1)], cell=4 * numpy.eye(3), pbc=True)
    ase.io.write(tmp_path / "in.extxyz", [good, lone, unknown, doubled])
    assert predict(tmp_path / "in.extxyz", published, tmp_path / "out.extxyz") == 1
    results = ase.io.read(tmp_path / "out.extxyz", index=":")
    assert len(results) == 1 and results[0].get_forces().shape == (8, 3)
    records = pandas.read_csv(tmp_path / "out.extxyz.records.csv")
    assert records.status.tolist() == ["ok", "failed", "failed", "failed"]
    for reason, words in zip(records.reason[1:], ("no frame", r"[92]", "0.100 angstrom apart"), strict=True):
        assert words in reason
    assert not list(tmp_path.glob("*.partial*"))


def test_predict_goes_on_where_it_was_killed(published, tmp_path, monkeypatch):
    cells = []
    for seed in range(5):
        cells.append(bulk("Cu", "fcc", a=3.59).repeat(2))
        cells[-1].positions += random_moves(1, 8, seed)[0]
    ase.io.write(tmp_path / "in.extxyz", cells)
    predict_files([tmp_path / "in.extxyz"], published, tmp_path / "whole.extxyz", device="cpu", batch_environments=8)

    calls, compute = [], Committee.forces
    monkeypatch.setattr(publish_module, "_reproduce", lambda *_: None)

    def killed(self, neighbourhoods):
        calls.append(len(neighbourhoods))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, neighbourhoods)

    monkeypatch.setattr(Committee, "forces", killed)
    arguments = [tmp_path / "in.extxyz"], published, tmp_path / "out.extxyz"
    with pytest.raises(KeyboardInterrupt):
        predict_files(*arguments, device="cpu", batch_environments=8)
    assert not (tmp_path / "out.extxyz").exists()
    partial = next(path for path in tmp_path.glob("out.extxyz.partial*"))
    partial.write_text(partial.read_text() + "half a struc")  # written, but not recorded
    assert predict_files(*arguments, device="cpu", batch_environments=8) == (5, 0)
    assert len(calls) == 3 + 3  # the third was killed; two were done
    assert (tmp_path / "out.extxyz").read_text() == (tmp_path / "whole.extxyz").read_text()


def test_two_runs_do_not_mix(published, tmp_path):
    cell = bulk("Cu", "fcc", a=3.59).repeat(2)
    cell.positions += random_moves(1, 8, 1)[0]
    for name in ("one", "other"):
        ase.io.write(tmp_path / f"{name}.extxyz", [cell, cell])
        cell.positions += random_moves(1, 8, 2)[0]
    one, other, output = tmp_path / "one.extxyz", tmp_path / "other.extxyz", tmp_path / "out.extxyz"
    with pytest.raises(StudyError, match="given twice"):
        predict_files([one, tmp_path / "." / "one.extxyz"], published, output, device="cpu")
    left = tmp_path / "out.extxyz.partial.0123456789abcdef"  # of an interrupted run of something else
    left.write_text("")
    with pytest.raises(StudyError, match=left.name):
        predict_files([one], published, output, device="cpu")
    left.unlink()
    assert predict_files([one], published, output, device="cpu") == (2, 0)
    first = output.read_text(), Path(f"{output}.records.csv").read_text()
    for paths in ([one], [other]):
        with pytest.raises(StudyError, match="another run wrote"):
            predict_files(paths, published, output, device="cpu")
    assert (output.read_text(), Path(f"{output}.records.csv").read_text()) == first


def test_records_of_an_interrupted_run_are_read_as_they_were_written_whatever_the_locale_is(tmp_path):
    """In another locale than the first run's, names with accents were not found again, and the file was cut in them."""
    structures, records = tmp_path / "out.partial", tmp_path / "records.partial"
    structures.write_text("")
    records.write_text("structure,status\nsélénium.xyz#0,ok,0\n", "utf-8")
    code = "import pathlib, sys; from phonoscreen.forcefield.predict import _resume; "
    code += "print(ascii(_resume(*map(pathlib.Path, sys.argv[1:]))))"
    done = subprocess.run(
        [sys.executable, "-c", code, structures, records], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.stdout == r"{'s\xe9l\xe9nium.xyz#0': 'ok'}" + "\n", done.stderr


def test_two_runs_at_the_same_time_are_told(published, tmp_path, monkeypatch):
    cell = bulk("Cu", "fcc", a=3.59).repeat(2)
    cell.positions += random_moves(1, 8, 1)[0]
    ase.io.write(tmp_path / "in.extxyz", [cell] * 3)
    arguments, compute = ([tmp_path / "in.extxyz"], published, tmp_path / "out.extxyz"), Committee.forces

    def meanwhile(self, neighbourhoods):
        monkeypatch.setattr(Committee, "forces", compute)
        with pytest.raises(StudyError, match="another run is writing"):
            predict_files(*arguments, device="cpu")
        return compute(self, neighbourhoods)

    monkeypatch.setattr(publish_module, "_reproduce", lambda *_: None)
    monkeypatch.setattr(Committee, "forces", meanwhile)
    assert predict_files(*arguments, device="cpu") == (3, 0)
    assert len(pandas.read_csv(tmp_path / "out.extxyz.records.csv")) == 3


def test_what_cannot_be_read_or_computed_is_recorded_and_the_rest_computed(published, tmp_path, monkeypatch):
    cell = bulk("Cu", "fcc", a=3.59).repeat(2)
    cell.positions += random_moves(1, 8, 1)[0]
    ase.io.write(tmp_path / "=good.extxyz", cell)
    (tmp_path / "bad.cif").write_text("data_x\n_cell_length_a nonsense\n")
    monkeypatch.chdir(tmp_path)
    assert predict_files(["bad.cif", "=good.extxyz"], published, "out.extxyz", device="cpu") == (1, 1)
    records = pandas.read_csv("out.extxyz.records.csv")
    assert records.structure.tolist() == ["bad.cif#0", "'=good.extxyz#0"] and "holds no structure" in records.reason[0]
    committee, _ = load_published(published, "cpu")
    monkeypatch.setattr(type(committee.members[0]), "predict", lambda self, _: torch.full((8, 3), math.inf))
    with pytest.raises(StudyError, match="not finite"):
        committee.forces(atoms_neighbourhoods(cell, committee.cutoff_angstrom))
