"""The convolution of an equivariant network: tensor product with spherical harmonics, sum over neighbours.

``out_n[p, u, m3] = sum_e w_e[p, u] sum_{m1 m2} C_p[m1, m2, m3] x_{s(e)}[u, m1] Y_e[m2]`` over the edges ``e`` that end
at atom ``n`` (Batzner et al., Nat. Commun. 13, 2453 (2022)). Compiled array programs write every product of every edge
to memory (5472 numbers per edge and layer of Nequix); here they stay in the cache, and the derivative computes them
again.
Loops run over the channels ``u``, so inside a node's features the channel is the fastest index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
from numba import njit
from numpy.typing import ArrayLike, NDArray

_FAST = {"nnan", "nsz", "arcp", "contract", "reassoc"}


@dataclass(frozen=True)
class Paths:
    """All paths of a tensor product, in the order of their weights.

    Parameters
    ----------
    table : (n_paths, 8) int: first component of the input, of the harmonics and of the output, their numbers of
        components (2 l + 1), channels, first weight
    coupling : (n_entries, 4) int: path and components m1, m2, m3 of each Clebsch-Gordan coefficient that is not zero
    values : (n_entries,) float32 coefficients
    starts : (n_paths + 1,) int: where the entries of each path begin
    size_in, size_out : components of a node before and after
    """

    table: numpy.ndarray
    coupling: numpy.ndarray
    values: numpy.ndarray
    starts: numpy.ndarray
    size_in: int
    size_out: int


def make_paths(
    inputs: Sequence[tuple[int, int]],
    harmonics: Sequence[tuple[int, int]],
    outputs: Sequence[tuple[int, int]],
    instructions: Sequence[tuple[int, int, int]],
    coefficients: Callable[[int, int, int], ArrayLike],
) -> Paths:
    """Lay out the paths of a tensor product.

    Parameters
    ----------
    inputs, harmonics, outputs : lists of (channels, degree l); of the harmonics each with one channel
    instructions : list of (input, harmonic, output) positions in these lists, in the order of the weights
    coefficients : function of (l1, l2, l3) that returns the coupling (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) with its factor

    Returns
    -------
    Paths
    """

    def first(irreps):
        return numpy.cumsum([0] + [channels * (2 * degree + 1) for channels, degree in irreps])

    at_in, at_harmonic, at_out = first(inputs), first(harmonics), first(outputs)
    table, coupling, values, starts, weight = [], [], [], [0], 0
    for number, (one, two, three) in enumerate(instructions):
        (channels, l1), (_, l2), (_, l3) = inputs[one], harmonics[two], outputs[three]
        table.append(
            (at_in[one], at_harmonic[two], at_out[three], 2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, channels, weight)
        )
        tensor = numpy.asarray(coefficients(l1, l2, l3))
        entries = numpy.argwhere(numpy.abs(tensor) > 1e-7)
        coupling += [(number, *entry) for entry in entries]
        values += [tensor[tuple(entry)] for entry in entries]
        starts.append(len(values))
        weight += channels
    return Paths(
        numpy.array(table), numpy.array(coupling), numpy.array(values, dtype=numpy.float32), numpy.array(starts),
        int(at_in[-1]), int(at_out[-1]),
    )  # fmt: skip


def convolve(
    paths: Paths, features: NDArray, harmonics: NDArray, weights: NDArray, receivers: NDArray, senders: NDArray
) -> NDArray:
    """Sum the weighted tensor products over the edges.

    Parameters
    ----------
    paths : Paths
    features : (n_nodes, size_in) float32, of each irrep channel by channel (its 2 l + 1 components together)
    harmonics : (n_edges, n_harmonics) float32
    weights : (n_edges, n_weights) float32
    receivers, senders : (n_edges,) int

    Returns
    -------
    (n_nodes, size_out) float32
    """
    return _forward(paths.table, paths.coupling, paths.values, paths.starts, paths.size_out,
                    features, harmonics, weights, receivers, senders)  # fmt: skip


def convolve_derivative(
    paths: Paths,
    gradient: NDArray,
    features: NDArray,
    harmonics: NDArray,
    weights: NDArray,
    receivers: NDArray,
    senders: NDArray,
) -> tuple[NDArray, NDArray, NDArray]:
    """Derivatives of a scalar with respect to features, harmonics and weights, from its derivative to the output.

    Parameters
    ----------
    gradient : (n_nodes, size_out) float32; all others as in ``convolve``

    Returns
    -------
    arrays of the shapes of ``features``, ``harmonics`` and ``weights``
    """
    return _backward(paths.table, paths.coupling, paths.values, paths.starts,
                     gradient, features, harmonics, weights, receivers, senders)  # fmt: skip


@njit(cache=True)
def _channels_moved(values, table, side, last):
    """Move the channels of every irrep behind its components (``last``) or before them.

    ``side`` says whose irreps these are, 0: of the input, 2: of the output.
    """
    result = values.copy()
    for path in range(len(table)):
        begin, width, channels = table[path, side], table[path, 3 + side], table[path, 6]
        if width > 1:
            for node in range(len(values)):
                for m in range(width):
                    for u in range(channels):
                        behind, before = begin + m * channels + u, begin + u * width + m
                        if last:
                            result[node, behind] = values[node, before]
                        else:
                            result[node, before] = values[node, behind]
    return result


@njit(cache=True, fastmath=_FAST)
def _forward(table, coupling, values, starts, size_out, features, harmonics, weights, receivers, senders):
    x = _channels_moved(features, table, 0, True)
    out = numpy.zeros((len(features), size_out), dtype=numpy.float32)
    matrix = numpy.zeros((7, 7), dtype=numpy.float32)
    product = numpy.zeros(256, dtype=numpy.float32)
    for edge in range(len(receivers)):
        source, target = x[senders[edge]], out[receivers[edge]]
        for path in range(len(table)):
            begin, y, end, n1, _, n3, channels, first = table[path]
            matrix[:n1, :n3] = 0
            for entry in range(starts[path], starts[path + 1]):
                matrix[coupling[entry, 1], coupling[entry, 3]] += (
                    values[entry] * harmonics[edge, y + coupling[entry, 2]]
                )
            weight = weights[edge, first : first + channels]
            tmp = product[:channels]
            for m3 in range(n3):
                factor, row = matrix[0, m3], source[begin : begin + channels]
                for u in range(channels):
                    tmp[u] = factor * row[u]
                for m1 in range(1, n1):
                    factor, row = matrix[m1, m3], source[begin + m1 * channels : begin + (m1 + 1) * channels]
                    for u in range(channels):
                        tmp[u] += factor * row[u]
                goal = target[end + m3 * channels : end + (m3 + 1) * channels]
                for u in range(channels):
                    goal[u] += weight[u] * tmp[u]
    return _channels_moved(out, table, 2, False)


@njit(cache=True, fastmath=_FAST)
def _backward(table, coupling, values, starts, gradient, features, harmonics, weights, receivers, senders):
    x, g = _channels_moved(features, table, 0, True), _channels_moved(gradient, table, 2, True)
    to_x = numpy.zeros_like(x)
    to_harmonics, to_weights = numpy.zeros_like(harmonics), numpy.zeros_like(weights)
    matrix = numpy.zeros((7, 7), dtype=numpy.float32)
    to_matrix = numpy.zeros((7, 7), dtype=numpy.float32)
    product, weighted = numpy.zeros(256, dtype=numpy.float32), numpy.zeros(256, dtype=numpy.float32)
    for edge in range(len(receivers)):
        source, back, target = x[senders[edge]], to_x[senders[edge]], g[receivers[edge]]
        for path in range(len(table)):
            begin, y, end, n1, _, n3, channels, first = table[path]
            matrix[:n1, :n3] = 0
            for entry in range(starts[path], starts[path + 1]):
                matrix[coupling[entry, 1], coupling[entry, 3]] += (
                    values[entry] * harmonics[edge, y + coupling[entry, 2]]
                )
            weight, to_weight = weights[edge, first : first + channels], to_weights[edge, first : first + channels]
            tmp, wg = product[:channels], weighted[:channels]
            for m3 in range(n3):
                goal = target[end + m3 * channels : end + (m3 + 1) * channels]
                for u in range(channels):
                    wg[u] = weight[u] * goal[u]
                    tmp[u] = numpy.float32(0)
                for m1 in range(n1):
                    factor, row = matrix[m1, m3], source[begin + m1 * channels : begin + (m1 + 1) * channels]
                    back_row = back[begin + m1 * channels : begin + (m1 + 1) * channels]
                    total = numpy.float32(0)
                    for u in range(channels):
                        total += row[u] * wg[u]
                        tmp[u] += factor * row[u]
                        back_row[u] += factor * wg[u]
                    to_matrix[m1, m3] = total
                for u in range(channels):
                    to_weight[u] += goal[u] * tmp[u]
            for entry in range(starts[path], starts[path + 1]):
                to_harmonics[edge, y + coupling[entry, 2]] += (
                    values[entry] * to_matrix[coupling[entry, 1], coupling[entry, 3]]
                )
    return _channels_moved(to_x, table, 0, False), to_harmonics, to_weights
