"""A published model beside its labels, the calibration of its spread, and what a screening reads of it."""

import json
import shutil

import h5py
import numpy
import pandas
import pytest
import yaml

from phonoscreen.analysis.model_comparison import Judge, judge, summary
from phonoscreen.forcefield.models.model_json import read_model_json, write_model_json
from phonoscreen.forcefield.publish import load_published
from phonoscreen.stages.republishing import keep_judgement, networks_of, to_run_again
from phonoscreen.stages.spread_calibration import HEADING, calibrations, lattice_constants, write_calibration
from phonoscreen.structures.packed_labels import read_product
from tests.conftest import ROOT


def test_errors_of_the_logarithm_are_those_of_spreads_in_decades():
    """Predictions off by factors drawn with twice the spread; unstable compounds do not count."""
    rng = numpy.random.default_rng(3)
    n = 600
    spread = numpy.exp(rng.normal(-2.5, 0.4, n))
    kappa = numpy.exp(rng.normal(1, 1, n))
    table = pandas.DataFrame({
        "structure_id": [f"s{k}" for k in range(n)], "status": "ok",
        "status_reference": ["unstable" if k < 100 else "ok" for k in range(n)],
        "lattice_constant_ratio": 1 + 0.01 * (-1.0) ** numpy.arange(n),
    })  # fmt: skip
    names = ("kappa_p_rta_w_per_m_k", "kappa_c_w_per_m_k", "p3_total_ps", "msd_max_angstrom2",
             "heat_capacity_j_per_mol_k", "sound_velocity_m_per_s")  # fmt: skip
    columns = ("kappa_p_rta_std_decades", "kappa_c_std_decades", "p3_total_std_decades", "msd_max_std_angstrom2",
               "heat_capacity_std_j_per_mol_k", "sound_velocity_std_m_per_s")  # fmt: skip
    for name, column in zip(names, columns, strict=True):
        away = 2 * spread * rng.normal(size=n)
        table[f"{name}_reference"], table[column] = kappa, spread
        table[name] = kappa * 10**away if column.endswith("decades") else kappa + away
    found = calibrations(table)
    assert set(found) == set(columns)
    for facts in found.values():
        assert facts["factor"] == pytest.approx(2, rel=0.15) and facts["n_fitted"] + facts["n_checked"] == 500
    assert lattice_constants(table)["median_percent"] == pytest.approx(1.0)


def test_the_published_factors_are_those_of_the_compounds_judged():
    """Half of the never-seen compounds gives the factor; on the other half it covers what an error bar should."""
    found = calibrations(pandas.read_csv(ROOT / "resources/model/judged.csv"))
    content = read_model_json(ROOT / "resources/model/model.json")
    for column, facts in found.items():
        assert content["calibration"][column] == pytest.approx(facts["factor"], rel=1e-3), column
    checked = found["kappa_p_rta_std_decades"]
    assert abs(checked["within"] - 0.68) <= 2 * (0.68 * 0.32 / checked["n_checked"]) ** 0.5  # two standard errors


def test_factors_stand_in_the_model_that_is_loaded_and_a_compound_is_judged_once(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "resources/model", folder)
    before = networks_of(folder)
    facts = {"factor": 1.5, "within_raw": 0.5, "within": 0.68, "n_fitted": 10, "n_checked": 11}
    lattice = {"compounds": 21, "median_percent": 0.4, "percentile_90_percent": 1.2}
    for _ in range(2):
        write_calibration(folder, {"kappa_p_rta_std_decades": facts}, lattice)
    card = (folder / "README.md").read_text()
    assert card.count("| 1.50 | 50 % | 68 % |") == 1 and card.count(HEADING) == 1 and "## Limits" in card
    assert read_model_json(folder / "model.json")["calibration"] == {"kappa_p_rta_std_decades": 1.5}
    assert networks_of(folder) == before  # the same networks, whatever is said of them
    committee, content = load_published(folder, "cpu")
    assert json.loads((folder / "model.json").read_text())["calibration"] == content["calibration"]
    _, labelled = read_product(ROOT / "resources/labels/teacher_labels.h5")
    tests = [item for item in labelled if item[0]["role"] == "test" and item[1]]
    smallest = min(tests, key=lambda item: item[1]["displacements"].size)
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        table = judge([smallest], Judge(committee, content, settings, bases), tmp_path / "table.csv")
    row = table.iloc[0]
    assert row["status_reference"] in ("ok", "unstable", "not_converged")
    assert abs(row["lattice_constant_ratio"] - 1) < 0.05
    kept = pandas.read_csv(ROOT / "resources/model/judged.csv").set_index("structure_id").loc[row["structure_id"]]
    assert kept["status"] == row["status"] and kept["status_reference"] == row["status_reference"]
    for name in ("force_rmse_mev_per_angstrom", "force_rms_mev_per_angstrom", "frequency_rmse_relative"):
        assert row[name] == pytest.approx(kept[name], rel=2e-3), name
    again = judge([smallest], None, tmp_path / "table.csv")
    pandas.testing.assert_frame_equal(again, table)


def test_the_same_networks_keep_their_judgement_when_published_again_and_others_do_not(tmp_path):
    source, labels = ROOT / "resources/model", ROOT / "resources/labels/teacher_labels.h5"
    known = read_model_json(source / "model.json")
    for name in ("same", "other"):
        fresh = tmp_path / name
        fresh.mkdir()
        shutil.copyfile(source / "README.md", fresh / "README.md")
        sha256 = known["members_sha256"] if name == "same" else {**known["members_sha256"], known["members"][0]: "0"}
        write_model_json(
            {**{key: known[key] for key in known if key != "calibration"}, "members_sha256": sha256},
            fresh / "model.json",
        )
        assert len(to_run_again(fresh, labels)) == 1
        keep_judgement(source, fresh)
    assert read_model_json(tmp_path / "same/model.json")["calibration"] == pytest.approx(known["calibration"], rel=1e-3)
    assert (tmp_path / "same/judged.csv").read_bytes() == (source / "judged.csv").read_bytes()
    assert to_run_again(tmp_path / "same", labels) == []
    assert not (tmp_path / "other/judged.csv").exists()
    assert "model_comparison" in to_run_again(tmp_path / "other", labels)[0]


def test_the_summary_counts_verdicts_and_conductivities_by_hand():
    table = pandas.DataFrame({
        "reason": [None] * 4 + ["no basis"], "status_reference": ["ok", "ok", "unstable", "unstable", None],
        "status": ["ok", "unstable", "ok", "unstable", None],
        "force_rmse_mev_per_angstrom": [10.0, 20.0, 10.0, 20.0, numpy.nan],
        "force_rms_mev_per_angstrom": [100.0] * 4 + [numpy.nan],
        "frequency_rmse_relative": [0.02, 0.04, 0.1, 0.2, numpy.nan],
        "kappa_p_w_per_m_k_reference": [10.0, 1.0, numpy.nan, numpy.nan, numpy.nan],
        "kappa_p_w_per_m_k": [20.0, numpy.nan, 3.0, numpy.nan, numpy.nan],
    })  # fmt: skip
    found = summary(table)
    assert (found["compounds"], found["judged"], found["stable with the labels"]) == (5, 4, 2)
    assert found["stable: precision %"] == found["stable: recall %"] == 50.0
    assert found["force RMSE, meV/angstrom"] == pytest.approx(250**0.5)
    assert found["force RMSE / RMS, mean over compounds, %"] == pytest.approx(15)
    assert found["the same of the stable ones, mean %"] == pytest.approx(3)
    assert found["with both conductivities"] == 1 and found["log10 kappa MAE"] == pytest.approx(numpy.log10(2))
