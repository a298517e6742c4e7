"""Forces of displaced supercells as linear functions of the free force constants.

F_{i a} = - sum_n 1/(n-1)! sum Phi_{i a, j b, ...} u_{j b} ...  The lattice translations of the supercell carry the
atoms of one primitive cell over the whole supercell, so only one cell's operator is kept, sparse, and applied to all
translations of all supercells at once.
"""

import math

import numpy
from scipy import sparse

from phonoscreen.lattice.supercell import cell_index, translation_table

BLOCK_BYTES = 64e6
"""Intermediate arrays of one block of supercells stay below about this size."""


class FitMatrix:
    """Builds the matrix of the linear problem from displacements.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    """

    def __init__(self, basis):
        self.basis = basis
        self._translations = translation_table(basis.n_atoms, basis.repetitions)
        self._operators = [_operator(basis, order) for order in basis.orders]

    def blocks(self, displacements, members=slice(None), known=None):
        """Transposed fit matrix, some supercells at a time.

        Parameters
        ----------
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom
        members : slice of the supercells wanted
        known : dict of matrices built before, by the first supercell of their block, or None

        Yields
        ------
        chosen : slice of supercells
        matrix : (n_free, n_rows); rows as in ``arrange``
        """
        n_rows = 3 * self.basis.n_supercell_atoms
        size = max(1, int(BLOCK_BYTES / (8 * self.basis.n_free * n_rows)))
        first, end, _ = members.indices(len(displacements))
        for start in range(first, end, size):
            chosen = slice(start, min(start + size, end))
            matrix = known.get(start) if known else None
            yield chosen, self._matrix(numpy.asarray(displacements[chosen], float)) if matrix is None else matrix

    def matrix(self, displacements):
        """Whole fit matrix; for few supercells.

        Parameters
        ----------
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom

        Returns
        -------
        (n_rows, n_free) with ``arrange(forces) = matrix @ parameters``
        """
        return self._matrix(numpy.asarray(displacements, float)).T

    def arrange(self, forces):
        """Forces in the order of the matrix's rows.

        Parameters
        ----------
        forces : (..., n_supercells, n_supercell_atoms, 3)

        Returns
        -------
        (..., n_rows) with rows (atom of the primitive cell, component, supercell, translation)
        """
        *lead, n_supercells, _, _ = forces.shape
        n_atoms, n_cells = self.basis.n_atoms, len(self._translations)
        cells = forces.reshape(*lead, n_supercells, n_cells, n_atoms, 3)
        cells = numpy.moveaxis(cells, (-2, -1), (-4, -3))
        return cells.reshape(*lead, -1)

    def supercells(self, rows):
        """Undo ``arrange``: (n_rows,) to (n_supercells, n_supercell_atoms, 3)."""
        cells = rows.reshape(self.basis.n_atoms, 3, -1, len(self._translations))
        return cells.transpose(2, 3, 0, 1).reshape(-1, self.basis.n_supercell_atoms, 3)

    def _matrix(self, displacements):
        n_supercells = len(displacements)
        seen = displacements[:, self._translations]  # supercell, translation, atom, component
        seen = numpy.ascontiguousarray(seen.reshape(n_supercells * len(self._translations), -1).T)
        rows = []
        for operator, factors in self._operators:
            product = seen[factors[0]]
            for factor in factors[1:]:
                product *= seen[factor]
            rows.append((operator @ product).reshape(-1, 3 * self.basis.n_atoms * seen.shape[1]))
        return numpy.concatenate(rows)


def _operator(basis, order):
    """Sparse map, for each free force constant, from products of displacement components to forces on cell 0.

    Returns
    -------
    operator : sparse (n_free * 3 n_atoms, n_products)
    factors : (order - 1, n_products) displacement components that are multiplied
    """
    clusters, n = order.clusters, order.clusters.order
    tensors = order.tensors.tocoo()
    cluster, component = numpy.divmod(tensors.row.astype(numpy.int64), 3**n)
    components = numpy.stack(numpy.unravel_index(component, (3,) * n))
    site = cell_index(clusters.cells, basis.repetitions) * basis.n_atoms + clusters.atoms
    factors = numpy.sort(3 * site[cluster, 1:].T + components[1:], axis=0)
    size = 3 * basis.n_supercell_atoms
    code = factors[0].astype(numpy.int64)
    for factor in factors[1:]:
        code = code * size + factor
    _, first, column = numpy.unique(code, return_index=True, return_inverse=True)
    row = tensors.col.astype(numpy.int64) * 3 * basis.n_atoms + 3 * clusters.atoms[cluster, 0] + components[0]
    shape = (order.tensors.shape[1] * 3 * basis.n_atoms, len(first))
    values = -tensors.data / math.factorial(n - 1)
    operator = sparse.csr_array((values, (row, column.ravel())), shape=shape)
    operator.sum_duplicates()
    return operator, factors[:, first]
