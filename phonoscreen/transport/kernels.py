"""Compiled loops of the transport engine."""

import math

import numba
from numpy.typing import NDArray

CUTOFF = 2.0  # processes further than this many widths from energy conservation are left out (ShengBTE)
CUTOFF_ELASTIC = 2.5
_SQRT_PI = math.sqrt(math.pi)

# The inner functions are written into their callers: as calls they cost a fifth of the time.


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def line_shape(difference: float, width: float) -> float:
    """Return the broadened delta function of energy, ps: a Gaussian whose integral over the difference is 1.

    Parameters
    ----------
    difference : from energy conservation, rad/ps
    width : rad/ps; without a width there is no process
    """
    return math.exp(-((difference / width) ** 2)) / (width * _SQRT_PI) if width > 0.0 else 0.0


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def pair_widths(steps: NDArray, q1: int, band1: int, q2: int, band2: int) -> tuple[float, float]:
    """Return the broadening of absorption and of emission by two phonons, rad/ps.

    Parameters
    ----------
    steps : (n_q, n_band, 3) of ``phonoscreen.phonons.modes.broadening_steps``, rad/ps
    q1, band1, q2, band2 : the two phonons
    """
    plus, minus = 0.0, 0.0
    for x in range(3):
        plus += (steps[q1, band1, x] + steps[q2, band2, x]) ** 2
        minus += (steps[q1, band1, x] - steps[q2, band2, x]) ** 2
    return math.sqrt(plus), math.sqrt(minus)


@numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
def squared_element(half: NDArray, pair: int, band1: int, row: int, last: NDArray, q2: int, band2: int) -> float:
    """Return the squared modulus of one matrix element of the third-order constants.

    Parameters
    ----------
    half, last : of ``three_phonon``
    pair, band1, row, q2, band2 : indices into them
    """
    re = im = last[0, 0, 0].real * 0
    for c in range(last.shape[2]):
        a, b = half[pair, band1, row, c], last[q2, band2, c]
        re += a.real * b.real - a.imag * b.imag
        im += a.real * b.imag + a.imag * b.real
    return float(re) ** 2 + float(im) ** 2


@numba.njit(cache=True, nogil=True, fastmath=True)
def three_phonon(
    half: NDArray,
    last: NDArray,
    omega: NDArray,
    steps: NDArray,
    occupation: NDArray,
    q0: int,
    low: int,
    first: NDArray,
    second: NDArray,
    counts: NDArray,
    scale: float,
    rates: NDArray,
    phase_space: NDArray,
    transfer: NDArray,
) -> None:
    """Add the processes of some bands of one wave vector with pairs of wave vectors, q + q1 + q2 = G.

    Parameters
    ----------
    half : (n_pairs, n_band1, n_some, 3n) third-order constants contracted with the eigenvectors at q and q1
    last : (n_q, n_band2, 3n) eigenvectors of the mesh as rows
    omega : (n_q, n_band) rad/ps
    steps : (n_q, n_band, 3) group velocities along the mesh steps, rad/ps: the broadening of a process is the norm of
        the difference of two of them
    occupation : (n_t, n_q, n_band) Bose-Einstein
    q0, low : index of q on the mesh, first of its bands in ``half``
    first, second : (n_pairs,) indices of q1 and q2
    counts : (n_pairs,) number of ordered pairs each entry stands for
    scale : prefactor of the rates, 1/ps
    rates : (n_t, n_band, 2) absorption and emission rates are added, 1/ps
    phase_space : (n_band, 2 + 2 n_t) P3 and weighted P3 of absorption and emission are added
    transfer : (n_t, n_q, n_band1, n_band) rate at which the population of (q1, band1) feeds each band of q, or empty
    """
    n_pairs, n_bands, n_t = len(first), omega.shape[1], occupation.shape[0]
    with_transfer = transfer.shape[0] > 0
    for p in range(n_pairs):
        i, j, count = first[p], second[p], counts[p]
        for s1 in range(n_bands):
            w1 = omega[i, s1]
            if w1 <= 0.0:
                continue
            for s2 in range(n_bands):
                w2 = omega[j, s2]
                if w2 <= 0.0:
                    continue
                plus, minus = pair_widths(steps, i, s1, j, s2)
                total, gap = w1 + w2, w2 - w1
                reach_plus, reach_minus = CUTOFF * plus, CUTOFF * minus
                for r in range(half.shape[2]):
                    s = low + r
                    w = omega[q0, s]
                    up, down, out = w - gap, w + gap, w - total
                    near_up, near_down = abs(up) <= reach_plus, abs(down) <= reach_plus
                    near_out = abs(out) <= reach_minus
                    if w <= 0.0 or not (near_up or near_down or near_out):
                        continue
                    absorb1 = line_shape(up, plus) if near_up else 0.0
                    absorb2 = line_shape(down, plus) if near_down else 0.0
                    emit = line_shape(out, minus) if near_out else 0.0
                    inverse = 1.0 / (w * w1 * w2)
                    strength = scale * squared_element(half, p, s1, r, last, j, s2)
                    half_count = 0.5 * count
                    phase_space[s, 0] += half_count * (absorb1 + absorb2)
                    phase_space[s, 1] += count * emit
                    for t in range(n_t):
                        n1, n2 = occupation[t, i, s1], occupation[t, j, s2]
                        absorb = half_count * inverse * (n1 - n2) * (absorb1 - absorb2)
                        created = half_count * inverse * (1.0 + n1 + n2) * emit
                        phase_space[s, 2 + 2 * t] += absorb
                        phase_space[s, 3 + 2 * t] += created
                        rates[t, s, 0] += strength * absorb
                        rates[t, s, 1] += strength * created
                        if with_transfer:
                            moved = strength * (absorb + created)
                            transfer[t, i, s1, s] -= moved
                            transfer[t, j, s2, s] -= moved


@numba.njit(cache=True, nogil=True)
def sum_triplets(where: NDArray, phases: NDArray, values: NDArray, sums: NDArray) -> None:
    """Add each triplet's constants, times its phase, to the block of its first atom and its slot.

    Parameters
    ----------
    where : (n_triplets, 2) first atom, slot of the other two
    phases : (n_triplets,) complex
    values : (n_triplets, 27)
    sums : (n_atoms, 3, n_slots, 9) complex, added to
    """
    for t in range(len(where)):
        a, slot = where[t]
        phase = phases[t]
        for x in range(3):
            for k in range(9):
                sums[a, x, slot, k] += phase * values[t, 9 * x + k]


@numba.njit(cache=True, nogil=True)
def fold_on_wedge(
    transfer: NDArray, touched: NDArray, star: NDArray, rotations: NDArray, operation: NDArray, rows: NDArray
) -> None:
    """Express what the whole mesh feeds into one wave vector through the irreducible points.

    Parameters
    ----------
    transfer : (n_q, n_band1, n_band) from ``three_phonon``; emptied where touched
    touched : (n,) indices of the points that may be non-zero
    star, operation : (n_q,) of the mesh
    rotations : (n_op, 3, 3)
    rows : (n_band, 3, n_irr, n_band1, 3) the result is added here
    """
    n_bands = transfer.shape[1]
    for q in touched:
        j, rotation = star[q], rotations[operation[q]]
        for s in range(n_bands):
            for s1 in range(n_bands):
                value = transfer[q, s1, s]
                if value != 0.0:
                    for x in range(3):
                        for y in range(3):
                            rows[s, x, j, s1, y] += value * rotation[x, y]
                    transfer[q, s1, s] = 0.0


@numba.njit(cache=True, nogil=True, fastmath=True)
def elastic(
    vectors: NDArray,
    last: NDArray,
    omega: NDArray,
    widths: NDArray,
    variance: NDArray,
    irreducible: NDArray,
    rates: NDArray,
) -> None:
    """Add isotope scattering rates, S. Tamura, Phys. Rev. B 27, 858 (1983), without the prefactor.

    Parameters
    ----------
    vectors : (n_irr, n_band, 3n) eigenvectors of the irreducible points as rows
    last : (n_q, n_band, 3n) eigenvectors of the mesh as rows
    omega : (n_q, n_band) rad/ps
    widths : (n_q, n_band) broadening, rad/ps, above 0
    variance : (n_atoms,) mass variance g of each atom
    irreducible : (n_irr,) indices of the irreducible points
    rates : (n_irr, n_band) sum of delta(omega - omega') sum_b g_b |e_b^* . e'_b|^2 is added, ps
    """
    n_bands, n_atoms = omega.shape[1], len(variance)
    for k in range(len(irreducible)):
        for q in range(len(last)):
            for s1 in range(n_bands):
                width, w1 = widths[q, s1], omega[q, s1]
                for s in range(n_bands):
                    distance = abs(omega[irreducible[k], s] - w1)
                    if distance < CUTOFF_ELASTIC * width:
                        overlap = 0.0
                        for b in range(n_atoms):
                            dot = 0.0j
                            for x in range(3 * b, 3 * b + 3):
                                dot += vectors[k, s, x].conjugate() * last[q, s1, x]
                            overlap += variance[b] * (dot.real**2 + dot.imag**2)
                        rates[k, s] += overlap * line_shape(distance, width)
