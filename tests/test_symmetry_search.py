"""The search for symmetry: what is remembered of crystals of one make is what spglib finds anew."""

from pathlib import Path

import numpy
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal as crystal_of

from phonoscreen.crystal import symmetry_search
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry_search import count_operations, search_symmetry
from phonoscreen.structures.free_parameters import symmetric_modes
from phonoscreen.structures.prototypes import build_structure, classify, read_prototypes

TYPES = read_prototypes(Path(__file__).resolve().parents[1] / "resources/prototypes.yaml")["structure_types"]
TOLERANCE = 0.01
EXAMPLES = {
    "216-AB": "ZnS", "216-ABC": "NiTiSn", "216-ABC2": "LiSiNi2", "216-ABCD": "LiNiCuAl", "221-AB": "NiAl",
    "221-AB3": "PtCu3", "221-AB3C3": "PCa3Cl3", "221-ABC3": "TiSrO3", "225-AB": "NaCl", "225-AB3": "BiLi3",
    "225-ABC2": "MnAlCu2", "225-ABC2D6": "KIrCs2Cl6", "227-A": "Si", "227-AB2": "LaAl2", "227-AB2C4": "ZnAl2O4",
    "227-ABC2": "AlCsO2",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Forget what was found before, and count the searches of spglib."""
    monkeypatch.setattr(symmetry_search, "_KNOWN", {})
    symmetry_search._search.cache_clear()


@pytest.fixture
def searches(monkeypatch):
    asked, search = [], spglib.get_symmetry_dataset
    monkeypatch.setattr(spglib, "get_symmetry_dataset", lambda *a, **named: asked.append(1) or search(*a, **named))
    return asked


def anew(crystal, tolerance=TOLERANCE):
    """Return what spglib itself finds."""
    kinds = numpy.unique(crystal.numbers, return_inverse=True)[1]
    return spglib.get_symmetry_dataset((crystal.cell, crystal.scaled_positions, kinds), symprec=tolerance)


def same(found, wanted):
    """Whether two datasets say the same, their first images of the atoms aside."""
    moves = found.translations - wanted.translations
    steps = found.std_positions - wanted.std_positions
    own = wanted.std_mapping_to_primitive
    centrings = wanted.std_positions[own == own[0]] - wanted.std_positions[own == own[0]][0]
    apart = steps[:, None] - centrings
    return (
        found.number == wanted.number
        and numpy.array_equal(found.rotations, wanted.rotations)
        and numpy.abs(moves - numpy.rint(moves)).max() < 1e-9
        and numpy.abs(found.std_lattice - wanted.std_lattice).max() < 1e-9
        and numpy.abs(apart - numpy.rint(apart)).max(axis=2).min(axis=1).max() < 1e-9
        and all(
            numpy.array_equal(getattr(found, name), getattr(wanted, name))
            for name in ("std_types", "std_mapping_to_primitive", "mapping_to_primitive", "equivalent_atoms")
        )
    )


@pytest.mark.parametrize("structure_type", EXAMPLES)
def test_crystals_that_differ_in_size_and_free_coordinates_are_searched_once(structure_type, searches):
    start = classify(build_structure(EXAMPLES[structure_type], structure_type, TYPES), TOLERANCE).atoms
    modes, random = symmetric_modes(start, TOLERANCE), numpy.random.default_rng(1)
    asked = len(searches)
    for _ in range(3):
        moved = start.copy()
        moved.positions += 0.3 * numpy.tensordot(random.normal(size=len(modes)), modes, axes=1)
        moved.set_cell(random.uniform(0.9, 1.1) * moved.cell.array, scale_atoms=True)
        crystal = Crystal.from_ase(moved)
        found, _ = search_symmetry(crystal, TOLERANCE)
        assert len(searches) == asked
        wanted = anew(crystal)
        assert same(found, wanted) and count_operations(crystal, TOLERANCE) == len(wanted.rotations)
        asked = len(searches)


@pytest.mark.parametrize("structure_type", EXAMPLES)
def test_another_origin_gives_what_spglib_finds_there(structure_type):
    atoms = classify(build_structure(EXAMPLES[structure_type], structure_type, TYPES), TOLERANCE).atoms
    for shift in (0, 1 / 2, 1 / 4, -1 / 4, 0.1):
        moved = atoms.copy()
        moved.set_scaled_positions(atoms.get_scaled_positions() + shift)
        crystal = Crystal.from_ase(moved)
        assert same(search_symmetry(crystal, TOLERANCE)[0], anew(crystal))


def pyrite(x):
    """Return FeS2: with the sulphur at x = 1/4 it would be fluorite, with a smaller primitive cell."""
    return crystal_of(["Fe", "S"], [(0, 0, 0), (x, x, x)], spacegroup=205, cellpar=[5.4] * 3 + [90] * 3)


def breathing_pyrochlore(x):
    """Return corner-sharing tetrahedra of two sizes: of one size at x = 3/8, where there is an inversion."""
    return crystal_of(["Si"], [(x, x, x)], spacegroup=216, cellpar=[7.0] * 3 + [90] * 3, primitive_cell=True)


@pytest.mark.parametrize(
    "make, special, low, high", [(pyrite, 1 / 4, 205, 225), (breathing_pyrochlore, 3 / 8, 216, 227)]
)
def test_a_crystal_that_gains_symmetry_is_told_from_the_known_one(make, special, low, high):
    for place, number in ((0.03, low), (0.04, low), (0.0, high), (0.0001, high), (0.01, low)):
        crystal = Crystal.from_ase(make(special + place))
        assert search_symmetry(crystal, TOLERANCE)[0].number == number == anew(crystal).number


def test_a_crystal_that_loses_symmetry_is_told_from_the_known_one():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    assert search_symmetry(Crystal.from_ase(atoms), TOLERANCE)[0].number == 225
    atoms.positions[1, 0] += 0.1
    assert search_symmetry(Crystal.from_ase(atoms), TOLERANCE)[0].number == anew(Crystal.from_ase(atoms)).number < 225


def test_the_tolerance_decides_for_a_known_crystal_too():
    atoms = breathing_pyrochlore(0.376)  # 0.012 angstrom from where it has an inversion
    for tolerance, number in ((1e-3, 216), (0.05, 227), (1e-3, 216)):
        assert search_symmetry(Crystal.from_ase(atoms), tolerance)[0].number == number


def test_a_wide_tolerance_finds_the_symmetry_of_a_lattice_that_nearly_has_it():
    """Octahedra in a cell of 4 x 4 x 4.06 angstrom: only lengths of bonds along z tell it from a cube within 0.1."""
    for bond, number in ((1.3, 123), (1.25, 123), (1.0, 221), (1.3, 123)):
        places = [sign * length * numpy.eye(3)[axis] for axis, length in enumerate((1, 1, bond)) for sign in (1, -1)]
        crystal = Crystal.from_ase(Atoms("SiF6", [[0, 0, 0], *places], cell=[4, 4, 4.06], pbc=True))
        assert search_symmetry(crystal, 0.1)[0].number == number == anew(crystal, 0.1).number


def test_rounded_positions_are_not_taken_for_exact_ones():
    """The standard positions of a rounded crystal are idealised; those of the next one do not inherit its rounding."""
    for seed in (1, 2):
        rounded = pyrite(0.385 + 0.01 * seed)
        rounded.rattle(1e-4, seed=seed)
        crystal = Crystal.from_ase(rounded)
        found, wanted = search_symmetry(crystal, TOLERANCE)[0], anew(crystal)
        assert found.number == 205 and numpy.abs(found.std_positions - wanted.std_positions).max() < 1e-9


@pytest.mark.parametrize(
    "atoms",
    [bulk("ZnO", "wurtzite", a=3.25, c=5.2), bulk("Sn", "bct", a=5.83, c=3.18), bulk("Fe", "bcc", a=2.87, cubic=True),
     bulk("Mg", "hcp", a=3.2, c=5.2),
     Atoms("NaKCl", cell=[[3.5, 0.3, 0.2], [0.1, 3.8, 0.4], [0.5, -0.2, 4.1]], pbc=True,
           scaled_positions=[[0, 0, 0], [0.4, 0.5, 0.45], [0.7, 0.1, 0.6]])],
    ids=["wurtzite", "body-centred tetragonal", "cubic cell of iron", "hexagonal", "triclinic"],
)  # fmt: skip
def test_operations_of_every_lattice_are_counted_or_left_to_spglib(atoms):
    crystal = Crystal.from_ase(atoms)
    assert count_operations(crystal, TOLERANCE) in (0, len(anew(crystal).rotations))


def test_a_skew_cell_is_left_to_spglib():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    skew = Atoms(atoms.numbers, cell=[[1, 0, 0], [3, 1, 0], [0, 0, 1]] @ atoms.cell.array, pbc=True,
                 positions=atoms.positions)  # fmt: skip
    assert count_operations(Crystal.from_ase(skew), TOLERANCE) == 0
    assert search_symmetry(Crystal.from_ase(skew), TOLERANCE)[0].number == 225
