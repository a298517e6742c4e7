"""Rotational sum rules of the second-order force constants.

Born-Huang: sum_j Phi_{i a, j b} r_ij,c is symmetric in b and c for every atom i (no force under a rigid rotation).
Huang: sum_ij Phi_{i a, j b} r_ij,c r_ij,d is symmetric under (ab) <-> (cd) (no stress in the reference state).
M. Born, K. Huang, Dynamical Theory of Crystal Lattices (1954), sec. 23-24; G. J. Leibfried, W. Ludwig, Solid State
Phys. 12, 275 (1961). Pairs on the border of the supercell count with the mean of their shortest images.
"""

from functools import cached_property

import numpy
from numpy.typing import NDArray
from scipy import sparse

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.ranks import UnclearRank, clear_rank
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.force_constants.basis import SymmetryBasis
from phonoscreen.force_constants.normal_equations import Factor, Sums

COST_OVER_NOISE = 10.0
"""Growth of the squared force error, over that which noise explains, beyond which the rules are not imposed."""

FINEST = 1e-6
"""Forces are not trusted beyond this fraction of their size: files round them."""


class RotationalSumRules:
    """Born-Huang and Huang conditions of one crystal as linear conditions on its parameters.

    Lengths are divided by the cube root of the cell's volume, so the conditions do not depend on the lattice constant.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    crystal : ``Crystal``
    """

    def __init__(self, basis: SymmetryBasis, crystal: Crystal) -> None:
        second = basis.orders[0]
        vectors, products = _moments(basis, crystal)
        n_pairs, n_atoms = len(vectors), basis.n_atoms
        # moments of one power: rows (atom, a b, c); of two powers: rows (a b, c d)
        pair, ab, c = (x.ravel() for x in numpy.indices((n_pairs, 9, 3)))
        row = (second.clusters.atoms[pair, 0] * 9 + ab) * 3 + c
        one = sparse.csr_array((vectors[pair, c], (row, pair * 9 + ab)), shape=(27 * n_atoms, 9 * n_pairs))
        pair, ab, cd = (x.ravel() for x in numpy.indices((n_pairs, 9, 9)))
        two = sparse.csr_array((products[pair, cd], (ab * 9 + cd, pair * 9 + ab)), shape=(81, 9 * n_pairs))
        born = (one @ second.tensors).toarray().reshape(n_atoms, 3, 3, 3, -1)
        huang = (two @ second.tensors).toarray().reshape(9, 9, -1)
        self._born = (born - born.swapaxes(2, 3)).reshape(n_atoms * 27, -1)
        self._huang = (huang - huang.swapaxes(0, 1)).reshape(81, -1)
        self._tensors, self._reach = second.tensors, float(numpy.sqrt(numpy.trace(products.max(axis=0).reshape(3, 3))))
        self._size = max(float(numpy.linalg.norm(moments)) for moments in (born, huang))
        self._n_free = basis.n_free

    @property
    def constraints(self) -> NDArray:
        """(n_rows, n_free) independent conditions, orthonormal; no rows where symmetry alone fulfils both."""
        return self._independent[0]

    @property
    def unclear(self) -> str:
        """Why the number of independent conditions cannot be told, and none is kept; else empty."""
        return self._independent[1]

    @cached_property
    def _independent(self):
        conditions = numpy.concatenate([self._born, self._huang])
        _, strength, directions = numpy.linalg.svd(conditions, full_matrices=False)
        try:
            n_rows, unclear = clear_rank(strength, self._size, "rotational sum rules"), ""
        except UnclearRank as error:
            n_rows, unclear = 0, error.what
        constraints = numpy.zeros((n_rows, self._n_free))
        constraints[:, : conditions.shape[1]] = directions[:n_rows]
        return constraints, unclear

    def residuals(self, parameters: NDArray) -> tuple[float, float]:
        """Largest violation of both conditions, relative to the largest force constant times the longest vector.

        Parameters
        ----------
        parameters : (n_free,) of all orders

        Returns
        -------
        born_huang, huang : numbers without unit; for Huang the vector counts twice
        """
        own = parameters[: self._born.shape[1]]
        size = max(float(numpy.abs(self._tensors @ own).max()), 1e-300)
        born, huang = (float(numpy.abs(rows @ own).max()) for rows in (self._born, self._huang))
        return born / (size * self._reach), huang / (size * self._reach**2)


def enforce(constraints: NDArray, factor: Factor, parameters: NDArray) -> NDArray:
    """Parameters that obey the constraints with the smallest growth of the force error.

    Parameters
    ----------
    constraints : (n_rows, n_free)
    factor : ``Factor`` of the fit's normal matrix, the metric of the change
    parameters : (n_free, n_sets)

    Returns
    -------
    (n_free, n_sets)
    """
    if not len(constraints):
        return parameters
    response = factor.solve(constraints.T)
    return parameters - response @ numpy.linalg.solve(constraints @ response, constraints @ parameters)


def cost_over_noise(constraints: NDArray, sums: Sums, before: NDArray, after: NDArray) -> float:
    """What the constraints cost, over what they cost where only the noise of the forces breaks them.

    Least squares leave a sum of squares of sigma^2 for each equation beyond the number of parameters; conditions that
    the crystal obeys raise it by sigma^2 for each condition on average (the F ratio).

    Parameters
    ----------
    constraints : (n_rows, n_free), at least one row
    sums : ``Sums`` of all supercells
    before, after : (n_free,) parameters without and with the constraints

    Returns
    -------
    float
    """
    misfit = sums.misfit(before)
    spare = max(sums.equations - int((before != 0).sum()), 1)
    noise = max(misfit / spare, (FINEST * FINEST) * float(sums.square[0]) / max(sums.equations, 1))
    return max(sums.misfit(after) - misfit, 0.0) / (len(constraints) * noise)


def _moments(basis, crystal):
    """Vector and its outer product of every pair of the second order: (n_pairs, 3) and (n_pairs, 9), no unit."""
    clusters, length = basis.orders[0].clusters, crystal.volume ** (1 / 3)
    if clusters.repetitions is not None:
        images = ShortestImages(crystal, basis.repetitions)
        return images.mean_vectors.reshape(-1, 3) / length, images.mean_products.reshape(-1, 9) / length**2
    tau = crystal.scaled_positions
    vectors = (clusters.cells[:, 1] + tau[clusters.atoms[:, 1]] - tau[clusters.atoms[:, 0]]) @ crystal.cell / length
    return vectors, (vectors[:, :, None] * vectors[:, None, :]).reshape(-1, 9)
