"""Moments of the neighbour density: the compiled passes against PyTorch's own derivatives, and their laws."""

import itertools

import numpy
import pytest
import torch
from scipy.spatial.transform import Rotation

from phonoscreen.forcefield.moments import (
    DEGREES,
    Pairs,
    coupling_coefficients,
    moments_by_torch,
    neighbour_moments,
    pair_gradients,
    pair_gradients_by_torch,
)

CUTOFF = 5.0


def random_pairs(dtype, n_atoms=12, n_types=5):
    """Pairs of random length, some beyond the cutoff; one atom has none."""
    rng = numpy.random.default_rng(2)
    counts = rng.integers(1, 30, n_atoms)
    counts[3] = 0
    total = counts.sum()
    directions = rng.normal(size=(total, 3))
    lengths = rng.uniform(1.5, CUTOFF + 0.3, total)
    vectors = directions * (lengths / numpy.linalg.norm(directions, axis=1))[:, None]
    offsets = numpy.concatenate([[0], numpy.cumsum(counts)])
    pairs = Pairs(
        torch.as_tensor(offsets), torch.repeat_interleave(torch.as_tensor(counts)),
        torch.as_tensor(rng.integers(0, n_atoms, total)), torch.as_tensor(rng.integers(0, n_types, total)),
        torch.as_tensor(rng.uniform(2.0, 3.5, n_types), dtype=dtype), CUTOFF,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(n_types, 7, 4, 6, generator=generator, dtype=dtype)
    return weights, torch.as_tensor(vectors, dtype=dtype), pairs


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_compiled_passes_are_the_derivatives_that_pytorch_finds(dtype, tolerance):
    weights, vectors, pairs = random_pairs(dtype)
    results = []
    for moments_of, gradients_of in ((neighbour_moments, pair_gradients), (moments_by_torch, pair_gradients_by_torch)):
        leaf, inner = weights.clone().requires_grad_(), torch.full((16, 6), 0.3, dtype=dtype).requires_grad_()
        moments = moments_of(leaf, vectors, pairs)
        energy = (torch.tanh(moments) * inner).pow(2).sum()
        (gradient,) = torch.autograd.grad(energy, moments, create_graph=True)
        of_vectors = gradients_of(leaf, vectors, gradient, pairs)
        (of_vectors.pow(2).sum() + moments.sum()).backward()
        results.append([moments.detach(), of_vectors.detach(), leaf.grad, inner.grad])
    for compiled, by_torch in zip(*results):
        assert (compiled - by_torch).abs().max() < tolerance * by_torch.abs().max()


def test_products_of_moments_and_their_couplings_do_not_turn():
    weights, vectors, pairs = random_pairs(torch.float64)
    turn = torch.as_tensor(Rotation.random(random_state=1).as_matrix())
    here, turned = (neighbour_moments(weights, v, pairs) for v in (vectors, vectors @ turn.T))
    assert (here - turned).abs().max() > 0.1  # the moments themselves do
    for degree in DEGREES:
        torch.testing.assert_close((here[:, degree] ** 2).sum(dim=1), (turned[:, degree] ** 2).sum(dim=1))
    for triple in itertools.combinations_with_replacement(range(4), 3):
        coefficients = coupling_coefficients(*triple) if sum(triple) % 2 == 0 else None
        if coefficients is not None and triple[0] + triple[1] >= triple[2]:
            one, two = (
                torch.einsum("abc,nak,nbk,nck->nk", coefficients, *(m[:, DEGREES[degree]] for degree in triple))
                for m in (here, turned)
            )
            torch.testing.assert_close(one, two)
            assert one.abs().max() > 1e-3


def test_pairs_beyond_the_cutoff_do_not_count_and_approach_it_smoothly():
    weights, _, pairs = random_pairs(torch.float64)
    one = Pairs(torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), pairs.scales, CUTOFF)

    def size(distance):
        vectors = torch.tensor([[0.0, 0.6, 0.8]], dtype=torch.float64) * distance
        moments = neighbour_moments(weights, vectors, one)
        slope = pair_gradients(weights, vectors, torch.ones_like(moments), one)
        return float(moments.abs().max()), float(slope.abs().max())

    assert size(CUTOFF + 1e-9) == (0.0, 0.0)
    (value, slope), (nearer_value, nearer_slope) = size(CUTOFF - 0.02), size(CUTOFF - 0.01)
    assert nearer_value < 0.08 * value and nearer_slope < 0.15 * slope  # fourth and third order in the distance
