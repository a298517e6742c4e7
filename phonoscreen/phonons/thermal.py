"""Harmonic properties of a crystal: heat capacity, displacements, sound velocities, densities of states."""

from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray
from scipy import constants

from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry_search import find_dataset
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix
from phonoscreen.phonons.modes import MeshModes


def heat_capacity(modes: MeshModes, volume: float, temperature_k: float) -> float:
    """Heat capacity at constant volume, J/m^3/K.

    Parameters
    ----------
    modes : ``phonoscreen.phonons.modes.MeshModes``
    volume : cell volume, angstrom^3
    temperature_k : kelvin
    """
    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    return heat.sum() / len(modes.mesh.points) / volume * 1e30


def molar_heat_capacity(modes: MeshModes, temperature_k: float) -> float:
    """Heat capacity at constant volume per mole of atoms, J/mol/K."""
    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    return heat.sum() / len(modes.mesh.points) / (modes.omega.shape[1] / 3) * constants.N_A


def mean_square_displacements(modes: MeshModes, crystal: Crystal, temperature_k: float) -> NDArray:
    """Mean square displacement of each atom, summed over the three directions.

    <u_b^2> = hbar / (2 N m_b) sum |e_b|^2 (2n + 1) / omega, for example A. A. Maradudin et al., Theory of Lattice
    Dynamics in the Harmonic Approximation (1971).

    Parameters
    ----------
    modes : MeshModes
    crystal : ``phonoscreen.crystal.constants.Crystal``
    temperature_k : kelvin; 0 gives the zero-point motion

    Returns
    -------
    (n_atoms,) angstrom^2
    """
    omega = modes.omega
    occupation = units.bose(omega, temperature_k) if temperature_k > 0 else numpy.zeros_like(omega)
    amplitude = numpy.divide(2 * occupation + 1, omega, out=numpy.zeros_like(omega), where=omega > 0)
    weight = (numpy.abs(modes.irreducible_eigenvectors) ** 2).reshape(*omega.shape, -1, 3).sum(axis=3)
    total = numpy.einsum("q,qs,qsb->b", modes.mesh.weights, amplitude, weight)
    orbits = find_dataset(crystal, 1e-4).equivalent_atoms  # the sum over a star is the same for equivalent atoms
    mean = numpy.array([total[orbits == orbit].mean() for orbit in orbits])
    return units.HBAR_OVER_U / 2 / len(modes.mesh.points) * mean / numpy.asarray(crystal.masses)


@dataclass
class SoundVelocities:
    """Long-wavelength acoustic velocities.

    Attributes
    ----------
    debye_m_per_s : (3 / mean of sum_branch 1/v^3 over directions)^(1/3)
    branches_m_per_s : (3,) mean over directions, slow to fast
    """

    debye_m_per_s: float
    branches_m_per_s: numpy.ndarray


def sound_velocities(dynamical_matrix: DynamicalMatrix, n_polar: int = 8, n_azimuth: int = 16) -> SoundVelocities:
    """Return the acoustic velocities averaged over directions.

    The squared velocity of a branch along a unit vector is e^* (dD/dq) e / (2 q) at a small q, which an error of the
    acoustic sum rule does not change.

    Parameters
    ----------
    dynamical_matrix : DynamicalMatrix
    n_polar, n_azimuth : Gauss-Legendre and uniform points of the average over directions
    """
    cosines, weights = numpy.polynomial.legendre.leggauss(n_polar)
    angles = (numpy.arange(n_azimuth) + 0.5) * 2 * numpy.pi / n_azimuth
    sines = numpy.sqrt(1 - cosines**2)
    directions = numpy.stack(
        [numpy.outer(sines, numpy.cos(angles)), numpy.outer(sines, numpy.sin(angles)),
         numpy.outer(cosines, numpy.ones(n_azimuth))], -1,
    ).reshape(-1, 3)  # fmt: skip
    weights = numpy.repeat(weights, n_azimuth) / (2 * n_azimuth)
    if n_azimuth % 2 == 0:  # the points are their own inversion, and so are the velocities: half of them suffice
        directions, weights = directions[: len(directions) // 2], 2 * weights[: len(weights) // 2]
    length = 1e-3
    q = length * directions @ dynamical_matrix.crystal.cell.T / (2 * numpy.pi)
    matrix, slope = dynamical_matrix(q, gradient=True)
    vectors = numpy.linalg.eigh(matrix)[1][:, :, :3]
    along = numpy.einsum("dx,dxij->dij", directions, slope)
    squares = numpy.einsum("dis,dij,djs->ds", vectors.conj(), along, vectors).real / (2 * length)
    speeds = numpy.sqrt(numpy.maximum(squares, 0.0)) * 100.0
    with numpy.errstate(divide="ignore"):
        mean = (weights[:, None] * speeds**-3.0).sum() / 3
    return SoundVelocities(float(mean ** (-1 / 3)), weights @ numpy.sort(speeds, axis=1))


def phase_space(rates: Any, modes: MeshModes) -> dict[str, NDArray]:
    """Three-phonon phase space in ShengBTE's normalisation.

    L. Lindsay and D. A. Broido, J. Phys.: Condens. Matter 20, 165209 (2008); W. Li et al., Comput. Phys. Commun. 185,
    1747 (2014): 2/3 (absorption + emission/2) over modes, per pair of wave vectors and triple of bands.

    Parameters
    ----------
    rates : ``phonoscreen.transport.scattering.ThreePhononRates``
    modes : MeshModes

    Returns
    -------
    dict of ``plus, minus, total`` (n_irr, n_band), ps; the sums over all modes of the mesh are ShengBTE's totals
    """
    n_q, n_bands = len(modes.mesh.points), modes.omega.shape[1]
    plus, minus = numpy.moveaxis(rates.phase_space, 2, 0) / (n_q**2 * n_bands**3)
    return {"plus": plus, "minus": minus, "total": 2 / 3 * (plus + minus / 2)}


def density_of_states(
    modes: MeshModes, widths: NDArray, omega_grid: NDArray, projections: NDArray | None = None
) -> NDArray:
    """Density of states by Gaussian broadening.

    Parameters
    ----------
    modes : MeshModes
    widths : (n_q, n_band) from ``phonoscreen.transport.isotopes.elastic_widths``, rad/ps
    omega_grid : (n,) rad/ps
    projections : None or (n_irr, n_band, k) weights of each mode

    Returns
    -------
    (n,) or (n, k) states per rad/ps and cell
    """
    mesh = modes.mesh
    width = widths[mesh.irreducible]
    x = (omega_grid[:, None, None] - modes.omega) / width
    delta = numpy.where(numpy.abs(x) < 2.5, numpy.exp(-(x**2)), 0.0) / (width * numpy.sqrt(numpy.pi))
    delta *= mesh.weights[:, None] / len(mesh.points)
    if projections is None:
        return delta.sum(axis=(1, 2))
    return numpy.einsum("nqs,qsk->nk", delta, projections)
