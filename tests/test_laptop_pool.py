"""The pool of the laptop study: known compounds with recorded labels, and others that are only predicted."""

import h5py
import pandas
import pytest
import yaml

from phonoscreen.analysis.tables import trained_structures
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.settings import OrderSettings, SupercellSettings
from phonoscreen.reference.registry import make_engine
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.displaced_supercells import displace_structure
from phonoscreen.stages.labels import label_supercells
from phonoscreen.structures.packed_labels import read_product
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.sources import read_pool
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.third_order_reach import ThirdOrderReach
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def pool():
    return pandas.read_csv(ROOT / "resources/laptop_pool.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def roles():
    """Role in the training of the published model, by structure id."""
    _, labelled = read_product(ROOT / "resources/labels/teacher_labels.h5")
    return {record["structure_id"]: record["role"] for record, arrays in labelled if arrays}


def test_three_hundred_compounds_are_screened_with_recorded_crystals_that_no_model_was_trained_on(pool, roles):
    screened = pool.loc[pool["part"] == "screened", "structure_id"]
    assert len(screened) == 300 and {roles[name] for name in screened} == {"test"}


def test_what_judges_the_model_was_not_in_the_training_of_the_one_it_starts_from(pool, roles):
    """Neither among the compounds whose labels it learned from, nor among those with forces of DFT."""
    judging = pool[pool["part"].isin(["validation", "unexplored", "screened"])]
    assert not [name for name in judging["structure_id"] if roles.get(name) == "training"]
    assert judging["part"].value_counts().to_dict() == {"screened": 300, "validation": 70, "unexplored": 11}
    manifest = pool.assign(space_group_number=pool["prototype"].str.split("-").str[0])
    seen = trained_structures((), manifest, ROOT / "resources/model/compounds.csv")
    assert not seen & set(judging["structure_id"]) and len(seen) >= 20


def test_the_study_relaxes_and_labels_all_of_it_without_the_potential(pool):
    """Of structures that stand for the parts: labels of the laptop's own file, and of those made for training."""
    study = check_settings(yaml.safe_load((ROOT / "profiles/laptop/study.yaml").read_text()))
    files = {name: ROOT / study["reference"]["recorded"][name] for name in ("file", "relaxed")}
    engine = make_engine({"engine": "recorded", "model": "", **files}, 1)
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    rows = pool.set_index("structure_id")
    supercell = SupercellSettings.from_section(study["supercell"])
    orders, tolerance = OrderSettings.from_section(study["force_constants"]), 0.01
    labelled = pool[pool["part"] == "validation"]["structure_id"]
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(types))
        for name in [labelled.iloc[0], *labelled.iloc[-60::20]]:
            start = build_structure(rows.loc[name, "formula"], rows.loc[name, "prototype"], types)
            relaxed = relax_structure(start, engine, name, study["relax"], tolerance)
            assigned = assigner.assign(Crystal.from_ase(read_atoms(relaxed.arrays)))
            length, seed = study["supercell"]["displacement_angstrom"], study["seed"]
            displaced = displace_structure(name, relaxed.arrays, assigned, length, seed)
            labels = label_supercells(engine, name, displaced.arrays, range(assigned["n_reference"]))
            assert labels.values["residual_force_max_ev_per_angstrom"] < 1e-4
            assert labels.values["force_rms_ev_per_angstrom"] > 0.01


def test_it_holds_the_compounds_of_the_small_pool_and_can_be_built(pool):
    small = pandas.read_csv(ROOT / "resources/pool.csv", dtype=str, keep_default_na=False)
    assert list(pool["structure_id"][: len(small)]) == list(small["structure_id"])
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    assert all(candidate.atoms is not None for candidate in read_pool(ROOT / "resources/laptop_pool.csv", types))
