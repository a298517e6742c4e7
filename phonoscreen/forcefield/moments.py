"""Moments of the neighbour density: radial functions times real solid harmonics, and their derivatives.

``A_i(lm,k) = sum_j R_lk(r_ij; Z_i, Z_j) Y_lm(r_ij / |r_ij|)`` for l = 0 ... 3, the one-particle basis of moment tensor
potentials (Shapeev, Multiscale Model. Simul. 14, 1153 (2016)) and of the atomic cluster expansion (Drautz, Phys. Rev. B
99, 014104 (2019)). The radial functions of a pair of elements are linear in the weights of that pair,

    R_lk(r) = f(r) sum_n w_nlk cos(2 n arctan(r / s)),    f(r) = (1 + cos(pi r / R_c))^2 / 4,

Chebyshev polynomials of (s^2 - r^2) / (s^2 + r^2), where s is the sum of the radii of the two elements: bonds of all
pairs of elements look alike in this variable. Training needs the moments, the gradient with
respect to the vectors, and the derivatives of both. On the CPU each is one compiled pass over the pairs that keeps
nothing per pair in memory (``moments_compiled``); elsewhere PyTorch differentiates the same formula.
"""

from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from phonoscreen.forcefield import moments_compiled as compiled

N_MOMENTS = 16  # components of l = 0 ... 3
DEGREES = (slice(0, 1), slice(1, 4), slice(4, 9), slice(9, 16))


@dataclass
class Pairs:
    """The pairs inside the cutoff, in compressed rows (see ``phonoscreen.forcefield.neighbourhoods``).

    Parameters
    ----------
    offsets : (n_atoms + 1,) int64 tensor
    centres, neighbours : (n_pairs,) int64 tensors, indices of atoms
    types : (n_pairs,) int64 tensor, row of the weights of each pair
    scales : (n_types,) tensor, s of each kind of pair, angstrom
    cutoff_angstrom : R_c
    """

    offsets: torch.Tensor
    centres: torch.Tensor
    neighbours: torch.Tensor
    types: torch.Tensor
    scales: torch.Tensor
    cutoff_angstrom: float

    def arrays(self) -> tuple[NDArray, NDArray, NDArray, float]:
        """Return what the compiled passes need, as arrays."""
        return self.offsets.numpy(), self.types.numpy(), self.scales.numpy(), self.cutoff_angstrom


def neighbour_moments(weights: torch.Tensor, vectors: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Return the moments of every atom, (n_atoms, 16, channels); differentiable with respect to the weights.

    Parameters
    ----------
    weights : (n_types, n_radial, 4, channels) w of each kind of pair
    vectors : (n_pairs, 3) from the centre to the neighbour, angstrom
    pairs : ``Pairs``
    """
    if vectors.device.type == "cpu":
        return _Moments.apply(weights.contiguous(), vectors, pairs)
    return moments_by_torch(weights, vectors, pairs)


def pair_gradients(weights: torch.Tensor, vectors: torch.Tensor, gradient: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Return the gradient with respect to the vectors, (n_pairs, 3), from that with respect to the moments.

    Differentiable with respect to the weights and to ``gradient``.

    Parameters
    ----------
    weights, vectors, pairs : see ``neighbour_moments``
    gradient : (n_atoms, 16, channels)
    """
    if vectors.device.type == "cpu":
        return _PairGradients.apply(weights.contiguous(), vectors, gradient.contiguous(), pairs)
    return pair_gradients_by_torch(weights, vectors, gradient, pairs)


def moments_by_torch(weights: torch.Tensor, vectors: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Return what ``neighbour_moments`` returns from PyTorch operations alone."""
    distance = vectors.norm(dim=1)
    radial = radial_functions(distance, pairs.scales[pairs.types], weights.shape[1], pairs.cutoff_angstrom)
    radial = torch.einsum("pn,pnlk->plk", radial, weights[pairs.types])
    degree = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3], device=vectors.device)
    contributions = radial[:, degree] * harmonics(vectors / distance[:, None])[:, :, None]
    moments = contributions.new_zeros(len(pairs.offsets) - 1, *contributions.shape[1:])
    return moments.index_add(0, pairs.centres, contributions)


def radial_functions(
    distances: torch.Tensor, scales: torch.Tensor, n_radial: int, cutoff_angstrom: float
) -> torch.Tensor:
    """Return ``f(r) cos(2 n arctan(r / s))`` of pairs, (n_pairs, n_radial).

    Parameters
    ----------
    distances, scales : (n_pairs,) r and s, angstrom
    n_radial : how many functions
    cutoff_angstrom : R_c
    """
    order = 2 * torch.arange(n_radial, dtype=distances.dtype, device=distances.device)
    smooth = torch.where(
        distances < cutoff_angstrom,
        (0.5 + 0.5 * torch.cos(torch.pi * distances / cutoff_angstrom)) ** 2,
        torch.zeros_like(distances),
    )
    return torch.cos(order * torch.arctan(distances / scales)[:, None]) * smooth[:, None]


def pair_gradients_by_torch(
    weights: torch.Tensor, vectors: torch.Tensor, gradient: torch.Tensor, pairs: Pairs
) -> torch.Tensor:
    """Return what ``pair_gradients`` returns from PyTorch operations alone."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        vectors = vectors.detach().requires_grad_(True)
        total = (moments_by_torch(weights, vectors, pairs) * gradient).sum()
        return torch.autograd.grad(total, vectors, create_graph=differentiable)[0]


def coupling_coefficients(first: int, second: int, third: int) -> torch.Tensor:
    """Return the mean over the sphere of the product of three harmonics, (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), largest 1.

    Up to a factor the only invariant that is linear in moments of three degrees whose sum is even.
    """
    cosine, weights = numpy.polynomial.legendre.leggauss(8)
    phi = numpy.arange(16) * numpy.pi / 8
    sine = numpy.sqrt(1 - cosine**2)[:, None]
    points = numpy.stack([sine * numpy.cos(phi), sine * numpy.sin(phi), cosine[:, None] + 0 * phi], axis=-1)
    values = harmonics(torch.as_tensor(points.reshape(-1, 3)))
    factors = (values[:, DEGREES[degree]] for degree in (first, second, third))
    coefficients = torch.einsum("p,pa,pb,pc->abc", torch.as_tensor(weights.repeat(16)), *factors)
    return coefficients / coefficients.abs().max()


def harmonics(directions: torch.Tensor) -> torch.Tensor:
    """Return the real solid harmonics of unit vectors, (n, 16), of degrees 0 to 3 with ``sum_m Y_lm^2 = 1``."""
    x, y, z = directions.unbind(dim=1)
    three, fifteen, five_eighths, three_eighths = (number**0.5 for number in (3, 15, 5 / 8, 3 / 8))
    return torch.stack(
        [
            torch.ones_like(x), x, y, z,
            three * x * y, three * y * z, 0.5 * (2 * z * z - x * x - y * y), three * x * z,
            0.5 * three * (x * x - y * y),
            five_eighths * y * (3 * x * x - y * y), fifteen * x * y * z,
            three_eighths * y * (4 * z * z - x * x - y * y),
            0.5 * z * (2 * z * z - 3 * x * x - 3 * y * y), three_eighths * x * (4 * z * z - x * x - y * y),
            0.5 * fifteen * z * (x * x - y * y), five_eighths * x * (x * x - 3 * y * y),
        ],
        dim=1,
    )  # fmt: skip


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, vectors, pairs):
        ctx.save_for_backward(weights, vectors)
        ctx.pairs = pairs
        moments = weights.new_zeros(len(pairs.offsets) - 1, N_MOMENTS, weights.shape[3])
        compiled.project(*pairs.arrays(), vectors.numpy(), weights.detach().numpy(), moments.numpy())
        return moments

    @staticmethod
    def backward(ctx, gradient):
        weights, vectors = ctx.saved_tensors
        of_weights = torch.zeros_like(weights)
        compiled.pull_back_to_weights(
            *ctx.pairs.arrays(), vectors.numpy(), gradient.contiguous().detach().numpy(), of_weights.numpy()
        )
        return of_weights, None, None


class _PairGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weights, vectors, gradient, pairs):
        ctx.save_for_backward(weights, vectors, gradient)
        ctx.pairs = pairs
        of_vectors = torch.zeros_like(vectors)
        compiled.pull_back(
            *pairs.arrays(), vectors.numpy(), weights.detach().numpy(), gradient.detach().numpy(), of_vectors.numpy()
        )
        return of_vectors

    @staticmethod
    def backward(ctx, along):
        weights, vectors, gradient = ctx.saved_tensors
        of_weights, of_gradient = torch.zeros_like(weights), torch.zeros_like(gradient)
        compiled.push_along(
            *ctx.pairs.arrays(), vectors.numpy(), weights.detach().numpy(), gradient.detach().numpy(),
            along.contiguous().numpy(), of_gradient.numpy(), of_weights.numpy(),
        )  # fmt: skip
        return of_weights, None, of_gradient, None
