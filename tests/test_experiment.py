"""The experiment on force models: subsets, errors by hand, calibration, power laws, replayed selection, the plan."""

import subprocess
import sys
from collections import Counter

import h5py
import numpy
import pandas
import pytest

from phonoscreen.analysis.power_law import fit_power_law, learning_curve
from phonoscreen.audit.errors import StudyError
from phonoscreen.experiment.forces import atom_errors, point_errors
from phonoscreen.experiment.selection_trial import Oracle, replay
from phonoscreen.experiment.subsets import compounds_to_predict, first_compounds, training_for_size, training_order
from phonoscreen.forcefield.calibration import calibration_bins, calibration_factor, checked_factor, coverage_factor
from phonoscreen.forcefield.pooled import pooled
from phonoscreen.forcefield.selection import select
from phonoscreen.workflow.experiment import curve_points, curve_sources
from tests.conftest import ROOT
from tests.forcefield_crystals import SETTINGS, TRAINING, write_metals

CLASSES = {f"{name}{number}": name for name, count in (("a", 40), ("b", 10), ("c", 5)) for number in range(count)}


def test_subsets_are_nested_and_hold_every_class_in_proportion():
    order = training_order(CLASSES, 3)
    assert sorted(order) == sorted(CLASSES) and order != training_order(CLASSES, 4)
    for size in (11, 22, 44):
        counts = Counter(CLASSES[one] for one in order[:size])
        for name, total in Counter(CLASSES.values()).items():
            assert abs(counts[name] - size * total / len(CLASSES)) <= 1, (size, counts)
    assert first_compounds(CLASSES, 11, 3) == first_compounds(CLASSES, 22, 3)[:11]
    with pytest.raises(StudyError, match="56 compounds to train on wanted, 55 labelled"):
        first_compounds(CLASSES, 56, 3)


def test_few_compounds_are_trained_longer_and_the_largest_set_as_set():
    training = {"epochs": 40, "learning_rate": 0.1}
    assert training_for_size(training, 240, 240) == training
    assert training_for_size(training, 60, 240) == {"epochs": 80, "learning_rate": 0.1}


def test_phonons_are_compared_on_all_unseen_and_as_many_known_compounds():
    manifest = pandas.DataFrame({"structure_id": list("abcdef"), "part": ["validation"] * 2 + ["training"] * 4})
    dataset = pandas.DataFrame({"structure_id": list("cdef"), "split": ["training"] * 3 + ["held_out"]})
    sets = compounds_to_predict(manifest, dataset, 1)
    assert Counter(sets.values()) == {"unseen": 2, "known": 2} and sets["a"] == "unseen" and "f" not in sets


class ConstantCommittee:
    """Members whose forces differ from the labels by constant vectors."""

    def __init__(self, labels, shifts):
        self.labels, self.shifts = labels, shifts

    def supercell_forces(self, data):
        forces = self.labels[-len(data.displacements) :]
        return numpy.array([forces + shift for shift in self.shifts])


def test_atom_errors_by_hand(tmp_path):
    write_metals(tmp_path)
    with h5py.File(tmp_path / "supercells.h5") as supercells, h5py.File(tmp_path / "labels.h5") as labels:
        # mean shift (0, 0, 0.003), members at distances 0.005 and 0.001 from the labels, 0.004 from their mean
        shifts = numpy.array([[0.004, 0, 0.003], [-0.004, 0, 0.003]])
        committee = ConstantCommittee(labels["Cu"]["forces"][:], shifts)
        table = atom_errors(committee, supercells["Cu"], labels["Cu"], first=1)
        reference = labels["Cu"]["forces"][1:]
    assert sorted(set(table["supercell_index"])) == [1, 2] and len(table) == 2 * 27 and set(table["number"]) == {29}
    numpy.testing.assert_allclose(table["error_mev_per_angstrom"], 3)
    numpy.testing.assert_allclose(table["error_single_member_mev_per_angstrom"], 5)
    numpy.testing.assert_allclose(table["epsilon_mev_per_angstrom"], 4)
    pool = pooled(table.assign(structure_id="Cu", set="known"), ["set"]).iloc[0]
    assert pool["force_rmse_mev_per_angstrom"] == pytest.approx(3 / 3**0.5)
    assert pool["force_rms_mev_per_angstrom"] == pytest.approx(1e3 * numpy.sqrt((reference**2).mean()))


def test_known_compounds_are_measured_on_supercells_not_trained_on(tmp_path):
    labels, supercells = write_metals(tmp_path, count=2)
    with h5py.File(tmp_path / "labels.h5") as store:
        committee = ConstantCommittee(store["Cu"]["forces"][:], numpy.zeros((2, 1, 3)))
        table = point_errors(committee, supercells, labels, ["Cu"], ["Cu"], 1)
        assert table.groupby("set")["supercell_index"].unique().map(list).to_dict() == {"known": [1], "unseen": [0, 1]}
        assert set(point_errors(committee, supercells, labels, ["Cu"], ["Cu"], None)["set"]) == {"unseen"}


def overconfident_atoms(ratio, n_structures=60, n_atoms=80):
    """Atoms whose normal errors have an RMS length of ``ratio`` times the disagreement."""
    rng = numpy.random.default_rng(5)
    epsilon = numpy.exp(rng.normal(2, 0.7, (n_structures, 1)) + rng.normal(0, 0.2, (n_structures, n_atoms)))
    error = numpy.linalg.norm(rng.normal(size=(n_structures, n_atoms, 3)), axis=-1) * epsilon * ratio / 3**0.5
    ids = numpy.repeat([f"s{n}" for n in range(n_structures)], n_atoms)
    columns = {"epsilon_mev_per_angstrom": epsilon.ravel(), "error_mev_per_angstrom": error.ravel()}
    return pandas.DataFrame({"structure_id": ids, **columns})


def test_the_factor_recovers_how_overconfident_a_committee_is_and_the_other_half_confirms_it():
    facts = checked_factor(overconfident_atoms(4.0), seed=1)
    assert facts["factor"] == pytest.approx(4.0, rel=0.03) and facts["epsilon_over_error"] == pytest.approx(
        0.25, rel=0.03
    )
    assert facts["error_over_recalibrated"] == pytest.approx(1, abs=0.04)
    assert facts["within_one"] == pytest.approx(0.608, abs=0.02) and facts["within_two"] == pytest.approx(
        0.993, abs=0.01
    )
    assert facts["rank_correlation_structures"] > 0.9
    with pytest.raises(StudyError, match="does not disagree"):
        calibration_factor([0.0, 0.0], [1.0, 2.0])


def test_the_factor_of_a_spread_covers_as_many_errors_as_a_normal_distribution_does():
    """A spread a third of the error's standard deviation, and a tenth of the errors ten times as large."""
    rng = numpy.random.default_rng(5)
    spread = numpy.exp(rng.normal(-3, 0.6, 4000))
    error = numpy.abs(3 * spread * rng.normal(size=4000))
    names = [f"s{n}" for n in range(4000)]
    facts = coverage_factor(spread, error, names, seed=1)
    assert facts["factor"] == pytest.approx(3, rel=0.05) and facts["n_fitted"] + facts["n_checked"] == 4000
    assert facts["within"] == pytest.approx(0.683, abs=0.03) and facts["within_raw"] == pytest.approx(0.261, abs=0.03)
    few = numpy.where(rng.random(4000) < 0.1, 10 * error, error)
    assert coverage_factor(spread, few, names, seed=1)["within"] == pytest.approx(0.683, abs=0.03)
    unusable = numpy.where(numpy.arange(4000) < 3985, numpy.nan, spread)
    with pytest.raises(StudyError, match="15 structures with a spread"):
        coverage_factor(unusable, error, names, seed=1)


def test_bins_hold_equal_counts_and_conserve_the_mean_squares():
    atoms = overconfident_atoms(2.0)
    bins = calibration_bins(atoms["epsilon_mev_per_angstrom"], atoms["error_mev_per_angstrom"], 12)
    assert bins["n_atoms"].max() - bins["n_atoms"].min() <= 1 and bins["epsilon"].is_monotonic_increasing
    for name in ("epsilon", "error"):
        mean = numpy.average(bins[name] ** 2, weights=bins["n_atoms"])
        assert mean == pytest.approx((atoms[f"{name}_mev_per_angstrom"] ** 2).mean())


def test_a_power_law_is_found_and_its_interval_holds_the_truth():
    scale, exponent = fit_power_law([10, 20, 80], 5 * numpy.array([10.0, 20, 80]) ** -0.4)
    assert (scale, exponent) == (pytest.approx(5), pytest.approx(0.4))
    rng, rows = numpy.random.default_rng(0), []
    hardness = numpy.exp(rng.normal(0, 0.5, 70))
    for size, repeats in ((25, 3), (60, 3), (120, 2), (240, 1)):
        for repeat in range(repeats):
            noise = numpy.exp(rng.normal(0, 0.1) + rng.normal(0, 0.2, 70))
            errors = 3 * size**-0.3 * hardness * noise
            rows += [(size, repeat, f"c{n}", error) for n, error in enumerate(errors)]
    points = pandas.DataFrame(rows, columns=["size", "repeat", "structure_id", "error"])
    law = learning_curve(points, lambda group: group["error"].mean(), seed=1)
    low, high = law.interval(3182)
    truth = 3 * 3182**-0.3 * numpy.exp(0.5**2 / 2 + 0.2**2 / 2 + 0.1**2 / 2)
    assert low < truth < high and law.exponent == pytest.approx(0.3, abs=0.1)
    assert high - low < truth, "seventy compounds tell more than the order of magnitude"


def test_diverse_selection_leaves_out_what_is_like_the_labelled_compounds():
    formulas = {"salt": "NaCl", "salt again": "KCl", "alloy": "CuPd", "alloy again": "NiPd"}
    columns = {"shard": "0000", "supercell_index": 0, "epsilon_max_mev_per_angstrom": [100.0, 99.0, 98.0, 97.0]}
    candidates = pandas.DataFrame({"structure_id": list(formulas), **columns})

    def chosen(labelled):
        return list(select(candidates, "diverse", 2, seed=1, formulas=formulas, labelled=labelled).structure_id)

    assert [name.split()[0] for name in chosen([])] == ["salt", "alloy"]
    assert chosen(["salt"])[0].startswith("alloy") and chosen(["alloy"])[0].startswith("salt")
    sure = candidates.assign(epsilon_max_mev_per_angstrom=[100.0, 99.0, 0.01, 0.01])
    assert list(select(sure, "diverse", 2, seed=1, formulas=formulas).structure_id) == ["salt", "salt again"]


def test_replay_starts_equal_grows_as_asked_and_measures_unseen_compounds(tmp_path):
    labels, supercells = write_metals(tmp_path, count=2)
    rows = [(name, name, "225-A", "0000") for name in labels]
    manifest = pandas.DataFrame(rows, columns=["structure_id", "formula", "prototype", "shard"])
    oracle = Oracle(supercells, labels, manifest, ["Al", "Ni", "Cu", "Pd", "Ag"], ["Pt", "Au"])
    training = {**TRAINING, "epochs": 2, "held_out_fraction": 0.2}
    tables = {
        strategy: replay(oracle, strategy, SETTINGS, training, members=2, start=2, per_round=2, rounds=1, seed=3)
        for strategy in ("worst_supercell", "random")
    }
    for table in tables.values():
        assert table["n_compounds"].tolist() == [2, 4] and set(table["n_structures"]) == {2}
        assert numpy.isfinite(table["force_rmse_mev_per_angstrom"]).all()
    first = [table.iloc[0]["force_rmse_mev_per_angstrom"] for table in tables.values()]
    assert first[0] == pytest.approx(first[1], rel=1e-9)


def test_points_and_sources_of_the_curves():
    settings = {"models": {"one": {}, "two": {}}, "learning_curve": [[25, 2], [240, 1]], "committee": 3, "scale": 1}
    points = curve_points(settings)
    assert [(p["size"], p["repeat"], len(p["members"])) for p in points if p["model"] == "one"] == [
        (25, 0, 1), (25, 1, 1), (240, 0, 3)
    ]  # fmt: skip
    larger = [(p["size"], len(p["members"])) for p in curve_points({**settings, "scale": 3}) if p["model"] == "one"]
    assert larger[2:] == [(240, 1), (480, 1), (720, 3)]
    assert list(curve_sources(points))[:3] == ["one-25", "one-240", "one-240-committee"]


def test_the_experiment_is_planned_to_its_report():
    command = [sys.executable, "-m", "snakemake", "--profile", "experiment", "-n", "experiment", "--quiet", "rules"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    planned = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) == 2)
    for rule in ("label_forces", "train_point", "measure_point", "replay_selection", "solve_bte", "write_experiment"):
        assert int(planned[rule]) > 0, done.stdout
