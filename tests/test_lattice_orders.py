"""Methods of the orders, together and in sequence: optimality conditions, step by step, other programs' LASSO."""

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.learning_curve import learning_curve
from phonoscreen.force_constants.normal_equations import NormalEquations
from phonoscreen.force_constants.orders import held_out_error, plan_blocks, solve_blocks
from phonoscreen.force_constants.settings import FitSettings
from tests import prototype_crystals as prototypes
from tests.test_lattice_fit import model_forces, random_displacements


@pytest.fixture(scope="module")
def noisy():
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, (2, 2, 2), (None, 3.0))
    rng = numpy.random.default_rng(7)
    parameters = rng.normal(size=basis.n_free)
    parameters[basis.orders[0].n_free :] *= 10
    displacements = random_displacements(basis, 10)
    forces = model_forces(basis, parameters, displacements)
    forces += 0.05 * forces.std() * rng.normal(size=forces.shape)
    fit_matrix = FitMatrix(basis)
    equations = NormalEquations(fit_matrix, displacements, forces[None], 5)
    return crystal, basis, displacements, forces, equations, fit_matrix


def sizes(basis):
    return [order.n_free for order in basis.orders]


def test_least_squares_in_sequence_is_one_fit_after_the_other(noisy):
    _, basis, displacements, forces, equations, fit_matrix = noisy
    matrix, target = fit_matrix.matrix(displacements), fit_matrix.arrange(forces).ravel()
    n = basis.orders[0].n_free
    second = numpy.linalg.lstsq(matrix[:, :n], target, rcond=None)[0]
    third = numpy.linalg.lstsq(matrix[:, n:], target - matrix[:, :n] @ second, rcond=None)[0]
    solution = solve_blocks(plan_blocks(sizes(basis), ["least_squares"] * 2, True), equations)
    assert numpy.allclose(solution.parameters[:, 0], numpy.concatenate([second, third]), rtol=1e-8, atol=1e-8)


def test_second_order_least_squares_with_third_order_lasso_fulfils_the_optimality_conditions(noisy):
    _, basis, displacements, forces, equations, fit_matrix = noisy
    matrix, target = fit_matrix.matrix(displacements), fit_matrix.arrange(forces).ravel()
    n = basis.orders[0].n_free
    solution = solve_blocks(plan_blocks(sizes(basis), ["least_squares", "lasso"], False), equations)
    parameters = solution.parameters[:, 0]
    gradient = matrix.T @ (target - matrix @ parameters)
    assert numpy.abs(gradient[:n]).max() < 1e-8 * numpy.abs(matrix.T @ target).max()
    # the columns as the solver sees them: what least squares on the second order leaves, at unit length
    rest = matrix[:, n:] - matrix[:, :n] @ numpy.linalg.lstsq(matrix[:, :n], matrix[:, n:], rcond=None)[0]
    scaled = gradient[n:] / numpy.linalg.norm(rest, axis=0)
    penalty = solution.penalties[0] * numpy.abs(rest.T @ target / numpy.linalg.norm(rest, axis=0)).max()
    active = parameters[n:] != 0
    assert 0 < active.sum()
    assert numpy.abs(scaled).max() < 1.001 * penalty
    assert numpy.allclose(scaled[active], penalty * numpy.sign(parameters[n:][active]), rtol=1e-3, atol=1e-3 * penalty)


@pytest.mark.parametrize("in_sequence", [False, True])
def test_held_out_error_is_that_of_fits_without_the_held_out_supercells(noisy, in_sequence):
    _, basis, displacements, forces, _, fit_matrix = noisy
    blocks = plan_blocks(sizes(basis), ["least_squares"] * 2, in_sequence)
    equations = NormalEquations(fit_matrix, displacements, forces[None], 2)
    solution = solve_blocks(blocks, equations)
    alone = solve_blocks(blocks, NormalEquations(fit_matrix, displacements[:8], forces[None, :8], 1)).parameters[:, 0]
    error = model_forces(basis, alone, displacements[8:]) - forces[8:]
    assert held_out_error(equations, solution.left_out) == pytest.approx(numpy.sqrt((error**2).mean()), rel=1e-8)


def test_orders_report_their_own_method_and_penalty(noisy):
    crystal, basis, displacements, forces, *_ = noisy
    for in_sequence in (False, True):
        settings = FitSettings({"second": "least_squares", "third": "ardr"}, in_sequence)
        quality = ForceConstantFitter(basis, settings).fit(crystal, displacements, forces).quality
        assert quality["method"] == "least_squares, ardr"
        assert (quality["method_second"], quality["method_third"]) == ("least_squares", "ardr")
        assert numpy.isnan(quality["penalty_second"])
        assert quality["penalty_third"] > 0
        assert quality["in_sequence"] is in_sequence
        assert quality["n_nonzero_second"] == basis.orders[0].n_free
        assert quality["force_error_relative_held_out"] < 0.3


def test_two_sparse_methods_need_a_sequence(noisy):
    crystal, basis, displacements, forces, *_ = noisy
    methods = {"second": "adaptive_lasso", "third": "ardr"}
    with pytest.raises(StudyError, match="adaptive_lasso and ardr cannot choose") as failure:
        ForceConstantFitter(basis, FitSettings(methods))
    assert "in_sequence" in failure.value.fix
    fitted = ForceConstantFitter(basis, FitSettings(methods, True)).fit(crystal, displacements, forces)
    assert fitted.quality["penalty_second"] != fitted.quality["penalty_third"]


@pytest.mark.parametrize("method", ["ridge", {"second": "least_squares"}, {"second": "lasso", "third": "x"}])
def test_unknown_methods_are_refused(noisy, method):
    with pytest.raises(StudyError, match="unknown method|third order has no method") as failure:
        ForceConstantFitter(noisy[1], FitSettings(method))
    assert "--method (force_constants.method." in failure.value.fix


def test_each_committee_member_gets_the_penalty_of_the_reference_forces(noisy):
    crystal, basis, displacements, forces, *_ = noisy
    fitter = ForceConstantFitter(basis, FitSettings({"second": "least_squares", "third": "lasso"}))
    fitted = fitter.fit(crystal, displacements, forces, committee_forces=numpy.stack([forces, 2 * forces]))
    scale = numpy.abs(fitted.parameters).max()
    assert numpy.abs(fitted.parameters_committee[0] - fitted.parameters).max() < 1e-6 * scale
    assert numpy.abs(fitted.parameters_committee[1] - 2 * fitted.parameters).max() < 1e-3 * scale


def test_the_learning_curve_falls_and_ends_at_the_held_out_error(noisy):
    crystal, basis, *_ = noisy
    parameters = numpy.random.default_rng(1).normal(size=basis.n_free)
    displacements = random_displacements(basis, 40)
    forces = model_forces(basis, parameters, displacements)
    forces += 0.1 * forces.std() * numpy.random.default_rng(2).normal(size=forces.shape)
    fitter = ForceConstantFitter(basis)
    curve = learning_curve(fitter, crystal, displacements, forces)
    assert curve["n_supercells"][0] == 1
    assert curve["n_supercells"][-1] == 32
    known = curve["force_error_relative"]
    assert (numpy.diff(known) < 0).all()
    whole = fitter.fit(crystal, displacements, forces)
    assert known[-1] == pytest.approx(whole.quality["force_error_relative_held_out"], rel=0.05)
    assert curve["change_relative"][-1] == 0
