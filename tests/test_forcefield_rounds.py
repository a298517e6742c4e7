"""The scripts of active learning, one after another, on seven metals: inputs, outputs and records."""

import json
import os
import runpy
from types import SimpleNamespace

import h5py
import numpy
import pandas
import pytest

from phonoscreen.forcefield.publish import load_published
from tests.conftest import ROOT
from tests.forcefield_crystals import SETTINGS, TRAINING, write_metals

PARTS = {
    "Al": "training", "Ni": "training", "Cu": "training", "Pd": "training",
    "Ag": "unexplored", "Au": "unexplored", "broken": "unexplored", "Pt": "validation",
}  # fmt: skip
MANIFEST, SUPERCELLS = "results/structures/manifest.parquet", "results/supercells/0000.h5"
RECORDS = "results/supercells/0000.parquet"


class Names(list):
    """Files or settings by name, iterated as one flat list, as Snakemake gives them to a script."""

    def __init__(self, names):
        self.names = names
        for value in names.values():
            self.extend(value if isinstance(value, list) else [value])

    def __getattr__(self, name):
        if name == "names" or name not in self.names:
            raise AttributeError(name)
        return self.names[name]

    def __getitem__(self, key):
        return self.names[key] if isinstance(key, str) else super().__getitem__(key)

    def keys(self):
        return self.names.keys()

    def get(self, name, default=None):
        return self.names.get(name, default)


def run(rule, input, output, params=None, **wildcards):
    job = SimpleNamespace(
        input=Names(input), output=Names(output), params=Names(params or {}), wildcards=Names(wildcards), log=[],
        threads=1, rule=rule, resources=Names({"device": "cpu", "processes": 1}),
    )  # fmt: skip
    runpy.run_path(str(ROOT / "scripts" / f"{rule}.py"), init_globals={"snakemake": job})


def members(number):
    folder = f"results/rounds/{number}/members"
    return {
        "weights": [f"{folder}/{m}/model.safetensors" for m in range(2)],
        "settings": [f"{folder}/{m}/model.json" for m in range(2)],
    }


def play_round(number, threshold):
    """One round: assemble, train two members, query, select, and store the labels of the selection."""
    folder, before = f"results/rounds/{number}", range(number)
    verdicts = [f"results/rounds/{n}/convergence.json" for n in before]
    run(
        "assemble_dataset",
        {
            "supercells": [SUPERCELLS], "labels": ["results/labels/0000.h5"], "manifest": MANIFEST,
            "selected_labels": [f"results/rounds/{n}/labels/0000.h5" for n in before],
        },
        {"arrays": f"{folder}/dataset.h5", "table": f"{folder}/dataset.parquet"},
        {"held_out_fraction": 0.2, "max_supercells_per_structure": None, "seed": 1},
    )  # fmt: skip
    for member in range(2):
        previous = [files[member] for files in members(number - 1).values()] if number else []
        run(
            "train_member",
            {"dataset": f"{folder}/dataset.h5", "previous": previous, "convergence": verdicts[-1:]},
            {**{name: files[member] for name, files in members(number).items()},
             "history": f"{folder}/members/{member}/history.parquet"},
            {"force_model": SETTINGS, "training": TRAINING, "seed": 1},
            round=str(number), member=str(member),
        )  # fmt: skip
    run(
        "query_committee",
        {
            **members(number), "supercells": SUPERCELLS, "records": RECORDS, "manifest": MANIFEST,
            "convergence": verdicts,
        },
        {"records": f"{folder}/uncertainty/0000.parquet"},
        round=str(number), shard="0000",
    )  # fmt: skip
    run(
        "select_supercells",
        {
            "uncertainty": [f"{folder}/uncertainty/0000.parquet"], "manifest": MANIFEST, "convergence": verdicts,
            "selections": [f"results/rounds/{n}/selection.parquet" for n in before],
        },
        {"selection": f"{folder}/selection.parquet", "convergence": f"{folder}/convergence.json"},
        {"threshold_mev_per_angstrom": threshold, "strategy": "worst_supercell", "select_max": 1,
         "converged_change": 0.05, "seed": 1},
    )  # fmt: skip
    selection = pandas.read_parquet(f"{folder}/selection.parquet")
    os.makedirs(f"{folder}/labels")
    with h5py.File("true.h5") as truth, h5py.File(f"{folder}/labels/0000.h5", "w") as store:
        for row in selection.itertuples():
            group = store.create_group(row.structure_id)
            group["forces"] = truth[row.structure_id]["forces"][[row.supercell_index]]
            group["supercell_index"] = [row.supercell_index]
            group.attrs.update(truth[row.structure_id].attrs)
    return selection, json.loads(open(f"{folder}/convergence.json").read())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder in which three rounds were played: one selects, one finds nothing above the threshold, one rests."""
    folder, here = tmp_path_factory.mktemp("study"), os.getcwd()
    os.chdir(folder)
    try:
        write_metals(folder)
        for name in ("structures", "supercells", "labels"):
            os.makedirs(f"results/{name}")
        os.rename("labels.h5", "true.h5")
        os.rename("supercells.h5", SUPERCELLS)
        with h5py.File(SUPERCELLS, "a") as store:  # one structure with displacements that are not numbers
            store.copy("Al", store, name="broken")
            store["broken"]["displacements"][0, 0, 0] = numpy.nan
        with h5py.File("true.h5") as truth, h5py.File("results/labels/0000.h5", "w") as store:
            for name, part in PARTS.items():
                if part != "unexplored":
                    truth.copy(name, store)
        table = pandas.DataFrame({"structure_id": list(PARTS), "part": list(PARTS.values()), "shard": "0000"})
        table.assign(formula=table.structure_id, prototype="225-A").to_parquet(MANIFEST)
        records = table[["structure_id"]].assign(stage="displace_supercells", status="ok", reason="")
        records.to_parquet(RECORDS)
        labelled = records.assign(status=["skipped" if part == "unexplored" else "ok" for part in PARTS.values()])
        labelled.assign(reason="part", stage="label_forces").to_parquet("results/labels/0000.parquet")
        rounds = [play_round(0, 0.0), play_round(1, 1e6), play_round(2, 0.0)]
        run(
            "validate_round",
            {**members(2), "supercells": [SUPERCELLS], "labels": ["results/labels/0000.h5"],
             "records": ["results/labels/0000.parquet"], "manifest": MANIFEST},
            {"records": "results/rounds/2/validation.parquet"},
            round="2",
        )  # fmt: skip
        published = [f"results/model/member{m}.safetensors" for m in range(2)]
        run(
            "publish_model",
            {**members(2), "dataset": "results/rounds/2/dataset.h5",
             "dataset_table": "results/rounds/2/dataset.parquet", "validation": "results/rounds/2/validation.parquet"},
            {"weights": published, "settings": "results/model/model.json", "card": "results/model/card.md"},
            {"code": "0123", "licence": "CC-BY-4.0"},
        )  # fmt: skip
        run(
            "predict_forces",
            {"supercells": SUPERCELLS, "records": RECORDS, "model": "results/model/model.json", "weights": published},
            {"arrays": "results/predicted/0000.h5", "records": "results/predicted/0000.parquet"},
            shard="0000",
        )  # fmt: skip
    finally:
        os.chdir(here)
    return folder / "results", rounds


def test_only_unexplored_structures_are_queried_and_bad_ones_are_recorded(study):
    results, _ = study
    records = pandas.read_parquet(results / "rounds/0/uncertainty/0000.parquet").set_index("structure_id")
    assert set(records.index) == set(PARTS)
    assert set(records.index[records.status == "ok"]) == {"Ag", "Au"}
    assert records.status["broken"] == "failed" and "not finite" in records.reason["broken"]
    assert records.reason["Pt"] == "part validation"


def test_a_selected_supercell_is_trained_on_in_the_next_round(study):
    results, rounds = study
    selection, verdict = rounds[0]
    assert verdict["recommended"] == 2 and verdict["selected"] == len(selection) == 1
    data = pandas.read_parquet(results / "rounds/1/dataset.parquet").set_index("structure_id")
    assert data.n_supercells[selection.structure_id[0]] == 1
    assert "Pt" not in data.index


def test_after_convergence_nothing_is_selected_and_members_are_copied(study):
    results, rounds = study
    assert rounds[1][1]["converged"] and rounds[1][1]["selected"] == 0
    assert rounds[2][1]["converged"] and rounds[2][0].empty
    for member in range(2):
        weights = [(results / f"rounds/{n}/members/{member}/model.safetensors").read_bytes() for n in range(3)]
        assert weights[0] != weights[1] and weights[1] == weights[2]
    assert pandas.read_parquet(results / "rounds/2/members/0/history.parquet").empty
    assert not list((results / "rounds").glob("*/members/*/*checkpoint*"))


def test_validation_is_on_structures_never_trained_on(study):
    records = pandas.read_parquet(study[0] / "rounds/2/validation.parquet")
    assert records.structure_id.tolist() == ["Pt"] and records.status.tolist() == ["ok"]
    assert records.n_supercells[0] == 3 and 0 < records.force_rmse_relative[0] < 2
    square, size, count = json.loads(records.squares_by_element[0])["Pt"]
    assert count == 3 * 27 * 3
    assert 1e3 * (square / count) ** 0.5 == pytest.approx(records.force_rmse_mev_per_angstrom[0])
    card = (study[0] / "model/card.md").read_text()
    assert f"| Pt | 1 | {records.force_rmse_mev_per_angstrom[0]:.1f} | {(square / size) ** 0.5:.2f} |" in card


def test_predictions_are_the_mean_of_the_committee_on_every_supercell(study):
    results, _ = study
    records = pandas.read_parquet(results / "predicted/0000.parquet").set_index("structure_id")
    assert records.status.to_dict() == {name: "failed" if name == "broken" else "ok" for name in PARTS}
    assert records.elements_not_trained["Pt"] == "Pt" and records.elements_not_trained["Cu"] == ""
    committee, content = load_published(results / "model", "cpu")
    assert content["round"] == 2 and content["validation_structures"] == 1
    with h5py.File(results / "predicted/0000.h5") as store:
        group = store["Ag"]
        assert group["forces"].shape == (3, 27, 3) and group["committee_forces"].shape == (2, 3, 27, 3)
        numpy.testing.assert_allclose(group["committee_forces"][:].mean(axis=0), group["forces"][:], atol=1e-6)
        assert (group["residual_forces"][:] == 0).all()
