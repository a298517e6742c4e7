"""Rotational sum rules of the second-order force constants.

Born-Huang: sum_j Phi_{i a, j b} r_ij,c is symmetric in b and c for every atom i (no force under a rigid rotation).
Huang: sum_ij Phi_{i a, j b} r_ij,c r_ij,d is symmetric under (ab) <-> (cd) (no stress in the reference state).
M. Born, K. Huang, Dynamical Theory of Crystal Lattices (1954), sec. 23-24; G. J. Leibfried, W. Ludwig, Solid State
Phys. 12, 275 (1961). Pairs on the border of the supercell count with the mean of their shortest images.
"""

import numpy
from scipy import sparse


def rotational_constraints(basis, lattice):
    """Rows that vanish on parameters which obey the Born-Huang and Huang conditions.

    Lengths are divided by the cube root of the cell's volume, so the rows do not depend on the lattice constant.

    Parameters
    ----------
    basis : ``SymmetryBasis`` whose second order holds all pairs of the supercell
    lattice : ``HarmonicLattice`` of the crystal on the basis's repetitions

    Returns
    -------
    (n_rows, n_free) rows of independent conditions, orthonormal; no rows where symmetry alone fulfils both
    """
    second = basis.orders[0]
    length = lattice.crystal.volume ** (1 / 3)
    n_atoms = basis.n_atoms
    vectors = lattice.mean_vectors.reshape(-1, 3) / length
    products = lattice.mean_products.reshape(-1, 9) / length**2
    n_pairs = len(vectors)
    first = numpy.repeat(numpy.arange(n_atoms), n_pairs // n_atoms)
    # moments of one power: rows (atom, a b, c); of two powers: rows (a b, c d)
    pair, ab, c = (x.ravel() for x in numpy.indices((n_pairs, 9, 3)))
    one = sparse.csr_array((vectors[pair, c], ((first[pair] * 9 + ab) * 3 + c, pair * 9 + ab)))
    pair, ab, cd = (x.ravel() for x in numpy.indices((n_pairs, 9, 9)))
    two = sparse.csr_array((products[pair, cd], (ab * 9 + cd, pair * 9 + ab)))
    born = (one @ second.tensors).toarray().reshape(n_atoms, 3, 3, 3, -1)
    born = (born - born.swapaxes(2, 3)).reshape(n_atoms * 27, -1)
    huang = (two @ second.tensors).toarray().reshape(9, 9, -1)
    huang = (huang - huang.swapaxes(0, 1)).reshape(81, -1)
    rows = numpy.concatenate([born, huang])
    _, strength, independent = numpy.linalg.svd(rows, full_matrices=False)
    independent = independent[strength > 1e-8]
    constraints = numpy.zeros((len(independent), basis.n_free))
    constraints[:, : second.n_free] = independent
    return constraints


def enforce(constraints, factor, parameters):
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
