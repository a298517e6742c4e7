"""Tables gathered from the files of a small study."""

import csv
import json

import h5py
import numpy
import pandas
import pytest
from jsonschema import Draft202012Validator

from phonoscreen.analysis.beginning import beginning
from phonoscreen.analysis.comparison import OURS, pairs, pooled_errors, reference_name
from phonoscreen.analysis.embedding import embed, structure_vector
from phonoscreen.analysis.screening import screen
from phonoscreen.analysis.tables import trained_structures, write_tables
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.density import DensityMesh
from tests.small_study import ROOT, Names, tabulate, write_small_study

SCHEMAS = sorted(path.stem for path in (ROOT / "schemas/tables").glob("*.json"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_small_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def tables(study):
    return tabulate(study)


def check_schema(name, table):
    schema = json.loads((ROOT / f"schemas/tables/{name}.json").read_text())
    assert list(table.columns) == list(schema["items"]["properties"])
    rows = json.loads(table.to_json(orient="records"))
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(rows)]
    assert not errors, errors[:3]


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "headline"])
def test_table_keeps_its_schema(tables, name):
    check_schema(name, tables[name])


@pytest.mark.parametrize("n_structures", [1, 2])
def test_tables_of_a_tiny_study_keep_their_schemas(tmp_path, n_structures):
    for name, table in tabulate(write_small_study(tmp_path, n_structures)).items():
        check_schema(name, table)


def test_csv_holds_the_same_table(study, tables):
    for name, table in tables.items():
        text = pandas.read_csv(study / f"tables/{name}.csv", keep_default_na=False)
        assert len(text) == len(table) and list(text.columns) == list(table.columns), name


def test_equal_files_give_equal_tables(study, tables):
    for name, table in tabulate(study).items():
        pandas.testing.assert_frame_equal(table, tables[name], check_exact=True)


def test_statuses_of_every_stage_sum_to_the_manifest(tables):
    sums = tables["status"].groupby(["stage", "source"])["n_structures"].sum()
    assert len(sums) == 13 and (sums == 24).all()


def test_every_structure_has_a_row_for_both_kinds_of_forces(tables):
    counts = tables["transport"].groupby("source")["structure_id"].nunique()
    assert counts.to_dict() == {"predicted": 24, "reference": 24}


def test_modes_sum_to_the_conductivity_of_their_structure(tables):
    transport = tables["transport"].set_index(["structure_id", "source"])
    for key, group in tables["modes"].groupby(["structure_id", "source"]):
        # modes without a linewidth are left out of the table, so the sum may only be smaller
        assert 0 < group["kappa_p_w_per_m_k"].sum() <= transport.loc[key, "kappa_p_w_per_m_k"] * (1 + 1e-12)


def test_relaxation_time_is_the_inverse_angular_linewidth(study, tables):
    mode = tables["modes"].iloc[0]
    path = next(p for p in (study / f"transport/{mode['source']}").glob("*.h5") if mode["structure_id"] in h5py.File(p))
    with h5py.File(path) as store:
        width = store[mode["structure_id"]]["linewidth_fwhm_thz"][int(mode["point"]), int(mode["band"])]
    assert mode["relaxation_time_ps"] * 2 * numpy.pi * width == pytest.approx(1)


def test_values_of_structures_that_are_not_ok_are_absent(tables):
    rest = tables["transport"][tables["transport"]["status"] != "ok"]
    assert len(rest) and rest["kappa_p_w_per_m_k"].isna().all()


def test_element_means_are_means_over_atoms(study, tables):
    values = []
    for path in sorted((study / "transport/predicted").glob("*.h5")):
        with h5py.File(path) as store, h5py.File(study / "relaxed" / path.name) as cells:
            for structure_id, group in store.items():
                values += list(group["msd_angstrom2"][()][cells[structure_id]["numbers"][()] == 17])
    row = tables["elements"].query("source == 'predicted' and element == 'Cl'").iloc[0]
    assert row["n_atoms"] == len(values) and row["msd_mean_angstrom2"] == pytest.approx(numpy.mean(values))


def test_what_the_model_had_learned_before_counts_as_trained_on_and_is_said(tmp_path):
    """Same reduced formula and space group, whatever the order of the elements; another polymorph was not seen."""
    manifest = pandas.DataFrame(
        {"structure_id": ["a", "b", "c"], "formula": ["NaCl", "NaCl", "KBr"], "space_group_number": [225, 221, 225]}
    )
    path = tmp_path / "compounds.csv"
    path.write_text("formula,space_group_number,source\nClNa,225,labels\nNaN,221,labels\n")
    assert trained_structures((), manifest, path) == {"a"} and trained_structures((), manifest) == set()
    (tmp_path / "model.json").write_text('{"n_structures": 2, "label_engine": "7net-x (a universal potential)"}')
    model, same = [tmp_path / "model.json"], "recorded labels of the universal potential 7net-x"
    told = beginning(model, [path], manifest, same)
    assert "7net-x (a universal potential)" in told and "1 of the 3 structures" in told and "other labels" not in told
    assert "not recorded" in beginning(model, [], manifest, same) and beginning([], [], manifest, same) == ""
    assert "other labels than the study's own, which are of universal potential SevenNet 7net-l3i5" in beginning(
        model, [path], manifest, reference_name("sevennet", "7net-l3i5")
    )


def test_force_errors_use_validation_structures_only(tables):
    parts = tables["phonons"].set_index("structure_id")["part"]
    assert set(parts[tables["force_errors"]["structure_id"]]) == {"validation"}
    assert set(parts[tables["round_errors"]["structure_id"]]) == {"validation"}


def test_selected_structures_count_as_trained(tables):
    chosen = tables["phonons"].query("part == 'unexplored' and trained")
    assert len(chosen) == 2


def test_pooled_force_error_is_that_of_all_components(study, tables):
    errors = []
    for path in sorted((study / "labels").glob("*.h5")):
        with h5py.File(path) as truth, h5py.File(study / "predicted" / path.name) as model:
            for structure_id in set(tables["force_errors"]["structure_id"]).intersection(truth):
                index = truth[structure_id]["supercell_index"][()]
                errors.append((model[structure_id]["forces"][()][index] - truth[structure_id]["forces"][()]).ravel())
    expected = 1000 * numpy.sqrt((numpy.concatenate(errors) ** 2).mean())
    assert pooled_errors(tables["force_errors"]).loc[OURS, "force_rmse_mev_per_angstrom"] == pytest.approx(expected)


def test_augmented_environments_are_frames_times_environments(tables):
    rounds = tables["rounds"]
    assert (rounds["n_environments_augmented"] == 3 * rounds["n_environments"]).all()
    assert rounds["n_structures"].is_monotonic_increasing


def test_pairs_are_the_structures_ok_with_both_forces(tables):
    both = pairs(tables["transport"], "kappa_p_w_per_m_k")
    ok = tables["transport"].query("status == 'ok'").groupby("structure_id").size()
    assert sorted(both["structure_id"]) == sorted(ok[ok == 2].index)


def test_filter_follows_the_reference_line(tables):
    result = screen(tables["transport"])
    assert result.lines["reference"].kappa(result.threshold) == pytest.approx(result.kappa_w_per_m_k)
    assert result.counts.above + result.counts.below == len(result.points["predicted"])
    assert set(result.points["predicted"]["x"].between(-1, 2)) == {True}


def test_screen_of_nothing_is_none(tables):
    assert screen(tables["transport"].iloc[:0]) is None


def test_structure_vector_does_not_depend_on_the_orientation():
    cell = 2.8 * (1 - numpy.eye(3))
    places = numpy.array([[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]])
    rotation = numpy.linalg.qr(numpy.random.default_rng(2).normal(size=(3, 3)))[0]
    rotation *= numpy.sign(numpy.linalg.det(rotation))
    crystal, mesh = Crystal(cell, places, numpy.array([28, 22, 50]), numpy.ones(3)), DensityMesh(5.0, 1.25, 0.7)
    turned = Crystal(cell @ rotation, places, crystal.numbers, crystal.masses)
    vector = structure_vector(crystal, mesh, 3)
    assert numpy.abs(structure_vector(turned, mesh, 3) - vector).max() < 1e-4 * numpy.abs(vector).max()


def test_map_is_the_same_in_every_run_and_keeps_clusters_apart():
    rng = numpy.random.default_rng(0)
    vectors = numpy.concatenate([rng.normal(0, 0.1, (20, 30)), rng.normal(3, 0.1, (20, 30))])
    first, second = embed(vectors, 5), embed(vectors, 5)
    assert numpy.array_equal(first, second)
    centres = first[:20].mean(axis=0), first[20:].mean(axis=0)
    spread = max(numpy.linalg.norm(first[:20] - centres[0], axis=1).max(), 1e-9)
    assert numpy.linalg.norm(centres[0] - centres[1]) > spread


def test_too_few_vectors_have_no_map():
    assert numpy.isnan(embed(numpy.ones((3, 10)), 1)).all()


def test_a_universal_potential_is_never_called_dft():
    for engine in ("nequix", "sevennet", "chgnet"):
        assert "DFT" not in reference_name(engine, "any") and "universal potential" in reference_name(engine, "any")
    assert reference_name("vasp", "PBE") == "DFT (PBE, VASP)"
    assert reference_name("collected", "PBE") == "collected outputs (PBE)"
    assert reference_name("emt", "asap") == "emt asap"


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path):
    texts = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "-1.5", "NaCl", None]
    table = pandas.DataFrame({"structure_id": texts, "kappa_w_per_m_k": numpy.linspace(-3, 3, len(texts))})
    output = Names(table=tmp_path / "t.parquet", table_csv=tmp_path / "t.csv")
    write_tables(output, table=table)
    rows = list(csv.reader(open(tmp_path / "t.csv")))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'+cmd", "'-x", "'@SUM(A1)", "'\t=1", "-1.5", "NaCl", ""]
    assert [float(row[1]) for row in rows] == table.kappa_w_per_m_k.tolist()
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "t.parquet"), table)
