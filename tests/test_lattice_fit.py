"""Fits: exact recovery, noise, sparse methods, rotational sum rules, real DFT forces of polar crystals."""

import numpy
import pytest

from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import neighbour_shells
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.normal_equations import NormalEquations
from phonoscreen.force_constants.orders import METHODS
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.force_constants.sum_rules import RotationalSumRules
from phonoscreen.formats.displacements import read_phonopy_yaml
from tests import prototype_crystals as prototypes

POLAR = ["nacl/phono3py_params_NaCl.yaml.xz", "mgo/phono3py_params_MgO-222rd-444rd.yaml.xz"]


def random_displacements(basis, n_supercells, seed=0, length=0.03):
    moves = numpy.random.default_rng(seed).normal(size=(n_supercells, basis.n_supercell_atoms, 3))
    return length * moves / numpy.linalg.norm(moves, axis=2, keepdims=True)


def model_forces(basis, parameters, displacements):
    rows = FitMatrix(basis).matrix(displacements) @ parameters
    cells = rows.reshape(basis.n_atoms, 3, len(displacements), -1)
    return cells.transpose(2, 3, 0, 1).reshape(displacements.shape)


@pytest.fixture(scope="module")
def synthetic():
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, (2, 2, 2), (None, 3.0))
    rng = numpy.random.default_rng(7)
    parameters = rng.normal(size=basis.n_free)
    displacements = random_displacements(basis, 12)
    return crystal, basis, parameters, displacements, model_forces(basis, parameters, displacements)


def test_forces_follow_from_the_expanded_force_constants(synthetic):
    _, basis, parameters, displacements, forces = synthetic
    second, third = basis.expand_second(parameters), basis.expand_third(parameters)
    u = displacements[0]
    expected = -numpy.einsum("iajk,ak->ij", second.values, u)
    for (i, j, k), (b, c), values in zip(third.atoms, third.cells, third.values):
        sites = [int(numpy.ravel_multi_index(tuple(x % 2), (2, 2, 2))) * basis.n_atoms for x in (b, c)]
        expected[i] -= 0.5 * numpy.einsum("xyz,y,z->x", values, u[sites[0] + j], u[sites[1] + k])
    assert numpy.abs(forces[0, : basis.n_atoms] - expected).max() < 1e-12


def test_the_operator_and_its_contraction_give_the_same_forces(synthetic):
    _, basis, parameters, displacements, forces = synthetic
    assert numpy.abs(FitMatrix(basis).forces(displacements, parameters) - forces).max() < 1e-13


def test_exact_forces_give_back_the_force_constants(synthetic):
    crystal, basis, parameters, displacements, forces = synthetic
    fitted = ForceConstantFitter(basis).fit(crystal, displacements, forces)
    assert numpy.abs(fitted.parameters - parameters).max() < 1e-9
    assert fitted.quality["force_error_relative_held_out"] < 1e-6
    assert fitted.quality["acoustic_residual_max"] < 1e-12


def test_each_committee_member_gets_what_it_would_get_alone(synthetic):
    crystal, basis, _, displacements, forces = synthetic
    noise = 0.01 * forces.std() * numpy.random.default_rng(0).normal(size=(3, *forces.shape))
    fitter = ForceConstantFitter(basis)
    together = fitter.fit(crystal, displacements, forces, committee_forces=forces + noise)
    for member, own in enumerate(together.parameters_committee):
        alone = fitter.fit(crystal, displacements, forces + noise[member])
        assert numpy.abs(own - alone.parameters).max() < 1e-10


def test_residual_forces_of_the_undisplaced_supercell_are_subtracted(synthetic):
    crystal, basis, parameters, displacements, forces = synthetic
    residual = 0.01 * numpy.random.default_rng(0).normal(size=forces.shape[1:])
    fitted = ForceConstantFitter(basis).fit(crystal, displacements, forces + residual, residual_forces=residual)
    assert numpy.abs(fitted.parameters - parameters).max() < 1e-9


def test_parameter_noise_falls_with_the_square_root_of_the_supercells(synthetic):
    crystal, basis, parameters, _, _ = synthetic
    fitter, errors = ForceConstantFitter(basis), []
    for n_supercells in (8, 128):
        displacements = random_displacements(basis, n_supercells, seed=11)
        forces = model_forces(basis, parameters, displacements)
        noise = 0.05 * forces.std() * numpy.random.default_rng(5).normal(size=forces.shape)
        own = fitter.fit(crystal, displacements, forces + noise).parameters - parameters
        errors.append(numpy.sqrt((own**2).mean()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)


def test_normal_equations_are_those_of_the_whole_matrix(synthetic):
    _, basis, _, displacements, forces = synthetic
    fit_matrix = FitMatrix(basis)
    sums = NormalEquations(fit_matrix, displacements, forces[None], 3).without()
    matrix = fit_matrix.matrix(displacements)
    assert numpy.allclose(sums.gram, matrix.T @ matrix, rtol=1e-12, atol=1e-12 * sums.gram.max())
    guess = numpy.ones(basis.n_free)
    misfit = fit_matrix.arrange(forces).ravel() - matrix @ guess
    assert sums.error(guess)[0] == pytest.approx(numpy.sqrt((misfit**2).mean()), rel=1e-10)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "least_squares"])
def test_sparse_methods_recover_sparse_force_constants_from_few_supercells(method):
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, (2, 2, 2), (None, 3.0))
    rng = numpy.random.default_rng(2)
    truth = numpy.zeros(basis.n_free)
    chosen = rng.choice(basis.n_free, basis.n_free // 10, replace=False)
    truth[chosen] = rng.normal(size=len(chosen))
    truth[basis.orders[0].n_free :] *= 10
    displacements = random_displacements(basis, 2)
    forces = model_forces(basis, truth, displacements)
    forces += 1e-3 * forces.std() * rng.normal(size=forces.shape)
    fitted = ForceConstantFitter(basis, FitSettings(method, rotational_sum_rules=False)).fit(
        crystal, displacements, forces
    )
    unseen = random_displacements(basis, 4, seed=9)
    expected = model_forces(basis, truth, unseen)
    error = model_forces(basis, fitted.parameters, unseen) - expected
    assert numpy.sqrt((error**2).mean() / (expected**2).mean()) < 0.02
    assert fitted.quality["n_nonzero_second"] + fitted.quality["n_nonzero_third"] < 0.8 * basis.n_free


@pytest.fixture(scope="module")
def elpasolite():
    """Random force constants that break the rotational sum rules, the same without what breaks them, and noise."""
    crystal = prototypes.elpasolite()
    basis = build_basis(crystal, (2, 2, 2), (None,))
    constraints = RotationalSumRules(basis, crystal).constraints
    assert len(constraints) > 0
    breaking = numpy.random.default_rng(0).normal(size=basis.n_free)
    obeying = breaking - constraints.T @ (constraints @ breaking)
    moves = random_displacements(basis, 6)
    noise = numpy.random.default_rng(1).normal(size=moves.shape)
    return crystal, basis, constraints, breaking, obeying, moves, noise


def test_rotational_sum_rules_that_the_crystal_obeys_are_imposed_and_help(elpasolite):
    crystal, basis, constraints, _, truth, moves, noise = elpasolite
    forces = model_forces(basis, truth, moves)
    forces += 0.05 * forces.std() * noise
    free = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(crystal, moves, forces)
    obedient = ForceConstantFitter(basis).fit(crystal, moves, forces)
    assert free.quality["rotational_sum_rules"] is False
    assert obedient.quality["rotational_sum_rules"] is True
    assert numpy.abs(constraints @ free.parameters).max() > 1e-3
    assert numpy.abs(constraints @ obedient.parameters).max() < 1e-10
    assert 0 < obedient.quality["rotational_cost_over_noise"] < 3  # of the order of one, where only noise breaks them
    of_truth, *errors = (model_forces(basis, own, moves) for own in (truth, obedient.parameters, free.parameters))
    obedient_error, free_error = (numpy.linalg.norm(own - of_truth) for own in errors)
    assert obedient_error < free_error  # right conditions always bring least squares nearer to the truth
    assert not obedient.warnings


@pytest.mark.parametrize("noisy", [False, True])
def test_rotational_sum_rules_that_the_forces_contradict_are_left_off_and_named(elpasolite, noisy):
    crystal, basis, constraints, truth, _, moves, noise = elpasolite
    forces = model_forces(basis, truth, moves)
    forces += 0.02 * forces.std() * noise * noisy
    free = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(crystal, moves, forces)
    asked = ForceConstantFitter(basis).fit(crystal, moves, forces)
    assert asked.quality["rotational_sum_rules"] is False
    assert numpy.array_equal(asked.parameters, free.parameters)
    assert asked.quality["rotational_cost_over_noise"] > 10
    assert asked.quality["rotational_change_relative"] > 0.02
    assert "rotational sum rules are left off" in asked.warnings[0]
    assert asked.quality["warnings"] == "; ".join(asked.warnings)


def test_the_held_out_error_is_that_of_the_constants_that_are_delivered(elpasolite):
    crystal, basis, constraints, _, truth, moves, noise = elpasolite
    forces = model_forces(basis, truth, moves)
    forces += 0.05 * forces.std() * noise
    obedient, free = (
        ForceConstantFitter(basis, FitSettings(rotational_sum_rules=wanted)).fit(crystal, moves, forces)
        for wanted in (True, False)
    )
    # the last fifth of the supercells is held out; the others are fitted alone, under the same rules
    for fitted, wanted in ((obedient, True), (free, False)):
        alone = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=wanted))
        alone = alone.fit(crystal, moves[:5], forces[:5]).parameters
        error = model_forces(basis, alone, moves[5:]) - forces[5:]
        expected = numpy.sqrt((error**2).mean() / (forces**2).mean())
        assert fitted.quality["force_error_relative_held_out"] == pytest.approx(expected, rel=1e-6)
    beside = obedient.quality["force_error_relative_held_out_without_rotations"]
    assert beside == pytest.approx(free.quality["force_error_relative_held_out"], rel=1e-9)
    assert beside != obedient.quality["force_error_relative_held_out"]


@pytest.mark.parametrize("prototype", ["rocksalt", "half_heusler", "full_heusler"])
def test_sites_of_cubic_point_symmetry_obey_the_rotational_sum_rules_by_symmetry(prototype):
    crystal = getattr(prototypes, prototype)()
    basis = build_basis(crystal, (2, 2, 2), (None,))
    assert len(RotationalSumRules(basis, crystal).constraints) == 0


@pytest.mark.parametrize("compound", POLAR)
def test_real_dft_forces_of_polar_crystals_within_a_few_thousandths(reference, compound):
    data = read_phonopy_yaml(reference / "displaced_supercells" / compound)
    assert len(data.crystal.numbers) == 2  # the file's cell is the conventional one
    spacing = 2 * neighbour_shells(data.crystal, 5.0)[0]
    third, fourth = 0.93 * spacing, 0.6 * spacing  # fourth order: nearest neighbours
    for cutoffs, limit in [((None, third), 0.0040), ((None, third, fourth), 0.0028)]:
        fitter = ForceConstantFitter(build_basis(data.crystal, data.repetitions, cutoffs))
        fitted = fitter.fit(data.crystal, data.displacements[:30], data.forces[:30])
        unseen = data.displacements[30:40], data.forces[None, 30:40]
        unseen = NormalEquations(FitMatrix(fitter.basis), *unseen, 1).without()
        assert unseen.error(fitted.parameters)[1] < limit
