"""Thermal conductivity of the populations: relaxation-time approximation and full solution.

Rule for degenerate bands: a set of degenerate modes has one linewidth (the mean) and one vector field (the mean). Its
velocity is the block of the velocity matrix inside the set, and the conductivity takes the trace of products of such
blocks, so it does not depend on the eigenvectors chosen inside the set. The full solution acts on the mean velocity of
the set; the traceless rest of the block, which the collision operator of populations does not see, relaxes with the
set's linewidth.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal import units
from phonoscreen.crystal.mesh import Mesh
from phonoscreen.phonons.dynamical_matrix import average_over_sets
from phonoscreen.phonons.modes import MeshModes

TO_W_PER_M_K = 1e22  # J/K angstrom^2/ps / angstrom^3

ABSURD_W_PER_M_K = 1e7
"""No crystal conducts like this; a solution beyond it has diverged (diamond of pure carbon 12: 1e5 at 100 K)."""


@dataclass
class Populations:
    """Solution of the Boltzmann equation at one temperature.

    Attributes
    ----------
    kappa : (3, 3) W/m/K
    kappa_modes : (n_irr, n_band) mean of the diagonal; the sum over modes is a third of the trace of ``kappa``
    mean_free_path : (n_irr, n_band, 3) vector field F of the solution along the temperature gradient, angstrom
    iterations : number of steps, 0 for the relaxation-time approximation
    converged : the last step changed the conductivity by less than the tolerance
    history : (steps kept, n_band, 3, 3) conductivity of each band after each step, W/m/K
    diverged : the iteration grows without bound; every number of the solution is NaN and ``history`` holds the
        relaxation-time step only
    """

    kappa: numpy.ndarray
    kappa_modes: numpy.ndarray
    mean_free_path: numpy.ndarray
    iterations: int = 0
    converged: bool = True
    history: numpy.ndarray | None = None
    diverged: bool = False


def unusable(populations: Populations) -> tuple[str, str] | None:
    """Return why a solution is no result, as (a word, a sentence), or None.

    Parameters
    ----------
    populations : Populations
    """
    size = numpy.abs(populations.kappa).max()
    if populations.iterations == 0 and not size < ABSURD_W_PER_M_K:
        return "no result", f"the relaxation times give no finite conductivity below {ABSURD_W_PER_M_K:g} W/m/K"
    if populations.diverged or not size < ABSURD_W_PER_M_K:
        return "diverged", f"the iteration diverged after {populations.iterations} steps"
    if not populations.converged:
        return "not converged", f"the iteration did not converge in {populations.iterations} steps"
    return None


def velocity_products(modes: MeshModes, degeneracy: str = "sets") -> NDArray:
    """Return the products of velocities that each mode contributes to the conductivity.

    Parameters
    ----------
    modes : ``phonoscreen.phonons.modes.MeshModes``
    degeneracy : "sets" or "shengbte", as the modes were solved

    Returns
    -------
    (n_irr, n_band, 3, 3) (angstrom/ps)^2: mean over the mode's set of sum_s' Re V_ss' V_s's with s, s' in the set; with
    "shengbte" v v of each mode
    """
    if degeneracy != "sets":
        return modes.velocities[..., :, None] * modes.velocities[..., None, :]
    same = modes.sets[:, :, None] == modes.sets[:, None, :]
    block = modes.velocity_matrices * same[:, None]
    return average_over_sets(numpy.einsum("qxst,qyts->qsxy", block, block).real, modes.sets)


def symmetrise(tensors: NDArray, mesh: Mesh) -> NDArray:
    """Average tensors over the point group of the mesh: (..., 3, 3) to (..., 3, 3)."""
    return numpy.einsum("oax,...xy,oby->...ab", mesh.rotations, tensors, mesh.rotations) / len(mesh.rotations)


def _inverse(linewidth: NDArray) -> NDArray:
    return numpy.divide(1.0, linewidth, out=numpy.zeros_like(linewidth), where=linewidth > 0)


def relaxation_time(
    modes: MeshModes, linewidth: NDArray, products: NDArray, volume: float, temperature_k: float
) -> Populations:
    """Solve the Boltzmann equation in the relaxation-time approximation.

    kappa = sum C v v / Gamma / (V N), W. Li et al., Comput. Phys. Commun. 185, 1747 (2014), Eq. (9).

    Parameters
    ----------
    modes : MeshModes
    linewidth : (n_irr, n_band) full width Gamma = 1/tau, 1/ps
    products : (n_irr, n_band, 3, 3) from ``velocity_products``
    volume : angstrom^3
    temperature_k : kelvin

    Returns
    -------
    Populations
    """
    lifetime = _inverse(linewidth)
    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    heat = heat * (TO_W_PER_M_K / (volume * len(modes.mesh.points)))
    parts = (heat * lifetime)[:, :, None, None] * products
    bands = symmetrise(parts.sum(axis=0), modes.mesh)
    trace = numpy.trace(parts, axis1=2, axis2=3) / 3
    return Populations(bands.sum(axis=0), trace, modes.velocities * lifetime[:, :, None], history=bands[None])


def iterate(
    modes: MeshModes,
    linewidth: NDArray,
    transfer: NDArray,
    products: NDArray,
    volume: float,
    temperature_k: float,
    *,
    iterations_max: int = 500,
    tolerance: float = 1e-5,
) -> Populations:
    """Solve the linearised Boltzmann equation by iteration on the irreducible wedge.

    Gamma G = omega v + B G with G = omega F, W. Li et al., Comput. Phys. Commun. 185, 1747 (2014), Eqs. (10)-(12).

    Parameters
    ----------
    modes, linewidth, products, volume, temperature_k : as in ``relaxation_time``
    transfer : (3 n_irr n_band, 3 n_irr n_band) matrix B, 1/ps, from ``three_phonon_rates``
    iterations_max : most steps
    tolerance : converged when a step changes every element of kappa by less than this fraction of the largest one

    Returns
    -------
    Populations
    """
    lifetime = _inverse(linewidth)
    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    heat = heat * (TO_W_PER_M_K / (volume * len(modes.mesh.points)))
    drive = modes.omega[:, :, None] * modes.velocities
    inverse_omega = _inverse(modes.omega)
    rest = products - modes.velocities[..., :, None] * modes.velocities[..., None, :]
    rest *= (heat * lifetime)[:, :, None, None]

    def conductivity(field):
        parts = (heat * inverse_omega)[:, :, None, None] * modes.velocities[..., :, None] * field[..., None, :] + rest
        return symmetrise(parts.sum(axis=0), modes.mesh), numpy.trace(parts, axis1=2, axis2=3) / 3

    field = drive * lifetime[:, :, None]
    bands, parts = conductivity(field)
    history, changes, converged = [bands], [], False
    while len(history) <= iterations_max and not converged:
        fed = average_over_sets((transfer @ field.ravel()).reshape(field.shape), modes.sets)
        field = (drive + fed) * lifetime[:, :, None]
        bands, parts = conductivity(field)
        kappa, change = bands.sum(axis=0), (bands - history[-1]).sum(axis=0)
        changes.append(numpy.abs(change).max())
        if _diverges(changes, numpy.abs(history[0].sum(axis=0)).max()):
            no_kappa, no_parts, no_field = (numpy.full_like(array, numpy.nan) for array in (kappa, parts, field))
            start = numpy.array(history[:1])
            return Populations(no_kappa, no_parts, no_field, len(changes), False, start, diverged=True)
        history.append(bands)
        converged = bool(changes[-1] < tolerance * numpy.abs(kappa).max())
    return Populations(
        bands.sum(axis=0), parts, field * inverse_omega[:, :, None], len(history) - 1, converged, numpy.array(history)
    )


GROWTH_STEPS = 20


def _diverges(changes, start):
    """Whether the steps of an iteration grow.

    With a collision matrix that is symmetric (up to the broadening), a step changes kappa by sum_i b_i^2 lambda_i^k,
    b_i being the parts of the relaxation-time solution along the eigenvectors. While all |lambda_i| < 1 that is never
    more than kappa in the relaxation-time approximation, and does not grow from one pair of steps to the next; twice
    as much, in either respect, leaves room for the asymmetry that the broadening makes.

    Parameters
    ----------
    changes : largest change of kappa in each step, W/m/K
    start : kappa in the relaxation-time approximation, W/m/K
    """
    if not changes[-1] <= 2 * start:  # also NaN
        return True
    if len(changes) < GROWTH_STEPS + 2:
        return False
    return max(changes[-2:]) > 2 * max(changes[-GROWTH_STEPS - 2 : -GROWTH_STEPS])
