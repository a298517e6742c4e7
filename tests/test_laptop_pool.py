"""The pool of the laptop study: known compounds with recorded labels, and others that are only predicted."""

import pandas
import pytest

from phonoscreen.structures.packed_labels import read_product
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.sources import read_pool
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
    judging = pool[pool["part"].isin(["validation", "unexplored"])]["structure_id"]
    assert not [name for name in judging if roles.get(name) == "training"]
    assert len(judging) == 22


def test_it_holds_the_compounds_of_the_small_pool_and_can_be_built(pool):
    small = pandas.read_csv(ROOT / "resources/pool.csv", dtype=str, keep_default_na=False)
    assert list(pool["structure_id"][: len(small)]) == list(small["structure_id"])
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    assert all(candidate.atoms is not None for candidate in read_pool(ROOT / "resources/laptop_pool.csv", types))
