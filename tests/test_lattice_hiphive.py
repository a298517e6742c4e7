"""Against hiphive in the same cluster space: least squares, LASSO, and potentials there and back."""

import logging

import numpy
import pytest
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.normal_equations import Sums
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.force_constants.sparse_regression import PENALTIES, sparse_path
from phonoscreen.formats.hiphive import from_hiphive, hiphive_parameters
from tests import prototype_crystals as prototypes
from tests.test_lattice_fit import model_forces, random_displacements

CUTOFFS = [5.2, 4.4]


class Case:
    """Rocksalt: a basis and hiphive's cluster space with the same cutoffs, forces that neither describes fully."""

    def __init__(self):
        from hiphive import ClusterSpace, StructureContainer

        logging.getLogger("hiphive").setLevel(logging.WARNING)
        self.crystal, self.repetitions = prototypes.rocksalt(), (3, 3, 3)
        self.basis = build_basis(self.crystal, self.repetitions, CUTOFFS)
        self.displacements = random_displacements(self.basis, 3)
        rough = build_basis(self.crystal, self.repetitions, (None, 5.2))
        parameters = numpy.random.default_rng(1).normal(size=rough.n_free)
        self.forces = model_forces(rough, parameters, self.displacements)
        self.unit = Atoms(numbers=self.crystal.numbers, cell=self.crystal.cell, pbc=True,
                          scaled_positions=self.crystal.scaled_positions)  # fmt: skip
        self.space = ClusterSpace(self.unit, CUTOFFS)
        container = StructureContainer(self.space)
        for moves, own in zip(self.displacements, self.forces):
            structure = self.unit.repeat(self.repetitions)
            structure.arrays["displacements"], structure.arrays["forces"] = moves, own
            container.add_structure(structure)
        self.fit_data = container.get_fit_data()


@pytest.fixture(scope="module")
def case():
    return Case()


def test_least_squares_gives_hiphives_parameters_and_force_constants(case):
    from hiphive import ForceConstantPotential
    from trainstation import Optimizer

    assert case.space.n_dofs == case.basis.n_free
    optimizer = Optimizer(case.fit_data, train_size=1.0, standardize=False)
    optimizer.train()
    theirs = optimizer.parameters
    fitter = ForceConstantFitter(case.basis, FitSettings(rotational_sum_rules=False))
    fitted = fitter.fit(case.crystal, case.displacements, case.forces)
    ours = hiphive_parameters(case.space, case.basis, fitted.parameters)
    assert numpy.abs(ours - theirs).max() < 1e-8 * numpy.abs(theirs).max()
    supercell = case.unit.repeat(case.repetitions)
    constants = ForceConstantPotential(case.space, theirs).get_force_constants(supercell)
    second, third = from_hiphive(constants, case.crystal, case.repetitions)
    own = case.basis.expand_second(fitted.parameters)
    assert numpy.abs(own.values - second.values).max() < 1e-8 * numpy.abs(own.values).max()
    table = {(*map(int, a), *map(int, c.ravel())): v for a, c, v in zip(third.atoms, third.cells, third.values)}
    own = case.basis.expand_third(fitted.parameters)
    scale = numpy.abs(own.values).max()
    for atoms, cells, values in zip(own.atoms, own.cells, own.values):
        key = (*map(int, atoms), *map(int, cells.ravel()))
        assert numpy.abs(values - table.get(key, numpy.zeros((3, 3, 3)))).max() < 1e-8 * scale


def test_a_potential_made_for_hiphive_comes_back(case):
    from hiphive import ForceConstantPotential

    parameters = numpy.random.default_rng(5).normal(size=case.basis.n_free)
    potential = ForceConstantPotential(case.space, hiphive_parameters(case.space, case.basis, parameters))
    constants = potential.get_force_constants(case.unit.repeat(case.repetitions))
    second, third = from_hiphive(constants, case.crystal, case.repetitions)
    own = case.basis.expand_second(parameters).values
    assert numpy.abs(second.values - own).max() < 1e-9 * numpy.abs(own).max()
    assert len(third.atoms) <= len(case.basis.expand_third(parameters).atoms)


def test_a_cluster_space_with_other_cutoffs_is_refused(case):
    rough = build_basis(case.crystal, case.repetitions, [5.2, 3.5])
    with pytest.raises(StudyError, match="different force constants") as failure:
        hiphive_parameters(case.space, rough, numpy.ones(rough.n_free))
    assert "cutoffs" in failure.value.fix


@pytest.mark.parametrize("penalty", [1e-2, 1e-3, 1e-4])
def test_lasso_predicts_what_trainstation_predicts_with_hiphives_own_columns(case, penalty):
    """The same basis, hiphive's, and the same penalty: the two solvers stop at duality gaps of 1e-8 and 1e-12."""
    from trainstation.fit_methods import fit

    matrix, target = case.fit_data
    scale = 1 / numpy.linalg.norm(matrix, axis=0)
    sums = Sums(matrix.T @ matrix, (matrix.T @ target)[:, None], numpy.array([target @ target]), len(target))
    penalties = PENALTIES["lasso"][PENALTIES["lasso"] >= 0.99 * penalty]
    ours = sparse_path("lasso", sums, 0, penalties)[-1]
    alpha = penalties[-1] * numpy.abs((matrix * scale).T @ target).max() / len(target)
    theirs = fit(matrix * scale, target, "lasso", standardize=False, alpha=alpha, tol=1e-12, max_iter=10**6)
    difference = matrix @ (ours - theirs["parameters"] * scale)
    assert numpy.linalg.norm(difference) < 1e-4 * numpy.linalg.norm(target)
    assert (ours == 0).sum() > 0 or penalty < 1e-3
