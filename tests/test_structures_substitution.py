"""The pool of the experiment on force models: drawn by its rule, each class in both parts, every compound buildable."""

import io

import pandas
import pytest
import yaml

from phonoscreen.structures.formulas import parse_formula
from phonoscreen.structures.prototypes import build_structure, classify, read_prototypes
from phonoscreen.structures.sources import read_pool
from phonoscreen.structures.substitution import draw_pool, site_counts, substitute
from tests.conftest import ROOT

PROTOTYPES = read_prototypes(ROOT / "resources/prototypes.yaml")
FAMILIES = yaml.safe_load((ROOT / "resources/experiment_families.yaml").read_text())
POOL = ROOT / "resources/experiment_pool.csv"


def known():
    return pandas.read_csv(ROOT / "resources/pool.csv", dtype=str)


def test_the_pool_kept_in_git_is_what_the_rule_draws():
    text = io.StringIO()
    draw_pool(FAMILIES, known(), 61).to_csv(text, index=False)
    assert POOL.read_text() == text.getvalue()


def test_every_class_stands_in_both_parts_and_elements_are_many():
    table = pandas.read_csv(POOL, dtype=str, keep_default_na=False)
    table["class"] = table["prototype"].str.split("-").str[:2].str.join("-")
    elements = {}
    for part, group in table.groupby("part"):
        assert set(group["class"]) == set(PROTOTYPES["classes"])
        elements[part] = {symbol for formula in group["formula"] for symbol, _ in parse_formula(formula)}
    sizes = table["part"].value_counts()
    assert sizes["training"] >= 260 and sizes["validation"] >= 65
    assert len(elements["training"]) >= 60 and len(elements["validation"]) >= 50


def test_every_compound_builds_in_its_own_class_and_none_twice():
    candidates = read_pool(POOL, PROTOTYPES["structure_types"])
    prototypes = pandas.read_csv(POOL, dtype=str, keep_default_na=False).set_index("structure_id")["prototype"]
    for one in candidates:
        assert not one.problem, f"{one.structure_id}: {one.problem}"
        wanted = "-".join(prototypes[one.structure_id].split("-")[:2])
        assert classify(one.atoms, 0.01).prototype == wanted, one.structure_id
    compositions = {(frozenset(parse_formula(one.formula)), prototypes[one.structure_id]) for one in candidates}
    assert len(compositions) == len(candidates)


def test_the_cuboctahedra_of_the_class_ab3c12_share_corners_with_squares():
    atoms = build_structure("LaAu3F12", "221-AB3C12", PROTOTYPES["structure_types"]).repeat(2)
    distances = atoms.get_all_distances(mic=True)
    fluorine = atoms.symbols == "F"
    for centre, neighbours in (("La", 12), ("Au", 4)):
        row = distances[list(atoms.symbols).index(centre)][fluorine]
        assert (row < row.min() + 1e-6).sum() == neighbours


def test_families_take_turns_and_no_element_stands_on_two_sites():
    formulas = substitute("225-ABC2", [["Na K", "Sb", "Na K"], ["Al", "Ti V", "Ni"]], 1)
    assert sorted(formulas) == ["AlTiNi2", "AlVNi2", "KSbNa2", "NaSbK2"]
    assert {formula[:2] == "Al" for formula in formulas[:2]} == {True, False}
    assert site_counts("225-ABC2D6") == [1, 1, 2, 6] and site_counts("221-AB3-ReO3") == [1, 3]


def test_known_compounds_come_first_and_are_not_drawn_again():
    table = draw_pool({"225-AB": {"compounds": 6, "families": [["Na K", "Cl Br"]]}}, known(), 5)
    assert set(known().query("prototype == '225-AB'")["formula"]) == set(table["formula"])
    salts = {"225-AB": [["Na K", "Cl Br"]], "216-AB": [["Zn Cd Hg", "S Se Te"]]}
    asked = {name: {"compounds": 3, "families": families} for name, families in salts.items()}
    sizes = draw_pool(asked, known(), 5, scale=3)["prototype"].value_counts().to_dict()
    assert sizes == {"216-AB": 10, "225-AB": 8}, "six known rocksalts and two drawn are all there are; the rest fill up"
    more = draw_pool({"221-AB": {"compounds": 7, "families": [["Cs Rb", "Cl Br"]]}}, known(), 5)
    assert sorted(more["formula"]) == ["AgY", "CsBr", "CsCl", "CsI", "RbBr", "RbCl"]


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_draws_another_pool_of_the_same_sizes(seed):
    table, kept = draw_pool(FAMILIES, known(), seed), pandas.read_csv(POOL, dtype=str)
    assert len(table) == len(kept) and set(table["structure_id"]) != set(kept["structure_id"])
