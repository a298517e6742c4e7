"""What two bands add to the coherences, averaged over the cell of a wave vector: compiled.

Two bands of one wave vector with frequencies omega_1, omega_2 and velocity matrix V (2 x 2 for each direction) are, at
a distance delta from it and to first order, the two-level system

    H(delta) = mean + h(delta) . sigma,   h(delta) = (gap / 2) e_z + sum_a delta_a v_a,
    v_a = (Re V_a12, -Im V_a12, (V_a11 - V_a22) / 2),

with sigma the Pauli matrices: there the bands differ by 2 |h|, and the part of V between them is what lies across h,

    Re V_a12 V_b21 (delta) = v_a . v_b - (v_a . n)(v_b . n),   n = h / |h|.

Both follow from the values at the wave vector itself, and depend on V through dot products only. Without the coupling
Re V_a12, Im V_a12 the difference of the bands is linear, gap + (V_11 - V_22) . delta, and the average is a third
difference of an antiderivative of the Lorentzian; with it, bands that would cross on a plane meet on a line or a point
only. The average over a parallelepiped takes the edge along which h changes most in closed form (arctangents and
logarithms) and the two others by Gauss-Legendre quadrature in variables x = eps sinh(s) around the point nearest to the
crossing, which level out the peak there.
"""

import math

import numba
import numpy
from numpy.typing import NDArray

NODES, WEIGHTS = numpy.polynomial.legendre.leggauss(8)
FAR = 0.2
"""Where h changes by less than this part of its size in the cell, two points along each edge do."""


@numba.njit(cache=True, nogil=True)
def pair_averages(
    gaps: NDArray,
    widths: NDArray,
    slopes: NDArray,
    couplings: NDArray,
    cells: NDArray,
    nodes: NDArray,
    weights: NDArray,
    averages: NDArray,
) -> None:
    """Average, over cells, the products of velocities between two bands times their Lorentzian.

    Parameters
    ----------
    gaps : (n,) omega_1 - omega_2, rad/ps
    widths : (n,) sum W of the two full linewidths, 1/ps, above 0
    slopes : (n, 3) V_11 - V_22, angstrom/ps
    couplings : (n, 3, 3) Re V_a12 V_b21, (angstrom/ps)^2
    cells : (n_cells, 3, 3) edges of the cells as columns, 1/angstrom; the average over all of them is taken
    nodes, weights : of the Gauss-Legendre quadrature on (-1, 1)
    averages : (n, 3, 3) mean of Re V_a12 V_b21 W / (4 difference^2 + W^2) is written here, angstrom^2/ps
    """
    v, edges = numpy.zeros((3, 4)), numpy.zeros((3, 4))
    for n in range(len(gaps)):
        averages[n] = 0.0
        v[:, 3] = 0.5 * slopes[n]
        _root(couplings[n], v)
        size = math.sqrt(0.25 * gaps[n] ** 2 + widths[n] ** 2 / 16)
        for cell in cells:
            reach = 0.0
            for i in range(3):
                for k in range(4):
                    edges[i, k] = cell[0, i] * v[0, k] + cell[1, i] * v[1, k] + cell[2, i] * v[2, k]
                reach += 0.5 * math.sqrt(_dot(edges[i], edges[i]))
            if reach < FAR * size:
                _add_points(gaps[n], widths[n], v, edges, averages[n])
            else:
                _add_lines(gaps[n], widths[n], v, edges, nodes, weights, averages[n])
        averages[n] /= len(cells)


@numba.njit(cache=True, nogil=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]


@numba.njit(cache=True, nogil=True)
def _root(coupling, v):
    """Fill the first three components of v with vectors whose dot products are the coupling (Cholesky)."""
    smallest = 1e-13 * (coupling[0, 0] + coupling[1, 1] + coupling[2, 2])
    for i in range(3):
        for j in range(3):
            rest = coupling[i, j]
            for k in range(j):
                rest -= v[i, k] * v[j, k]
            if j > i:
                v[i, j] = 0.0
            elif j == i:
                v[i, i] = math.sqrt(rest) if rest > smallest else 0.0
            else:
                v[i, j] = rest / v[j, j] if v[j, j] > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def _add_points(gap, width, v, edges, total):
    """Two Gauss points along each edge."""
    step, h, along = 0.5 / math.sqrt(3.0), numpy.zeros(4), numpy.zeros(3)
    for corner in range(8):
        h[:] = 0.0
        h[3] = 0.5 * gap
        for i in range(3):
            h += (step if corner >> i & 1 else -step) * edges[i]
        square = _dot(h, h)
        lorentz = width / (16 * square + width * width) / 8
        for a in range(3):
            along[a] = _dot(v[a], h)
        for a in range(3):
            for b in range(3):
                across = _dot(v[a], v[b]) - (along[a] * along[b] / square if square > 0.0 else 0.0)
                total[a, b] += lorentz * across


@numba.njit(cache=True, nogil=True)
def _antiderivatives(x, d, core):
    """Integrals over x, with r^2 = x^2 + d^2, of 1/s, d^2/(r^2 s) and x d/(r^2 s); s = r^2 + core (core = W^2/16)."""
    width = math.sqrt(d * d + core)
    first = math.atan(x / width) / width
    if d == 0.0:
        return first, 0.0, 0.0
    if d * d < 1e4 * core:
        second = d * d / core * (math.atan(x / d) / d - first)
        return first, second, 0.5 * d / core * math.log((x * x + d * d) / (x * x + width * width))
    middle = d * d + 0.5 * core  # r^2 s is middle^2 to the second order of core / d^2
    root = math.sqrt(middle)
    second = 0.5 * d * d / middle * (x / (x * x + middle) + math.atan(x / root) / root)
    return first, second, -0.5 * d / (x * x + middle)


@numba.njit(cache=True, nogil=True)
def _substitution(offset, slope, core):
    """Nearest point t of |offset + t slope|, length eps of the substitution, limits of s for t from -1/2 to 1/2."""
    square = _dot(slope, slope)
    nearest = -_dot(offset, slope) / square
    apart = offset + nearest * slope
    eps = math.sqrt((_dot(apart, apart) + core) / square)
    return nearest, eps, math.asinh((-0.5 - nearest) / eps), math.asinh((0.5 - nearest) / eps)


@numba.njit(cache=True, nogil=True)
def _across(vector, unit):
    return vector - _dot(vector, unit) * unit


@numba.njit(cache=True, nogil=True)
def _precedes(edges, i, j, k):
    """Whether edge i comes before edge j: the longer, the steeper one where they are equal up to rounding.

    Edges that agree in all of this are images of each other, so that the order does not depend on rounding.
    """
    scale = 1e-7 * (_dot(edges[i], edges[i]) + _dot(edges[j], edges[j]))
    difference = _dot(edges[i], edges[i]) - _dot(edges[j], edges[j])
    if abs(difference) <= scale:
        difference = edges[i, 3] ** 2 - edges[j, 3] ** 2
    if abs(difference) <= scale:
        difference = abs(_dot(edges[i], edges[k])) - abs(_dot(edges[j], edges[k]))
    return difference > scale


@numba.njit(cache=True, nogil=True)
def _add_lines(gap, width, v, edges, nodes, weights, total):
    """Closed form along the longest edge, quadrature over the two others."""
    one = 0
    for other in (1, 2):
        if _precedes(edges, other, one, 3 - one - other):
            one = other
    longest = math.sqrt(_dot(edges[one], edges[one]))
    unit = edges[one] / longest
    two, three = (one + 1) % 3, (one + 2) % 3
    rest = numpy.empty_like(edges)
    for i in range(3):
        rest[i] = _across(edges[i], unit)
    rest[one] = edges[one]
    if _precedes(rest, three, two, one):
        two, three = three, two
    second, third = rest[two], rest[three]
    floor, core = (1e-9 * longest) ** 2, width * width / 16
    if _dot(second, second) < floor:  # h moves along one direction only: the others are any that are short
        second[0] += 1e-9 * longest
    beyond = _across(third, second / math.sqrt(_dot(second, second)))
    if _dot(beyond, beyond) < floor:
        beyond[1] += 1e-9 * longest
    centre = numpy.array([0.0, 0.0, 0.0, 0.5 * gap])
    offset = _across(centre, unit)
    along = numpy.array([_dot(v[0], unit), _dot(v[1], unit), _dot(v[2], unit)])
    apart = _across(offset, second / math.sqrt(_dot(second, second)))
    nearest3, eps3, low3, high3 = _substitution(apart, beyond, core)
    for k3 in range(len(nodes)):
        s3 = 0.5 * (low3 + high3 + (high3 - low3) * nodes[k3])
        t3 = nearest3 + eps3 * math.sinh(s3)
        weight3 = 0.5 * (high3 - low3) * weights[k3] * eps3 * math.cosh(s3)
        plane = offset + t3 * third
        nearest2, eps2, low2, high2 = _substitution(plane, second, core)
        for k2 in range(len(nodes)):
            s2 = 0.5 * (low2 + high2 + (high2 - low2) * nodes[k2])
            t2 = nearest2 + eps2 * math.sinh(s2)
            weight = weight3 * 0.5 * (high2 - low2) * weights[k2] * eps2 * math.cosh(s2)
            foot = plane + t2 * second
            d = math.sqrt(_dot(foot, foot))
            x = _dot(centre, unit) + t3 * _dot(edges[three], unit) + t2 * _dot(edges[two], unit)
            high = _antiderivatives(x + 0.5 * longest, d, core)
            low = _antiderivatives(x - 0.5 * longest, d, core)
            factor = weight * width / 16 / longest
            all_, foot_part, mixed = (
                factor * (high[0] - low[0]), factor * (high[1] - low[1]), factor * (high[2] - low[2])
            )  # fmt: skip
            for a in range(3):
                va = _dot(v[a], foot) / d if d > 0.0 else 0.0
                for b in range(3):
                    vb = _dot(v[b], foot) / d if d > 0.0 else 0.0
                    total[a, b] += (
                        all_ * _dot(v[a], v[b]) - foot_part * va * vb - (all_ - foot_part) * along[a] * along[b]
                        - mixed * (va * along[b] + along[a] * vb)
                    )  # fmt: skip
