"""Force constants of known potentials: recovered, with errors that fall as theory says."""

import numpy
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import stillinger_weber

from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix
from tests import prototype_crystals as prototypes
from tests.test_lattice_fit import random_displacements


def ase_forces(crystal, repetitions, displacements, calculator):
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms = atoms.repeat(repetitions)
    perfect, forces = atoms.positions.copy(), []
    atoms.calc = calculator
    for moves in displacements:
        atoms.positions = perfect + moves
        forces.append(atoms.get_forces())
    return numpy.array(forces)


def third_with_first_site_fixed(third, repetitions, n_atoms):
    """Third-order constants of supercell atom 0 with all pairs: (n_super, n_super, 3, 3, 3)."""
    n_super = n_atoms * int(numpy.prod(repetitions))
    values = numpy.zeros((n_super, n_super, 3, 3, 3))
    for (i, j, k), cells, own in zip(third.atoms, third.cells, third.values):
        if i == 0:
            places = numpy.ravel_multi_index(tuple((cells % repetitions).T), repetitions) * n_atoms
            values[places[0] + j, places[1] + k] += own
    return values


def stillinger_weber_silicon():
    return Manybody(**stillinger_weber.StillingerWeber(stillinger_weber.Stillinger_Weber_PRB_31_5262_Si))


class Silicon:
    """Diamond silicon with the Stillinger-Weber potential: analytic Hessian, and its derivative."""

    def __init__(self):
        self.repetitions = (3, 3, 3)
        self.unit = bulk("Si", "diamond", a=5.431)
        self.crystal = Crystal.from_ase(self.unit)
        # triplets share an angle, so two of their sites are at most second neighbours (3.84 angstrom)
        self.basis = build_basis(self.crystal, self.repetitions, (None, 4.2))
        step, move = 1e-4, numpy.zeros((54, 3))
        move[0, 0] = step
        self.second = self.hessian(0 * move)[0]
        self.third = (self.hessian(move) - self.hessian(-move)) / (2 * step)  # derivative by atom 0, x

    def hessian(self, move):
        atoms = self.unit.repeat(self.repetitions)
        atoms.positions += move
        hessian = stillinger_weber_silicon().get_property("hessian", atoms).toarray()
        return hessian.reshape(54, 3, 54, 3).transpose(0, 2, 1, 3)

    def errors(self, n_supercells, length, noise=0.0, seed=0):
        """Relative error of the fitted second and third order."""
        displacements = random_displacements(self.basis, n_supercells, seed, length)
        forces = ase_forces(self.crystal, self.repetitions, displacements, stillinger_weber_silicon())
        forces += noise * numpy.random.default_rng(1000 + seed).normal(size=forces.shape)
        parameters = ForceConstantFitter(self.basis).fit(self.crystal, displacements, forces).parameters
        second = self.basis.expand_second(parameters).values[0]
        third = third_with_first_site_fixed(self.basis.expand_third(parameters), self.repetitions, 2)[:, :, 0]
        return (numpy.linalg.norm(second - self.second) / numpy.linalg.norm(self.second),
                numpy.linalg.norm(third - self.third) / numpy.linalg.norm(self.third))  # fmt: skip


@pytest.fixture(scope="module")
def silicon():
    return Silicon()


def test_stillinger_weber_second_and_third_order_are_recovered(silicon):
    second, third = silicon.errors(64, 0.0075)
    assert second < 1e-4
    assert third < 1e-3


def test_the_second_order_error_is_the_fourth_order_seen_by_the_displacements(silicon):
    """Not sampling: it stays with more supercells and falls with the square of the displacements."""
    long, short = (silicon.errors(16, length)[0] for length in (0.03, 0.015))
    assert long / short == pytest.approx(4.0, rel=0.15)
    assert silicon.errors(48, 0.03)[0] == pytest.approx(long, rel=0.15)


def test_errors_of_noisy_forces_fall_with_the_square_root_of_the_supercells(silicon):
    """Noise of sigma on the forces: sigma / (u sqrt(N)) for the second order, sigma / (u^2 sqrt(N)) for the third."""
    mean = {
        key: numpy.sqrt(numpy.mean([numpy.square(silicon.errors(*key, noise=0.1, seed=seed)) for seed in range(6)], 0))
        for key in ((6, 0.02), (24, 0.02), (24, 0.01))
    }
    assert mean[6, 0.02] / mean[24, 0.02] == pytest.approx([2.0, 2.0], rel=0.25)
    assert mean[24, 0.01] / mean[24, 0.02] == pytest.approx([2.0, 4.0], rel=0.25)


def lennard_jones(rc):
    return LennardJones(sigma=2.6, epsilon=0.2, rc=rc, smooth=True, ro=0.75 * rc)


def test_lennard_jones_second_and_third_order_are_recovered():
    """Argon-like fcc crystal: finite differences of the forces against the fit to random displacements."""
    crystal = Crystal.from_ase(Atoms("Ar", cell=4.05 * prototypes.FCC, scaled_positions=[[0, 0, 0]], pbc=True))
    repetitions, calculator = (4, 4, 4), lennard_jones(4.4)
    basis = build_basis(crystal, repetitions, (None, 4.6))
    step, single = 1e-3, numpy.zeros((2, basis.n_supercell_atoms, 3))
    single[0, 0, 0], single[1, 0, 0] = step, -step
    plus, minus = ase_forces(crystal, repetitions, single, calculator)
    exact_second = -(plus - minus) / (2 * step)  # Phi_{0 x, a b}
    exact_third = -(plus + minus) / step**2  # Phi_{0 x, 0 x, a b}
    displacements = random_displacements(basis, 12, length=0.005)
    forces = ase_forces(crystal, repetitions, displacements, calculator)
    fitted = ForceConstantFitter(basis).fit(crystal, displacements, forces)
    second = basis.expand_second(fitted.parameters).values[0][:, 0]
    third = third_with_first_site_fixed(basis.expand_third(fitted.parameters), repetitions, 1)[0][:, 0, 0]
    assert numpy.abs(second - exact_second).max() < 1e-3 * numpy.abs(exact_second).max()
    assert numpy.abs(third - exact_third).max() < 0.02 * numpy.abs(exact_third).max()


def test_force_constants_do_not_depend_on_the_supercell():
    crystal, frequencies = prototypes.rocksalt("LiF", a=3.9), []
    for repetitions in ((4, 4, 4), (5, 5, 5)):
        basis = build_basis(crystal, repetitions, (None,))
        displacements = random_displacements(basis, 4, length=1e-4)
        forces = ase_forces(crystal, repetitions, displacements, lennard_jones(4.0))
        second = basis.expand_second(ForceConstantFitter(basis).fit(crystal, displacements, forces).parameters)
        qpoints = numpy.random.default_rng(0).random((6, 3))
        matrices = DynamicalMatrix(crystal, second)(qpoints)[0]
        frequencies.append(numpy.linalg.eigvalsh(matrices))
    assert numpy.abs(frequencies[0] - frequencies[1]).max() < 1e-4 * numpy.abs(frequencies[0]).max()
