"""Sums over bands by the linear tetrahedron method: Bloechl, Jepsen and Andersen, Phys. Rev. B 49, 16223 (1994).

Energies and weights are linear inside each tetrahedron, so that nothing is broadened: the integral of a weight over all
states below an energy is exact for the interpolated bands.
"""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal.mesh import Mesh

_CHUNK = 200_000  # pairs of tetrahedron and energy treated at once


def tetrahedra_of(mesh: Mesh) -> tuple[NDArray, NDArray]:
    """Return the tetrahedra of a mesh, those that symmetry makes equal once.

    Returns
    -------
    corners : (n, 4) positions in ``mesh.irreducible``
    weights : (n,) share of the Brillouin zone
    """
    steps = numpy.eye(3, dtype=int)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    corners = []
    for first, second, _ in orders:
        path = [numpy.zeros(3, int), steps[first], steps[first] + steps[second], numpy.ones(3, int)]
        corners.append(numpy.stack([mesh.star[mesh.index(mesh.points + step)] for step in path], axis=-1))
    every = numpy.sort(numpy.concatenate(corners), axis=1)
    distinct, counts = numpy.unique(every, axis=0, return_counts=True)
    return distinct, counts / len(every)


def states_below(energies: NDArray, values: NDArray, corners: NDArray, weights: NDArray, limits: NDArray) -> NDArray:
    """Return the integral of values over all states below each of several energies.

    Parameters
    ----------
    energies : (n_k, n_bands)
    values : (n_k, n_bands, n_values)
    corners, weights : of ``tetrahedra_of``
    limits : (n_limits,) rising energies, evenly spaced or single

    Returns
    -------
    (n_limits, n_values) integrals; for values of 1 the number of states per spin and cell
    """
    n_limits, n_values = len(limits), values.shape[-1]
    total = numpy.zeros((n_limits + 1, n_values))  # what is added to every limit from a row on
    partial = numpy.zeros((n_limits, n_values))
    for band in range(energies.shape[1]):
        at_corners = energies[corners, band]
        order = numpy.argsort(at_corners, axis=1)
        levels = numpy.take_along_axis(at_corners, order, axis=1)
        points = numpy.take_along_axis(corners, order, axis=1)
        first = numpy.searchsorted(limits, levels[:, 0], side="right")
        last = numpy.searchsorted(limits, levels[:, 3], side="left")
        mean = values[points, band].mean(axis=1) * weights[:, None]
        numpy.add.at(total, last, mean)
        inside = numpy.maximum(last - first, 0)
        for start, stop in _chunks(inside):
            rows = numpy.repeat(numpy.arange(start, stop), inside[start:stop])
            if not len(rows):
                continue
            begin = numpy.repeat(numpy.cumsum(inside[start:stop]) - inside[start:stop], inside[start:stop])
            at = first[rows] + numpy.arange(len(rows)) - begin
            shares = _corner_weights(levels[rows], limits[at]) * weights[rows, None]
            added = numpy.einsum("tc,tcv->tv", shares, values[points[rows], band])
            for value in range(n_values):
                partial[:, value] += numpy.bincount(at, weights=added[:, value], minlength=n_limits)
    return numpy.cumsum(total[:-1], axis=0) + partial


def _chunks(sizes):
    """Yield ranges of rows whose sizes sum to about ``_CHUNK``."""
    blocks = numpy.cumsum(sizes) // _CHUNK
    edges = numpy.flatnonzero(numpy.diff(blocks)) + 1
    return zip(numpy.append(0, edges), numpy.append(edges, len(sizes)), strict=True)


def _corner_weights(levels, limit):
    """Return (n, 4) integration weights of the corners, their levels (n, 4) rising and e1 < limit < e4."""
    e1, e2, e3, e4 = levels.T
    result = numpy.empty_like(levels)
    low, high = limit < e2, limit >= e3
    middle = ~low & ~high
    with numpy.errstate(divide="ignore", invalid="ignore"):
        below = numpy.stack([(limit - e1) / (edge - e1) for edge in (e2, e3, e4)], axis=-1)
        part = below.prod(axis=1) / 4
        first = numpy.column_stack([part * (4 - below.sum(axis=1)), part[:, None] * below])
        above = numpy.stack([(e4 - limit) / (e4 - edge) for edge in (e1, e2, e3)], axis=-1)
        part = above.prod(axis=1) / 4
        third = 0.25 - numpy.column_stack([part[:, None] * above, part * (4 - above.sum(axis=1))])
        d1, d2, u3, u4 = limit - e1, limit - e2, e3 - limit, e4 - limit
        c1 = d1**2 / (4 * (e4 - e1) * (e3 - e1))
        c2 = d1 * d2 * u3 / (4 * (e4 - e1) * (e3 - e2) * (e3 - e1))
        c3 = d2**2 * u4 / (4 * (e4 - e2) * (e3 - e2) * (e4 - e1))
        second = numpy.column_stack([
            c1 + (c1 + c2) * u3 / (e3 - e1) + (c1 + c2 + c3) * u4 / (e4 - e1),
            c1 + c2 + c3 + (c2 + c3) * u3 / (e3 - e2) + c3 * u4 / (e4 - e2),
            (c1 + c2) * d1 / (e3 - e1) + (c2 + c3) * d2 / (e3 - e2),
            (c1 + c2 + c3) * d1 / (e4 - e1) + c3 * d2 / (e4 - e2),
        ])  # fmt: skip
    for chosen, found in ((low, first), (middle, second), (high, third)):
        result[chosen] = found[chosen]
    return result
