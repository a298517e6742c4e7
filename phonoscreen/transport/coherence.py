"""Wave-like conductivity: coherences between the modes of one wave vector.

The cell of a wave vector is the parallelepiped of one mesh step along each reciprocal vector. Bands that nearly touch
at one wave vector of the mesh part again inside its cell, over a distance that is small against a cell where lines are
narrow; the value at the wave vector then stands for what it is not. So the terms of Eq. (1) are averaged over the cell,
bands to first order (``phonoscreen.transport.cell_average``), and over the orientations in which the crystal's point
group turns the parallelepiped. Linewidths, heat capacities and mean frequencies are those of the wave vector.
"""

import itertools

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.phonons.dynamical_matrix import average_over_sets
from phonoscreen.phonons.modes import MeshModes
from phonoscreen.transport.boltzmann import TO_W_PER_M_K, symmetrise
from phonoscreen.transport.cell_average import NODES, WEIGHTS, pair_averages

SUMS = ("cell_average", "bare")
_BLOCK_MIB = 64
_FACE = 0.5 * numpy.array([(1.0, a, b) for a, b in itertools.product(NODES, NODES)])
_FACES = numpy.concatenate([numpy.roll(_FACE, shift, axis=1) for shift in range(3)])  # opposite faces give the same
_FACE_WEIGHTS = numpy.tile(numpy.outer(WEIGHTS, WEIGHTS).ravel() / 12, 3)


def coherence_conductivity(
    modes: MeshModes, linewidth: NDArray, volume: float, temperature_k: float, *, sum_over: str = "cell_average"
) -> tuple[NDArray, NDArray]:
    """Wave-like (off-diagonal) thermal conductivity.

    Eq. (1) of J. Rodriguez et al., Commun. Mater. 4, 61 (2023), after M. Simoncelli et al., Nat. Phys. 15, 809 (2019).

    Parameters
    ----------
    modes : ``phonoscreen.phonons.modes.MeshModes``
    linewidth : (n_irr, n_band) full width Gamma = 1/tau, 1/ps
    volume : angstrom^3
    temperature_k : kelvin
    sum_over : "cell_average", each term averaged over the cell of its wave vector, or "bare", its value at the wave
        vector for pairs of modes of different degenerate sets, as other programs do

    Returns
    -------
    kappa : (3, 3) W/m/K
    kappa_modes : (n_irr, n_band) mean of the diagonal; each pair is shared by the heat capacities of its two modes

    Raises
    ------
    StudyError
        If ``sum_over`` is neither.
    """
    if sum_over not in SUMS:
        raise StudyError(f"sum over {sum_over!r} is none of {', '.join(SUMS)}", where="transport",
                         fix="correct transport.coherence_sum")  # fmt: skip
    n_irr, n_bands = modes.omega.shape
    total, parts = numpy.zeros((3, 3)), numpy.zeros((n_irr, n_bands))
    heat = units.mode_heat_capacity(modes.omega, temperature_k)
    per_omega = numpy.divide(heat, modes.omega, out=numpy.zeros_like(heat), where=modes.omega > 0)
    scale = modes.mesh.weights * (TO_W_PER_M_K / (volume * len(modes.mesh.points)))
    block = max(1, int(_BLOCK_MIB * 2**20 / (300 * n_bands**2)))
    for q in (slice(start, start + block) for start in range(0, n_irr, block)):
        omega, width = modes.omega[q], linewidth[q]
        alive = (omega > 0) & (width > 0)
        products = _bare(modes, width, q) if sum_over == "bare" else _averaged(modes, width, q)
        pair = (omega[:, :, None] + omega[:, None, :]) / 2 * (per_omega[q][:, :, None] + per_omega[q][:, None, :])
        pair = numpy.where(alive[:, :, None] & alive[:, None, :], pair * scale[q, None, None], 0.0)
        total += numpy.einsum("qst,qstxy->xy", pair, products)
        shares = 2 * numpy.divide(heat[q][:, :, None], heat[q][:, :, None] + heat[q][:, None, :],
                                  out=numpy.zeros_like(pair), where=pair != 0)  # fmt: skip
        parts[q] = (pair * shares * numpy.trace(products, axis1=3, axis2=4)).sum(axis=2) / 3
    return symmetrise(total, modes.mesh), average_over_sets(parts, modes.sets)


def _couplings(modes, q):
    """Products Re V_ss' V_s's of all directions: (n, n_band, n_band, 3, 3)."""
    v = modes.velocity_matrices[q]
    return numpy.einsum("qxst,qyst->qstxy", v.real, v.real) + numpy.einsum("qxst,qyst->qstxy", v.imag, v.imag)


def _bare(modes, linewidth, q):
    """Products of velocities times the Lorentzian at the wave vector, between different sets."""
    omega, sets = modes.omega[q], modes.sets[q]
    width = linewidth[:, :, None] + linewidth[:, None, :]
    gap = omega[:, :, None] - omega[:, None, :]
    different = sets[:, :, None] != sets[:, None, :]
    lorentz = numpy.divide(width, 4 * gap**2 + width**2, out=numpy.zeros_like(width), where=different & (width > 0))
    return lorentz[..., None, None] * _couplings(modes, q)


def _averaged(modes, linewidth, q):
    """The same averaged over the cell, and what the modes of one set add where they part.

    Between sets of m and m' modes at most min(m, m') pairs couple in any direction: that many pairs of equal strength
    are taken, so that nothing depends on the eigenvectors chosen inside a set.
    """
    omega, sets = modes.omega[q], modes.sets[q]
    same = (sets[:, :, None] == sets[:, None, :]).astype(float)
    size = same.sum(axis=2)
    mean = same / size[:, :, None]
    coupling = numpy.einsum("qsa,qabxy,qtb->qstxy", mean, _couplings(modes, q), mean, optimize=True)
    larger = numpy.maximum(size[:, :, None], size[:, None, :])
    velocities = average_over_sets(modes.velocities[q], sets)
    alive = (omega > 0) & (linewidth > 0)
    k, s, t = numpy.nonzero((sets[:, :, None] < sets[:, None, :]) & alive[:, :, None] & alive[:, None, :])
    averages = numpy.zeros((len(k), 3, 3))
    pair_averages(
        omega[k, s] - omega[k, t], linewidth[k, s] + linewidth[k, t], velocities[k, s] - velocities[k, t],
        coupling[k, s, t] * larger[k, s, t, None, None], modes.cells, NODES, WEIGHTS, averages,
    )  # fmt: skip
    averages /= larger[k, s, t, None, None]
    products = numpy.zeros((*same.shape, 3, 3))
    products[k, s, t] = products[k, t, s] = averages
    for k, members in _degenerate(sets, alive):
        block = modes.velocity_matrices[q][k][:, members[:, None], members]
        average = _inside_set(block, linewidth[k, members].mean(), modes.cells) / len(members)
        products[k, members, members] = average
    return products


def _degenerate(sets, alive):
    """Yield wave vector and modes of each set of several modes."""
    for k, row in enumerate(sets):
        for label in numpy.flatnonzero(numpy.bincount(row) > 1):
            members = numpy.flatnonzero(row == label)
            if alive[k, members].all():
                yield k, members


def _inside_set(block, linewidth, cells):
    """Sum over pairs of modes of one set of their velocity products times the Lorentzian, averaged over the cell.

    At a distance r f from the wave vector, f on the surface of the cell, the velocity block along f says how the modes
    part: their differences are proportional to r, and the integral over r is closed.

    Parameters
    ----------
    block : (3, m, m) velocity matrix inside the set, angstrom/ps
    linewidth : of each mode, 1/ps
    cells : (n, 3, 3) edges as columns
    """
    m, width = block.shape[1], 2 * linewidth
    traceless = block - numpy.trace(block, axis1=1, axis2=2)[:, None, None] / m * numpy.eye(m)
    if numpy.abs(traceless).max() < 1e-6 * numpy.abs(block).max():
        return numpy.zeros((3, 3))
    directions = (_FACES @ cells.swapaxes(1, 2)).reshape(-1, 3)
    if m == 2:
        return _inside_pair(traceless, width, directions, len(cells))
    slopes, vectors = numpy.linalg.eigh((directions @ traceless.reshape(3, -1)).reshape(-1, m, m))
    v = vectors.conj().swapaxes(1, 2)[:, None] @ traceless @ vectors[:, None]
    v *= 1 - numpy.eye(m)
    weights = _lorentzian(numpy.abs(slopes[:, :, None] - slopes[:, None, :]), width)
    weights *= numpy.tile(_FACE_WEIGHTS, len(cells))[:, None, None] / len(cells)
    weighted = (v * weights[:, None]).swapaxes(0, 1).reshape(3, -1)
    return (weighted @ v.conj().swapaxes(0, 1).reshape(3, -1).T).real


def _inside_pair(traceless, width, directions, n_cells):
    """The same for two modes, by the Pauli vectors of the velocities: what couples lies across the one along f."""
    pauli = numpy.stack([traceless[:, 0, 1].real, -traceless[:, 0, 1].imag, traceless[:, 0, 0].real], axis=1)
    along = directions @ pauli
    length = numpy.linalg.norm(along, axis=1)
    weights = 2 * _lorentzian(2 * length, width) * numpy.tile(_FACE_WEIGHTS, n_cells) / n_cells
    parts = (along / numpy.maximum(length, 1e-300)[:, None]) @ pauli.T
    return weights.sum() * (pauli @ pauli.T) - (weights[:, None] * parts).T @ parts


def _lorentzian(slopes, width):
    """Integral of the Lorentzian over the distance from the wave vector, for differences of the slopes of two modes."""
    ratio = 2 * slopes / width
    small = ratio < 1e-2
    safe = numpy.where(small, 1.0, ratio)
    return numpy.where(small, 1 - 0.6 * ratio**2, 3 * (1 - numpy.arctan(safe) / safe) / safe**2) / width
