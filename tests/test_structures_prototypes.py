"""Classes are found from the atoms; the pool holds what it says."""

import csv
from collections import Counter
from pathlib import Path

import numpy
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.neighborlist import neighbor_list

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.filters import paper_elements
from phonoscreen.structures.formulas import formula_of, parse_formula
from phonoscreen.structures.prototypes import build_structure, classify, formula_type, read_prototypes

ROOT = Path(__file__).resolve().parents[1]
PROTOTYPES = read_prototypes(ROOT / "resources/prototypes.yaml")
with open(ROOT / "resources/pool.csv") as stream:
    POOL = list(csv.DictReader(stream))

TABLE_1 = {
    216: ["AB", "ABC", "ABC2", "ABCD"],
    221: ["AB", "AB3", "AB3C3", "AB3C12", "ABC3"],
    225: ["AB", "AB3", "ABC2", "ABC2D6"],
    227: ["AB2", "AB2C4", "ABC2"],
}


def class_of(structure_type):
    return "-".join(structure_type.split("-")[:2])


def test_classes_are_the_sixteen_of_table_1():
    assert PROTOTYPES["classes"] == [f"{number}-{kind}" for number, kinds in TABLE_1.items() for kind in kinds]


def test_the_study_has_63_elements():
    elements = paper_elements()
    assert len(elements) == 63
    assert {"H", "Cs", "Ir", "La", "Bi"} <= elements and not {"Xe", "Ce", "Lu", "Tc", "Po"} & elements


@pytest.mark.parametrize("row", POOL, ids=[row["structure_id"] for row in POOL])
def test_every_compound_of_the_pool_has_the_class_it_is_listed_under(row):
    atoms = build_structure(row["formula"], row["prototype"], PROTOTYPES["structure_types"])
    found = classify(atoms, 0.01)
    assert found.prototype == class_of(row["prototype"])
    assert set(atoms.symbols) <= paper_elements()
    shortest = numpy.min([d for d in atoms.repeat(2).get_all_distances(mic=True).ravel() if d > 1e-6])
    assert 1.4 < shortest < 5.0


def test_the_pool_covers_what_the_study_needs():
    classes = Counter(class_of(row["prototype"]) for row in POOL if row["part"] != "check")
    assert sum(classes.values()) >= 48 and len(set(classes) & set(PROTOTYPES["classes"])) >= 14
    parts = Counter(row["part"] for row in POOL)
    assert set(parts) == {"training", "unexplored", "validation", "check"} and min(parts.values()) >= 1
    unexplored = {row["structure_id"] for row in POOL if row["part"] == "unexplored"}
    assert {"nakas-216", "kircs2cl6-225", "cupdsr2-216"} <= unexplored
    assert len({row["structure_id"] for row in POOL}) == len(POOL)
    materials = [(tuple(sorted(parse_formula(row["formula"]))), row["prototype"]) for row in POOL]
    assert len(set(materials)) == len(materials)


@pytest.mark.parametrize("name", PROTOTYPES["classes"])
def test_class_survives_other_cells_rotations_origins_and_rounding(name):
    types = [kind for kind in PROTOTYPES["structure_types"] if class_of(kind) == name]
    with open(ROOT / "resources/experiment_pool.csv") as stream:
        row = next(row for row in csv.DictReader(stream) if row["prototype"] == types[0])
    atoms = build_structure(row["formula"], types[0], PROTOTYPES["structure_types"])
    reference = classify(atoms, 0.01)
    changed = make_supercell(atoms, [[1, 0, 0], [1, 1, 0], [0, 0, 2]])
    changed.rotate(37, (1, 2, 3), rotate_cell=True)
    changed.positions += (0.3, -0.7, 1.1)
    changed.set_scaled_positions(changed.get_scaled_positions().round(5))
    changed = changed[numpy.random.default_rng(1).permutation(len(changed))]
    found = classify(changed, 0.01)
    assert (found.prototype, found.formula) == (reference.prototype, reference.formula)
    assert len(found.atoms) == len(reference.atoms)
    assert found.atoms.cell.volume == pytest.approx(reference.atoms.cell.volume, rel=1e-4)
    angles = found.atoms.cell.angles()
    assert angles == pytest.approx([90.0] * 3 if name.startswith("221") else [60.0] * 3, abs=1e-8)


def test_a_name_never_decides():
    """Rocksalt typed as zincblende is what its atoms are; a distorted crystal leaves its class."""
    assert classify(bulk("ZnS", "rocksalt", a=5.1), 0.01).prototype == "225-AB"
    strained = bulk("NaCl", "rocksalt", a=5.64)
    strained.set_cell(strained.cell.array @ numpy.diag([1, 1, 1.02]), scale_atoms=True)
    assert classify(strained, 0.01).space_group_number == 139


CHAIN = [("Na", [0, 0.1, 0.25]), ("Na", [0, 0.9, 0.75]), ("Cl", [0, 0.4, 0.25]), ("Cl", [0, 0.6, 0.75])]


@pytest.mark.parametrize(
    "lattice, vectors, basis",
    [("F", [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], [("Na", [0, 0, 0]), ("Cl", [0.5, 0.5, 0.5])]),
     ("I", [[0.5, 0.5, 0.5]], [("Na", [0, 0, 0]), ("Cl", [0, 0, 0.4])]), ("C", [[0.5, 0.5, 0]], CHAIN),
     ("A", [[0, 0.5, 0.5]], [("Na", [0, 0, 0]), ("Cl", [0.5, 0, 0.3])]),
     ("P", [], [("Na", [0, 0, 0]), ("Cl", [0, 0, 0.4])]),
     ("R", [[2 / 3, 1 / 3, 1 / 3], [1 / 3, 2 / 3, 2 / 3]], [("Na", [0, 0, 0]), ("Cl", [0, 0, 0.4])])],
)  # fmt: skip
def test_every_centring_gives_the_primitive_cell_of_the_same_crystal(lattice, vectors, basis):
    cell = numpy.diag([4.0, 5.0, 6.5]) if lattice != "R" else [[4, 0, 0], [-2, 12**0.5, 0], [0, 0, 11]]
    sites = [(symbol, numpy.add(place, shift)) for symbol, place in basis for shift in [[0, 0, 0], *vectors]]
    atoms = Atoms([s for s, _ in sites], cell=cell, scaled_positions=[p for _, p in sites], pbc=True)
    found, cells = classify(atoms, 1e-3), len(vectors) + 1
    assert spglib.get_spacegroup((cell, [p for _, p in sites], atoms.numbers))[0] == lattice
    assert len(found.atoms) == len(basis)
    assert found.atoms.cell.volume == pytest.approx(atoms.cell.volume / cells)
    distances = [numpy.sort(neighbor_list("d", one, 7.0)) for one in (found.atoms, atoms)]
    assert distances[0] == pytest.approx(distances[1][::cells], abs=1e-6)


def test_formulas():
    assert formula_type(bulk("NaCl", "rocksalt", a=5.6).repeat(2).numbers) == "AB"
    atoms = build_structure("KIrCs2Cl6", "225-ABC2D6", PROTOTYPES["structure_types"])
    assert formula_type(atoms.numbers) == "ABC2D6" and formula_of(atoms.numbers) == "Cs2KIrCl6"
    for nonsense in ("", "nacl", "Na1.5Cl", "XxCl", "Na Cl"):
        with pytest.raises(StudyError):
            parse_formula(nonsense)


@pytest.mark.parametrize(
    "formula, structure_type, message",
    [
        ("NaCl", "225-ABC", "unknown structure type"),
        ("NaKCl", "225-AB", "3 elements, 2 sites"),
        ("NaCl2", "225-AB", "composition"),
    ],
)
def test_formulas_that_do_not_fit_are_refused(formula, structure_type, message):
    with pytest.raises(StudyError, match=message):
        build_structure(formula, structure_type, PROTOTYPES["structure_types"])


def test_broken_structures_are_refused():
    good = bulk("NaCl", "rocksalt", a=5.6)
    nan, flat, overlapping = good.copy(), good.copy(), good.copy()
    nan.positions[0, 0] = numpy.nan
    flat.set_cell([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    overlapping.positions[1] = overlapping.positions[0]
    for broken in (nan, flat, overlapping, good[:0]):
        with pytest.raises(StudyError):
            classify(broken, 0.01)
