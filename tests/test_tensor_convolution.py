"""Convolution of an equivariant network: the compiled sum equals the written one, its derivative is its derivative."""

import numpy
import pytest

from phonoscreen.reference.tensor_convolution import convolve, convolve_derivative, make_paths

INPUTS, HARMONICS = [(5, 0), (3, 1)], [(1, 0), (1, 1), (1, 2)]
INSTRUCTIONS = [(1, 1, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3)]
OUTPUTS = [(3, 0), (5, 0), (5, 1), (3, 1)]


def coupling(l1, l2, l3):
    """Any numbers do: the convolution is linear in them."""
    tensor = numpy.random.default_rng(100 * l1 + 10 * l2 + l3).standard_normal((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    tensor[numpy.abs(tensor) < 0.3] = 0
    return tensor


@pytest.fixture
def graph():
    rng = numpy.random.default_rng(7)
    features, harmonics = rng.standard_normal((6, 14)), rng.standard_normal((20, 9))
    arrays = [features, harmonics, rng.standard_normal((20, 16))]
    return [*(one.astype(numpy.float32) for one in arrays), rng.integers(6, size=20), rng.integers(6, size=20)]


@pytest.fixture
def paths():
    return make_paths(INPUTS, HARMONICS, OUTPUTS, INSTRUCTIONS, coupling)


def written_out(features, harmonics, weights, receivers, senders):
    result, weight = [numpy.zeros((len(features), u, 2 * degree + 1)) for u, degree in OUTPUTS], 0
    blocks = [features[:, :5].reshape(-1, 5, 1), features[:, 5:].reshape(-1, 3, 3)]
    spheres = [harmonics[:, :1], harmonics[:, 1:4], harmonics[:, 4:]]
    for one, two, three in INSTRUCTIONS:
        (channels, l1), (_, l2), (_, l3) = INPUTS[one], HARMONICS[two], OUTPUTS[three]
        chosen = weights[:, weight : weight + channels]
        edges = numpy.einsum("eui,ej,ijk,eu->euk", blocks[one][senders], spheres[two], coupling(l1, l2, l3), chosen)
        numpy.add.at(result[three], receivers, edges)
        weight += channels
    return numpy.concatenate([block.reshape(len(features), -1) for block in result], axis=1)


def test_the_sum_is_the_one_written_out(paths, graph):
    assert convolve(paths, *graph) == pytest.approx(written_out(*graph), abs=2e-5)


def test_the_derivative_is_that_of_the_sum(paths, graph):
    gradient = numpy.random.default_rng(8).standard_normal((6, paths.size_out)).astype(numpy.float32)
    found = convolve_derivative(paths, gradient, *graph)
    # The sum is linear in each of its three arguments, so a derivative is a difference of any length.
    for number, derivative in enumerate(found):
        direction = numpy.random.default_rng(number).standard_normal(derivative.shape)
        ends = []
        for sign in (1, -1):
            moved = [one.astype(float) for one in graph[:3]]
            moved[number] = moved[number] + sign * direction
            ends.append((written_out(*moved, *graph[3:]) * gradient).sum())
        assert (derivative * direction).sum() == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-4)


def test_the_order_of_the_edges_does_not_matter(paths, graph):
    order = numpy.random.default_rng(9).permutation(20)
    shuffled = [graph[0], *(numpy.ascontiguousarray(one[order]) for one in graph[1:])]
    assert convolve(paths, *shuffled) == pytest.approx(convolve(paths, *graph), abs=2e-5)
