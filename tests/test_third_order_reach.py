"""The third-order cutoff of a structure type: the same neighbour shells whatever the lattice constant."""

from pathlib import Path

import h5py
import pytest

from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.settings import LARGEST_ANGSTROM, OrderSettings, SupercellSettings
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.substitution import site_counts
from phonoscreen.structures.third_order_reach import ThirdOrderReach

TYPES = read_prototypes(Path(__file__).resolve().parents[1] / "resources/prototypes.yaml")["structure_types"]
BY_TYPE = OrderSettings(third_cutoff_angstrom=None)
FREE = ("225-ABC2D6", "227-AB2C4", "221-AB3C12")
"""Structure types with free coordinates."""


def crystal_of(structure_type, lattice_factor=1.0, formula=None):
    formula = formula or "".join(f"{s}{n}" for s, n in zip(("Cs", "K", "Cl", "O"), site_counts(structure_type)))
    atoms = build_structure(formula, structure_type, TYPES)
    atoms.set_cell(atoms.cell * lattice_factor, scale_atoms=True)
    return Crystal.from_ase(atoms)


def cutoff(crystal, structure_type, repetitions=(4, 4, 4), orders=BY_TYPE):
    reach = ThirdOrderReach(TYPES).angstrom(crystal, int(structure_type.split("-")[0]))
    return orders.cutoffs(crystal, repetitions, reach)[1]


@pytest.mark.parametrize("structure_type", [name for name in TYPES if name not in FREE])
def test_the_shells_of_the_structure_type_are_inside_at_every_lattice_constant(structure_type):
    found = [cutoff(crystal_of(structure_type, factor), structure_type).shell for factor in (0.8, 1.0, 1.3)]
    assert found == [TYPES[structure_type]["third_shells"]] * 3


def test_compounds_of_one_type_are_treated_alike_where_a_length_tells_them_apart():
    antimonide, arsenide = (crystal_of("216-AB", formula=f"Al{anion}") for anion in ("Sb", "As"))
    antimonide.cell *= (4 * 6.17**-3 * antimonide.volume) ** (-1 / 3)
    arsenide.cell *= (4 * 5.66**-3 * arsenide.volume) ** (-1 / 3)
    assert cutoff(antimonide, "216-AB").shell == cutoff(arsenide, "216-AB").shell == 3
    length = OrderSettings(third_cutoff_angstrom=5.0)
    shells = [cutoff(one, "216-AB", orders=length).shell for one in (antimonide, arsenide)]
    assert shells == [2, 3]


@pytest.mark.parametrize("structure_type", FREE)
def test_free_coordinates_change_the_reach_by_less_than_a_sixth(structure_type):
    crystal, cutoffs = crystal_of(structure_type), []
    for lattice_factor in (1.0, 1.2):
        other = crystal_of(structure_type, lattice_factor)
        cutoffs.append(cutoff(other, structure_type).value_angstrom / other.volume ** (1 / 3))
    assert cutoffs[0] == pytest.approx(cutoffs[1], rel=1e-6)
    moved = Crystal(crystal.cell, 1.01 * crystal.scaled_positions, crystal.numbers, crystal.masses)
    value = cutoff(moved, structure_type).value_angstrom / crystal.volume ** (1 / 3)
    assert value == pytest.approx(cutoffs[0], rel=1 / 6)


def test_the_types_of_one_class_are_told_apart_by_their_neighbours():
    copper_gold, trioxide = crystal_of("221-AB3"), crystal_of("221-AB3-ReO3")
    reach = ThirdOrderReach(TYPES)
    ratio = [reach.angstrom(one, 221) / one.volume ** (1 / 3) for one in (copper_gold, trioxide)]
    assert ratio == pytest.approx([(1.5**0.5 + 2**0.5) / 2, (1.25**0.5 + 1.5**0.5) / 2], rel=1e-6)


def test_a_setting_and_other_classes_take_a_length():
    crystal = crystal_of("225-AB")
    assert ThirdOrderReach(TYPES).angstrom(crystal, 227) is None
    assert BY_TYPE.cutoffs(crystal, (4, 4, 4))[1] == OrderSettings(LARGEST_ANGSTROM).cutoffs(crystal, (4, 4, 4))[1]
    assert cutoff(crystal, "225-AB", orders=OrderSettings(third_cutoff_angstrom=7.0)).shell == 2


def test_a_small_supercell_holds_fewer_shells():
    crystal = crystal_of("225-AB")
    assert cutoff(crystal, "225-AB", (2, 2, 2)).shell == 1


def test_neighbours_farther_apart_than_the_length_for_other_classes_are_no_failure():
    """The nearest neighbours of RbCs3 in the type of Cu3Au, a = 7.5 angstrom, are 5.3 angstrom apart."""
    crystal = crystal_of("221-AB3", formula="RbCs3")
    crystal.cell *= 7.5 / crystal.volume ** (1 / 3)
    supercells = SupercellSettings(10.0, 250, 3, 2, 3, 2)
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        assigned = BasisAssigner(bases, supercells, BY_TYPE, ThirdOrderReach(TYPES)).assign(crystal)
    assert assigned["third_cutoff_angstrom"] > 7.5 / 2**0.5 > LARGEST_ANGSTROM
