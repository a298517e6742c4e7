"""Laws of symmetry-adapted force constants: symmetry, permutation, sum rules, what a basis depends on."""

import re

import h5py
import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, full_second_order
from phonoscreen.crystal.supercell import choose_repetitions, shortest_supercell_vector
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.basis import basis_key, build_basis, read_basis, write_basis
from phonoscreen.force_constants.cutoffs import check_cutoff, choose_cutoff, neighbour_shells
from tests import prototype_crystals as prototypes

CASES = {
    "rocksalt": (prototypes.rocksalt(), (3, 3, 3), 5.2),
    "half-Heusler": (prototypes.half_heusler(), (2, 2, 2), 3.5),
    "perovskite": (prototypes.perovskite(), (2, 2, 2), 3.0),
    "elpasolite": (prototypes.elpasolite(), (1, 1, 1), 3.0),
    "wurtzite": (prototypes.wurtzite(), (3, 3, 2), 3.0),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    crystal, repetitions, cutoff = CASES[request.param]
    basis = build_basis(crystal, repetitions, (None, cutoff))
    parameters = numpy.random.default_rng(3).normal(size=basis.n_free)
    return crystal, basis, parameters


def third_as_table(third):
    keys = [(*map(int, a), *map(int, c.ravel())) for a, c in zip(third.atoms, third.cells)]
    return dict(zip(keys, third.values))


def test_second_order_is_symmetric_under_exchange_of_the_atoms(case):
    _, basis, parameters = case
    full = full_second_order(basis.expand_second(parameters))
    assert numpy.abs(full - full.transpose(1, 0, 3, 2)).max() < 1e-13


def test_acoustic_sum_rule_of_both_orders(case):
    _, basis, parameters = case
    assert numpy.abs(basis.expand_second(parameters).values.sum(axis=1)).max() < 1e-12
    third = basis.expand_third(parameters)
    sums = {}
    for i, b, values in zip(third.atoms, third.cells, third.values):
        pair = (int(i[0]), int(i[1]), *map(int, b[0]))
        sums[pair] = sums.get(pair, 0) + values
    assert max(numpy.abs(total).max() for total in sums.values()) < 1e-12


def test_third_order_holds_every_permutation(case):
    _, basis, parameters = case
    table = third_as_table(basis.expand_third(parameters))
    for (i, j, k, *cells), values in table.items():
        b, c = numpy.array(cells[:3]), numpy.array(cells[3:])
        assert numpy.allclose(table[(i, k, j, *c, *b)], values.transpose(0, 2, 1), atol=1e-13)
        assert numpy.allclose(table[(j, i, k, *-b, *(c - b))], values.transpose(1, 0, 2), atol=1e-13)


def test_force_constants_obey_every_operation_of_the_space_group(case):
    crystal, basis, parameters = case
    symmetry = find_symmetry(crystal, basis.repetitions)
    table = third_as_table(basis.expand_third(parameters))
    second = full_second_order(basis.expand_second(parameters))
    n_atoms, n = len(crystal.numbers), numpy.array(basis.repetitions)
    cells = numpy.array(list(numpy.ndindex(*basis.repetitions)))
    some = list(table)[:: max(1, len(table) // 200)]
    for g in range(0, len(symmetry.atoms), 5):
        rotation, turn = symmetry.rotations[g], symmetry.cartesian[g]
        moved = (cells @ rotation.T)[:, None] + symmetry.cells[g][None]
        index = numpy.ravel_multi_index(tuple(numpy.moveaxis(moved % n, -1, 0)), basis.repetitions)
        index = (index * n_atoms + symmetry.atoms[g]).ravel()
        turned = numpy.einsum("ab,ijbc,dc->ijad", turn, second, turn)
        assert numpy.abs(second[numpy.ix_(index, index)] - turned).max() < 1e-12
        for i, j, k, *own in some:
            sites = numpy.array([[0, 0, 0], own[:3], own[3:]]) @ rotation.T + symmetry.cells[g][[i, j, k]]
            image = (*map(int, symmetry.atoms[g][[i, j, k]]), *map(int, (sites[1:] - sites[0]).ravel()))
            expected = numpy.einsum("ax,by,cz,xyz->abc", turn, turn, turn, table[(i, j, k, *own)])
            assert numpy.abs(table[image] - expected).max() < 1e-12


def test_number_of_free_second_order_constants_is_that_of_symfc():
    from symfc import Symfc
    from symfc.utils.utils import SymfcAtoms

    for crystal, repetitions in [(prototypes.rocksalt(), (3, 3, 3)), (prototypes.perovskite(), (2, 2, 2))]:
        points = (numpy.array(list(numpy.ndindex(*repetitions)))[:, None] + crystal.scaled_positions).reshape(-1, 3)
        n = numpy.array(repetitions)
        supercell = SymfcAtoms(
            cell=crystal.cell * n[:, None], scaled_positions=points / n, numbers=numpy.tile(crystal.numbers, n.prod())
        )
        symfc = Symfc(supercell, log_level=0).compute_basis_set(2)
        theirs = symfc.basis_set[2].basis_set.shape[1]
        assert build_basis(crystal, repetitions, (None,)).n_free == theirs


def test_species_masses_and_lattice_constant_play_no_part():
    key = basis_key(prototypes.half_heusler(), (3, 3, 3), (None, 4.0))
    assert basis_key(prototypes.half_heusler("LiMgAs", a=5.95 * 1.04), (3, 3, 3), (None, 4.16)) == key
    assert basis_key(prototypes.half_heusler(), (2, 2, 2), (None, 4.0)) != key
    assert basis_key(prototypes.half_heusler(), (3, 3, 3), (None, 4.3)) != key


def test_an_internal_coordinate_counts_only_when_it_moves_a_shell():
    key = basis_key(prototypes.elpasolite(u=0.235), (2, 2, 2), (None, 4.0))
    assert basis_key(prototypes.elpasolite(u=0.236), (2, 2, 2), (None, 4.0)) == key
    assert basis_key(prototypes.elpasolite(u=0.205), (2, 2, 2), (None, 4.0)) != key


def test_a_stored_basis_is_the_same_basis(case, tmp_path):
    _, basis, parameters = case
    with h5py.File(tmp_path / "bases.h5", "w") as store:
        write_basis(store, basis)
        again = read_basis(store, basis.key)
        with pytest.raises(StudyError, match="build_symmetry_bases"):
            read_basis(store, "0" * 20)
    assert numpy.array_equal(again.expand_second(parameters).values, basis.expand_second(parameters).values)
    assert numpy.array_equal(again.expand_third(parameters).values, basis.expand_third(parameters).values)


def test_the_cutoff_lies_in_a_gap_below_half_the_supercell():
    for crystal in (prototypes.rocksalt(), prototypes.perovskite(), prototypes.elpasolite()):
        repetitions = choose_repetitions(crystal.cell, len(crystal.numbers), 10.0, 250)
        cutoff = choose_cutoff(crystal, repetitions, 5.0)
        check_cutoff(crystal, repetitions, cutoff.value_angstrom)
        shells = neighbour_shells(crystal, cutoff.value_angstrom)
        assert len(shells) == cutoff.shell
        assert shells.max() <= 5.0


@pytest.mark.parametrize(
    ("cutoff", "message"), [(5.61, "falls on the neighbour shell at 5.600"), (6.5, "exceeds half the supercell")]
)
def test_a_cutoff_on_a_shell_or_beyond_half_the_supercell_is_refused_with_the_remedy(cutoff, message):
    with pytest.raises(StudyError, match=message) as failure:
        check_cutoff(prototypes.rocksalt(), (3, 3, 3), cutoff)
    assert failure.value.fix


def test_the_gaps_offered_instead_of_a_shell_fit_into_the_supercell():
    crystal = prototypes.rocksalt()
    shells = neighbour_shells(crystal, 6.5)
    half = 0.5 * shortest_supercell_vector(crystal.cell, (3, 3, 3))
    for shell in shells[shells < half]:
        with pytest.raises(StudyError, match="falls on") as failure:
            check_cutoff(crystal, (3, 3, 3), shell)
        offered = [float(x) for x in re.findall(r"(\d+\.\d+) angstrom", failure.value.fix)]
        assert offered and max(offered) <= half
        for cutoff in offered:
            check_cutoff(crystal, (3, 3, 3), cutoff)


def test_a_supercell_smaller_than_the_nearest_neighbours_reach_is_refused():
    with pytest.raises(StudyError, match="nearest neighbours"):
        choose_cutoff(prototypes.rocksalt(), (1, 1, 1), 5.0)


def test_repetitions_reach_the_length_or_the_largest_number_of_atoms():
    assert choose_repetitions(numpy.eye(3) * 5.0, 5, 10.0, 250) == (2, 2, 2)
    assert choose_repetitions(numpy.eye(3) * 3.4, 4, 10.0, 250) == (3, 3, 3)  # 10.2 angstrom
    assert choose_repetitions(numpy.eye(3) * 3.2, 4, 10.0, 250) == (3, 3, 3)  # 4 4 4 would have 256 atoms


def test_atoms_of_broken_symmetry_are_told_apart():
    crystal = prototypes.rocksalt()
    moved = Crystal(crystal.cell, crystal.scaled_positions + [[0, 0, 0], [0.02, 0, 0]], crystal.numbers, crystal.masses)
    full = build_basis(crystal, (2, 2, 2), (None,)).n_free
    assert build_basis(moved, (2, 2, 2), (None,)).n_free > 2 * full
