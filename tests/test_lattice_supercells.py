"""Any supercell as repetitions of a primitive cell, and single displacements completed by symmetry."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, full_second_order
from phonoscreen.crystal.primitive import primitive_crystal, repeated_primitive
from phonoscreen.crystal.supercell import reduced_lattice, shortest_supercell_vector
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.clusters import neighbour_pairs
from phonoscreen.force_constants.finite_displacements import complete_by_symmetry, finite_differences, is_single
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from tests import prototype_crystals as prototypes
from tests.phonondb import in_phonopys_phase
from tests.supercell_files import supercell_order

CONVENTIONAL = numpy.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
MATRICES = st.lists(st.integers(-3, 3), min_size=9, max_size=9).map(lambda x: numpy.array(x).reshape(3, 3))


def repeated(crystal, matrix):
    """All atoms of a supercell: cell, positions, numbers; made by searching, not by the code under test."""
    cell = matrix @ crystal.cell
    steps = numpy.array(list(numpy.ndindex(25, 25, 25))) - 12
    points = (steps[:, None] + crystal.scaled_positions[None]) @ numpy.linalg.inv(matrix)
    inside = ((points > -1e-9) & (points < 1 - 1e-9)).all(axis=2)
    return cell, points[inside] @ cell, numpy.broadcast_to(crystal.numbers, inside.shape)[inside]


@settings(max_examples=25, deadline=None)
@given(matrix=MATRICES.filter(lambda m: 1 <= abs(round(numpy.linalg.det(m))) <= 12))
def test_every_supercell_is_a_repetition_of_some_primitive_cell(matrix):
    crystal = prototypes.half_heusler()
    cell, positions, numbers = repeated(crystal, matrix)
    own, repetitions = repeated_primitive(crystal, cell)
    assert numpy.prod(repetitions) == abs(round(numpy.linalg.det(matrix)))
    assert own.volume == pytest.approx(crystal.volume)
    order = supercell_order(own, repetitions, cell, positions, numbers)
    assert sorted(order) == list(range(len(numbers)))


def test_a_centred_cell_repeated_becomes_a_compact_primitive_cell():
    """Amm2, DIM 3 2 2: 24 primitive cells, whose Smith form is 1 x 2 x 12."""
    cell = numpy.diag([4.0, 5.74, 5.76])
    scaled = numpy.array([[0, 0.25, 0.78], [0, 0.75, 0.78], [0.5, 0.5, 0.53], [0, 0.25, 0.28]])
    scaled = numpy.concatenate([scaled, [[0, 0.75, 0.28], [0.5, 0.0, 0.03]]])
    crystal = Crystal(cell, scaled, numpy.array([8, 8, 41, 8, 8, 41]), numpy.ones(6))
    own, repetitions = repeated_primitive(crystal, numpy.diag([3, 2, 2]) @ cell)
    assert numpy.prod(repetitions) == 24
    lengths = numpy.linalg.norm(own.cell, axis=1)
    assert lengths.max() < 5.75
    assert (lengths * repetitions).max() < 1.5 * (lengths * repetitions).min()


SKEWS = st.lists(st.integers(-4, 4), min_size=6, max_size=6).map(
    lambda x: (
        numpy.array([[1, x[0], x[1]], [0, 1, x[2]], [0, 0, 1]])
        @ numpy.array([[1, 0, 0], [x[3], 1, 0], [x[4], x[5], 1]])
    )
)


@settings(max_examples=20, deadline=None)
@given(skew=SKEWS)
def test_neighbours_do_not_depend_on_the_vectors_that_span_the_lattice(skew):
    crystal = prototypes.wurtzite()
    skewed = Crystal(
        skew @ crystal.cell, crystal.scaled_positions @ numpy.linalg.inv(skew), crystal.numbers, crystal.masses
    )
    reduced, change = reduced_lattice(skewed.cell)
    assert numpy.allclose(change @ skewed.cell, reduced)
    assert abs(round(numpy.linalg.det(change))) == 1
    assert shortest_supercell_vector(skewed.cell, (2, 2, 2)) == pytest.approx(2 * 3.25)
    first, second, cells, distances = neighbour_pairs(skewed, 4.0)
    expected = neighbour_pairs(crystal, 4.0)
    assert numpy.allclose(numpy.sort(distances), numpy.sort(expected[3]))
    vectors = (cells + skewed.scaled_positions[second] - skewed.scaled_positions[first]) @ skewed.cell
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), distances)


def test_frequencies_do_not_depend_on_the_vectors_that_span_the_lattice():
    """Long and thin vectors of the same lattice: the shortest images of each pair must still be found."""
    crystal, skew = prototypes.wurtzite(), numpy.array([[1, 3, 0], [0, 1, 0], [2, -2, 1]])
    skewed = Crystal(
        skew @ crystal.cell, crystal.scaled_positions @ numpy.linalg.inv(skew), crystal.numbers, crystal.masses
    )
    basis = build_basis(crystal, (2, 2, 2), (None,))
    second = basis.expand_second(numpy.random.default_rng(0).normal(size=basis.n_free))
    order = supercell_order(crystal, (2, 2, 2), *_all_atoms(skewed, (2, 2, 2)))
    values = second.values[:, numpy.argsort(order)]
    points = numpy.random.default_rng(1).random((4, 3))
    ours = frequencies_thz(DynamicalMatrix(crystal, second), points)
    theirs = frequencies_thz(DynamicalMatrix(skewed, SecondOrder((2, 2, 2), values)), points @ skew.T)
    assert numpy.abs(ours - theirs).max() < 1e-9


def _all_atoms(crystal, repetitions):
    cells = numpy.array(list(numpy.ndindex(*repetitions)))
    return numpy.array(repetitions)[:, None] * crystal.cell, (
        (cells[:, None] + crystal.scaled_positions).reshape(-1, 3) @ crystal.cell
    )


def test_a_supercell_given_as_the_crystal_is_reduced_to_its_primitive_cell():
    crystal = prototypes.elpasolite()
    cell, positions, numbers = repeated(crystal, 2 * CONVENTIONAL)
    large = Crystal(cell, positions @ numpy.linalg.inv(cell), numbers, numbers * 1.0)
    assert len(numbers) == 320
    assert len(primitive_crystal(large).numbers) == 10
    own, repetitions = repeated_primitive(large, cell)
    assert sorted(repetitions) == [2, 4, 4]


def test_the_cell_given_is_kept_where_the_supercell_repeats_it():
    crystal = prototypes.perovskite()
    own, repetitions = repeated_primitive(crystal, 3 * crystal.cell)
    assert repetitions == (3, 3, 3)
    assert numpy.abs(own.cell - crystal.cell).max() < 1e-13
    assert numpy.abs(own.scaled_positions - crystal.scaled_positions).max() < 1e-13


@pytest.mark.parametrize("spoil", ["stretched", "turned", "of another crystal"])
def test_vectors_that_are_no_supercell_are_refused(spoil):
    crystal = prototypes.rocksalt()
    turn = numpy.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    cell = {"stretched": 2.1 * crystal.cell, "turned": 2 * crystal.cell @ turn, "of another crystal": 7 * numpy.eye(3)}
    with pytest.raises(StudyError, match="not lattice vectors") as failure:
        repeated_primitive(crystal, cell[spoil])
    assert failure.value.fix


def test_force_constants_do_not_depend_on_how_the_supercell_is_described():
    """The conventional cell repeated twice, and the same supercell as repetitions of skewed primitive vectors."""
    primitive = prototypes.half_heusler()
    cell, positions, numbers = repeated(primitive, CONVENTIONAL)
    conventional = Crystal(cell, positions @ numpy.linalg.inv(cell), numbers, numbers * 1.0)
    basis = build_basis(conventional, (2, 2, 2), (None,))
    rng = numpy.random.default_rng(0)
    full = full_second_order(basis.expand_second(rng.normal(size=basis.n_free)))
    own, repetitions = repeated_primitive(conventional, 2 * cell)
    perfect = (numpy.array(list(numpy.ndindex(2, 2, 2)))[:, None] + conventional.scaled_positions).reshape(-1, 3)
    order = supercell_order(own, repetitions, 2 * cell, perfect @ cell)
    own_basis = build_basis(own, repetitions, (None,))
    assert own_basis.n_free == basis.n_free
    moves = 0.01 * rng.normal(size=(4, len(full), 3))
    forces = -numpy.einsum("abxy,sby->sax", full, moves)
    fitted = ForceConstantFitter(own_basis).fit(own, moves[:, order], forces[:, order])
    own_full = full_second_order(own_basis.expand_second(fitted.parameters))
    assert numpy.abs(own_full - full[order][:, order]).max() < 1e-8 * numpy.abs(full).max()


@pytest.fixture(scope="module")
def single():
    """Perovskite: each inequivalent atom displaced along as few axes as phonopy would."""
    crystal, repetitions = prototypes.perovskite(), (2, 2, 2)
    basis = build_basis(crystal, repetitions, (None,))
    truth = basis.expand_second(numpy.random.default_rng(5).normal(size=basis.n_free))
    moves = numpy.zeros((4, basis.n_supercell_atoms, 3))
    for k, (atom, axis) in enumerate([(0, 0), (1, 2), (2, 0), (2, 1)]):
        moves[k, atom, axis] = 0.01
    forces = -numpy.einsum("abxy,sby->sax", full_second_order(truth), moves)
    return crystal, repetitions, basis, truth, moves, forces


def test_completed_displacements_hold_the_whole_harmonic_force_field(single):
    crystal, repetitions, basis, truth, moves, forces = single
    assert is_single(moves)
    unit, answers = complete_by_symmetry(crystal, repetitions, moves, forces)
    assert numpy.allclose(answers, -numpy.einsum("abxy,sby->sax", full_second_order(truth), unit), atol=1e-10)
    fitted = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(crystal, unit, answers)
    assert numpy.abs(basis.expand_second(fitted.parameters).values - truth.values).max() < 1e-9


def test_completion_does_not_depend_on_which_equivalent_atom_was_displaced(single):
    crystal, repetitions, basis, truth, moves, forces = single
    other = numpy.zeros_like(moves)
    for k, (atom, axis) in enumerate([(5 * 3 + 0, 1), (5 * 7 + 1, 0), (5 * 2 + 3, 1), (5 * 6 + 4, 1)]):
        other[k, atom, axis] = -0.02
    answers = -numpy.einsum("abxy,sby->sax", full_second_order(truth), other)
    unit, answers = complete_by_symmetry(crystal, repetitions, other, answers)
    assert numpy.allclose(answers, -numpy.einsum("abxy,sby->sax", full_second_order(truth), unit), atol=1e-10)


def test_a_completed_fit_is_the_projection_of_the_rows_on_the_symmetric_space(single):
    """Noise breaks the symmetry of the forces; phonopy's projector and the fit must break the tie alike."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal, repetitions, basis, _, moves, forces = single
    noisy = forces + 1e-3 * numpy.random.default_rng(1).normal(size=forces.shape)
    unit, answers = complete_by_symmetry(crystal, repetitions, moves, noisy)
    fitted = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(crystal, unit, answers)
    cell = PhonopyAtoms(cell=crystal.cell, scaled_positions=crystal.scaled_positions, numbers=crystal.numbers,
                        masses=crystal.masses)  # fmt: skip
    phonon = Phonopy(cell, numpy.diag(repetitions), primitive_matrix=numpy.eye(3), log_level=0)
    order = supercell_order(crystal, repetitions, phonon.supercell.cell, phonon.supercell.positions)
    moved = numpy.abs(moves).max(axis=2).argmax(axis=1)
    first = [{"number": int(order[atom]), "displacement": u[atom], "forces": f[numpy.argsort(order)]}
             for atom, u, f in zip(moved, moves, noisy)]  # fmt: skip
    phonon.dataset = {"natom": len(order), "first_atoms": first}
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
    qpoints = numpy.random.default_rng(0).random((5, 3))
    second = basis.expand_second(fitted.parameters)
    ours = in_phonopys_phase(crystal, DynamicalMatrix(crystal, second)(qpoints)[0], qpoints)
    for q, own in zip(qpoints, ours):
        phonon.dynamical_matrix.run(q)
        assert numpy.abs(phonon.dynamical_matrix.dynamical_matrix - own).max() < 1e-10


@pytest.mark.parametrize("noise", [0.0, 3e-4])
def test_finite_differences_are_the_completed_fit(single, noise):
    crystal, repetitions, basis, truth, moves, forces = single
    forces = forces + noise * numpy.random.default_rng(1).normal(size=forces.shape)
    second, quality = finite_differences(crystal, repetitions, moves, forces)
    unit, answers = complete_by_symmetry(crystal, repetitions, moves, forces)
    fitted = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(crystal, unit, answers)
    assert numpy.abs(second.values - basis.expand_second(fitted.parameters).values).max() < 1e-10
    assert quality["force_error_relative"] < (1e-10 if noise == 0 else 0.2)
    full = full_second_order(second)
    assert numpy.allclose(full, full.transpose(1, 0, 3, 2), atol=1e-12)
    assert numpy.abs(full.sum(axis=1)).max() < 1e-10


def test_residual_forces_of_the_undisplaced_crystal_are_reported_by_finite_differences(single):
    crystal, repetitions, _, truth, moves, forces = single
    both, residual = numpy.concatenate([moves, -moves]), numpy.zeros_like(forces[0])
    residual[2::5, 0], residual[3::5, 1], residual[4::5, 2] = 0.01, 0.02, -0.03
    second, quality = finite_differences(crystal, repetitions, both, numpy.concatenate([forces, -forces]) + residual)
    assert quality["residual_force_max_ev_per_angstrom"] == pytest.approx(0.03, rel=0.05)
    assert numpy.abs(second.values - truth.values).max() < 1e-9


def test_forces_of_another_order_of_atoms_are_refused_by_finite_differences(single):
    crystal, repetitions, _, _, moves, forces = single
    two = numpy.arange(forces.shape[1])
    two[[2, 4]] = two[[4, 2]]
    for order in (two[::-1], two):  # all atoms in another order, and two of them exchanged
        with pytest.raises(StudyError, match="do not list the same atoms"):
            finite_differences(crystal, repetitions, moves, forces[:, order])


@pytest.mark.parametrize(("kept", "message"), [([0, 1], "never displaced"), ([0, 1, 3], "do not span")])
def test_incomplete_displacements_are_refused_with_a_remedy(single, kept, message):
    crystal, repetitions, _, _, moves, forces = single
    if message == "do not span":
        moves, forces = moves.copy(), forces.copy()
        moves[3], moves[3, 2, 0] = 0.0, 0.01  # along the bond only
    with pytest.raises(StudyError, match=message) as failure:
        complete_by_symmetry(crystal, repetitions, moves[kept], forces[kept])
    assert failure.value.fix
