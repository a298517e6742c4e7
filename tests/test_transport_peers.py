"""phonopy and phono3py from the same force constants: two polar crystals of two and three atoms, one of eight."""

import numpy
import pytest
from phonopy import Phonopy
from phonopy.physical_units import get_physical_units
from phonopy.structure.atoms import PhonopyAtoms

from phonoscreen.crystal.mesh import build_mesh
from phonoscreen.crystal.units import COULOMB
from phonoscreen.formats.phono3py import from_phono3py, to_phono3py
from phonoscreen.phonons import thermal
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, solve_modes, velocity_matrices
from phonoscreen.phonons.long_range import GonzeCorrection
from phonoscreen.phonons.modes import solve_mesh_modes
from phonoscreen.stages.other_solvers import solve_with_phono3py
from phonoscreen.transport.solve import Settings, solve
from tests.transport_models import conventional_rocksalt, half_heusler, rocksalt

EPSILON = 2.4 * numpy.eye(3)
CRYSTALS = {  # model, charges, coarse and fine mesh, largest difference of kappa on the fine one
    "two atoms, polar": (lambda: rocksalt(repetitions=(3, 3, 3)), (1.1, -1.1), (7, 11), 0.05),
    "three atoms, polar": (half_heusler, (1.0, -2.2, 1.2), (7, 9), 0.03),
    "eight atoms": (conventional_rocksalt, None, (3, 7), 0.15),
}


@pytest.fixture(scope="module", params=CRYSTALS)
def pair(request):
    """Crystal and constants, its charges, the same crystal in phonopy, and the entry in ``CRYSTALS``."""
    make, charges, *_ = CRYSTALS[request.param]
    crystal, second, third = make()
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions,
                        masses=crystal.masses)  # fmt: skip
    theirs = Phonopy(cell, numpy.diag(second.repetitions), primitive_matrix=numpy.eye(3))
    theirs.force_constants = to_phono3py(crystal, second, third).fc2
    born = None if charges is None else numpy.array([z * numpy.eye(3) for z in charges])
    if born is not None:
        theirs.nac_params = {"born": born, "dielectric": EPSILON, "factor": COULOMB}
    return (crystal, second, third), None if born is None else (born, EPSILON), theirs, CRYSTALS[request.param]


def correction_of(charges):
    return None if charges is None else lambda *of: GonzeCorrection(*of, *charges)


def test_frequencies_and_group_velocities(pair):
    (crystal, second, _), charges, theirs, _ = pair
    matrix = DynamicalMatrix(crystal, second, correction_of(charges))
    q = numpy.random.default_rng(5).uniform(-0.5, 0.5, size=(12, 3))
    theirs.run_qpoints(q, with_group_velocities=True)
    omega, vectors = solve_modes(matrix, q)
    assert omega / (2 * numpy.pi) == pytest.approx(theirs.qpoints.frequencies, rel=1e-6)
    velocities = numpy.einsum("qxss->qsx", velocity_matrices(omega, vectors, matrix(q, gradient=True)[1])).real
    expected = theirs.qpoints.group_velocities
    # phonopy takes the derivative of the long-range part by finite differences
    close = 1e-6 if charges is None else 1e-4
    assert velocities == pytest.approx(expected, abs=close * numpy.abs(expected).max())


def test_heat_capacity_and_mean_square_displacements(pair):
    (crystal, second, _), charges, theirs, _ = pair
    mesh = (5, 5, 5)
    modes = solve_mesh_modes(DynamicalMatrix(crystal, second, correction_of(charges)), build_mesh(crystal, mesh))
    theirs.run_mesh(mesh, with_eigenvectors=True, is_mesh_symmetry=False, is_gamma_center=True)
    theirs.run_thermal_displacements(temperatures=[300.0], freq_min=1e-2)
    expected = theirs.thermal_displacements.thermal_displacements[0].reshape(-1, 3).sum(axis=1)
    assert thermal.mean_square_displacements(modes, crystal, 300.0) == pytest.approx(expected, rel=1e-6)
    theirs.run_thermal_properties(temperatures=[300.0], cutoff_frequency=1e-2)
    gas_constant = 1000 * get_physical_units().KB * get_physical_units().EvTokJmol  # phonopy's is that of CODATA 2006
    n_atoms = len(crystal.numbers)
    at_gamma = 3 / 125 / n_atoms  # the three acoustic modes at Gamma, which phonopy leaves out
    mine = thermal.molar_heat_capacity(modes, 300.0 * gas_constant / 8.314462618) / 8.314462618 - at_gamma
    expected = theirs.thermal_properties.heat_capacity[0] / n_atoms / gas_constant
    assert mine == pytest.approx(expected, rel=1e-6)


def test_conductivity_of_its_own_force_constants_read_back(pair):
    (crystal, second, third), *_ = pair
    back, pairs, triplets = from_phono3py(to_phono3py(crystal, second, third))
    again, first = (solve(*x, (3, 3, 3), Settings()) for x in ((back, pairs, triplets), (crystal, second, third)))
    for one, other in ((again.rta, first.rta), (again.full, first.full)):
        assert one[0].kappa == pytest.approx(other[0].kappa, rel=1e-6, abs=1e-8)


def test_conductivities_approach_each_other_with_the_mesh(pair):
    """Adaptive Gaussians here, linear tetrahedra there: the difference is that of two converging series."""
    constants, charges, _, (*_, meshes, largest) = pair
    settings, gaps = Settings(isotopes=False, full_solution=False), []
    for n in meshes:
        mine = solve(*constants, (n, n, n), settings, correction=correction_of(charges)).rta[0].kappa[0, 0]
        theirs = solve_with_phono3py(*constants, (n, n, n), 300.0, isotopes=False, charges=charges)["rta"][0, 0]
        gaps.append(abs(mine / theirs - 1))
    assert gaps[1] < gaps[0] and gaps[1] < largest, gaps
