"""Forces of displaced supercells as linear functions of the free force constants.

F_{i a} = - sum_n 1/(n-1)! sum Phi_{i a, j b, ...} u_{j b} ...  The lattice translations of the supercell carry the
atoms of one primitive cell over the whole supercell, so only one cell's operator is kept, sparse, and applied to all
translations of all supercells. Each atom of the cell has its own operator: it feels only some of the force constants.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy
from numpy.typing import NDArray
from scipy import sparse

from phonoscreen.crystal.supercell import cell_index, translation_table

BLOCK_BYTES = 16e6
"""The matrix of one block of supercells stays below about this size."""

PRODUCT_BYTES = 1e6
"""Products of displacements are formed for so many translations at a time that they stay in a core's cache."""


@dataclass
class AtomOperator:
    """Force on one atom of the primitive cell.

    Parameters
    ----------
    columns : (n_columns,) indices of the free force constants that act on the atom
    factors : list over orders of (order - 1, n_products) displacement components that are multiplied
    operator : sparse (n_columns * 3, n_products of all orders), rows (force constant, component of the force)
    """

    columns: numpy.ndarray
    factors: list
    operator: sparse.csr_array

    def __post_init__(self) -> None:
        self._rows = numpy.repeat(numpy.arange(self.operator.shape[0]), numpy.diff(self.operator.indptr))

    def products(self, seen: NDArray, products: NDArray) -> None:
        """Products of displacement components: (3 n_supercell_atoms, n) to (n_products, n)."""
        start = 0
        for factors in self.factors:
            _multiply(seen, factors, products[start : start + factors.shape[1]])
            start += factors.shape[1]

    def contracted(self, parameters: NDArray) -> NDArray:
        """Sum over the force constants: (n_free,) to (3, n_products)."""
        constant, component = numpy.divmod(self._rows, 3)
        values = self.operator.data * parameters[self.columns[constant]]
        n_products = self.operator.shape[1]
        place = component * n_products + self.operator.indices
        return numpy.bincount(place, values, 3 * n_products).reshape(3, n_products)


class FitMatrix:
    """Builds the matrix of the linear problem from displacements.

    Its rows are (atom of the primitive cell, component, supercell, translation).

    Parameters
    ----------
    basis : ``SymmetryBasis``
    """

    def __init__(self, basis: Any) -> None:
        self.basis = basis
        self._translations = translation_table(basis.n_atoms, basis.repetitions)
        self._atoms = _atom_operators(basis)

    def blocks(self, displacements: NDArray, members: slice = slice(None)) -> Iterator[tuple[Any, ...]]:
        """Fit matrix of some supercells at a time, transposed, one atom of the primitive cell after the other.

        Parameters
        ----------
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom
        members : slice of the supercells wanted

        Yields
        ------
        chosen : slice of supercells
        atom : index into the primitive cell
        columns : (n_columns,) indices of the force constants that act on it
        matrix : (n_columns, n_rows) with the rows of this atom; overwritten by the next one
        """
        largest = max(len(atom.columns) for atom in self._atoms)
        size = max(1, int(BLOCK_BYTES / (24 * largest * len(self._translations))))
        first, end, _ = members.indices(len(displacements))
        memory = numpy.empty(largest * 3 * min(size, end - first) * len(self._translations))
        for start in range(first, end, size):
            chosen = slice(start, min(start + size, end))
            seen = self._seen(displacements[chosen])
            for index, atom in enumerate(self._atoms):
                n_rows, n = atom.operator.shape[0], seen.shape[1]
                matrix, operator = memory[: n_rows * n].reshape(n_rows, n), atom.operator
                for some, products in _in_cache(atom, seen):
                    _apply(operator.indptr, operator.indices, operator.data, products, matrix[:, some])
                yield chosen, index, atom.columns, matrix.reshape(n_rows // 3, -1)

    def matrix(self, displacements: NDArray) -> NDArray:
        """Whole fit matrix; for few supercells.

        Parameters
        ----------
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom

        Returns
        -------
        (n_rows, n_free) with ``arrange(forces).ravel() = matrix @ parameters``
        """
        whole = numpy.zeros((self.basis.n_atoms, 3, len(displacements), len(self._translations), self.basis.n_free))
        for chosen, atom, columns, matrix in self.blocks(displacements):
            whole[atom, :, chosen, :, columns] = matrix.reshape(len(columns), 3, -1, len(self._translations))
        return whole.reshape(-1, self.basis.n_free)

    def forces(self, displacements: NDArray, parameters: NDArray) -> NDArray:
        """Forces that parameters give on displaced supercells.

        Parameters
        ----------
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom
        parameters : (n_free,), eV/angstrom^order

        Returns
        -------
        (n_supercells, n_supercell_atoms, 3), eV/angstrom
        """
        seen = self._seen(displacements)
        forces = numpy.empty((self.basis.n_atoms, 3, seen.shape[1]))
        for own, atom in zip(forces, self._atoms):
            contracted = atom.contracted(numpy.asarray(parameters, float))
            for some, products in _in_cache(atom, seen):
                own[:, some] = contracted @ products
        cells = forces.reshape(self.basis.n_atoms, 3, len(displacements), len(self._translations))
        return cells.transpose(2, 3, 0, 1).reshape(len(displacements), self.basis.n_supercell_atoms, 3)

    def arrange(self, forces: NDArray) -> NDArray:
        """Forces in the order of the matrix's rows.

        Parameters
        ----------
        forces : (..., n_supercells, n_supercell_atoms, 3)

        Returns
        -------
        (..., n_atoms, n_rows_of_one_atom)
        """
        *lead, n_supercells, _, _ = forces.shape
        n_atoms, n_cells = self.basis.n_atoms, len(self._translations)
        cells = forces.reshape(*lead, n_supercells, n_cells, n_atoms, 3)
        return numpy.moveaxis(cells, (-2, -1), (-4, -3)).reshape(*lead, n_atoms, -1)

    def _seen(self, displacements):
        """Displacements seen from each cell: (3 n_supercell_atoms, n_supercells * n_translations)."""
        seen = numpy.asarray(displacements, float)[:, self._translations]  # supercell, translation, atom, component
        return numpy.ascontiguousarray(seen.reshape(len(displacements) * len(self._translations), -1).T)


@numba.njit(cache=True)
def _multiply(seen, factors, products):
    """Products of the rows that each column of ``factors`` names."""
    order, n = factors.shape[0], seen.shape[1]
    for p in range(factors.shape[1]):
        first, last, product = seen[factors[0, p]], seen[factors[order - 1, p]], products[p]
        for c in range(n):
            product[c] = first[c] * last[c] if order > 1 else first[c]
        for k in range(1, order - 1):
            for c in range(n):
                product[c] *= seen[factors[k, p], c]


@numba.njit(cache=True, fastmath=True)
def _apply(indptr, indices, data, products, result):
    """Product of a sparse (CSR) and a dense matrix, written where it is wanted."""
    for r in range(len(indptr) - 1):
        row = result[r]
        for c in range(len(row)):
            row[c] = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            value, product = data[k], products[indices[k]]
            for c in range(len(row)):
                row[c] += value * product[c]


def _in_cache(atom, seen):
    """Slices of translations and the products there; the array of products is used again."""
    n_products, n = atom.operator.shape[1], seen.shape[1]
    size = min(n, max(16, int(PRODUCT_BYTES / (8 * n_products))))
    products = numpy.empty((n_products, size))
    for start in range(0, n, size):
        some = slice(start, min(start + size, n))
        if some.stop - start < size:
            products = numpy.empty((n_products, some.stop - start))
        atom.products(numpy.ascontiguousarray(seen[:, some]), products)
        yield some, products


def _atom_operators(basis):
    """``AtomOperator`` of every atom of the primitive cell."""
    parts = [_entries(basis, order) for order in basis.orders]
    starts = numpy.cumsum([0, *(order.n_free for order in basis.orders)])
    operators = []
    for atom in range(basis.n_atoms):
        rows, places, values, all_factors, n_products = [], [], [], [], 0
        for start, (first, parameter, component, factors, value) in zip(starts, parts):
            own = numpy.flatnonzero(first == atom)
            code = factors[0, own].astype(numpy.int64)
            for factor in factors[1:, own]:
                code = code * 3 * basis.n_supercell_atoms + factor
            _, representative, place = numpy.unique(code, return_index=True, return_inverse=True)
            rows.append(3 * (start + parameter[own]) + component[own])
            places.append(n_products + place.ravel())
            values.append(value[own])
            all_factors.append(numpy.ascontiguousarray(factors[:, own[representative]]))
            n_products += len(representative)
        row, place, value = (numpy.concatenate(x) for x in (rows, places, values))
        columns, constant = numpy.unique(row // 3, return_inverse=True)
        shape = (3 * len(columns), n_products)
        operator = sparse.csr_array((value, (3 * constant.ravel() + row % 3, place)), shape=shape)
        operator.sum_duplicates()
        operators.append(AtomOperator(columns, all_factors, operator))
    return operators


def _entries(basis, order):
    """Every product of displacement components in every force on cell 0.

    Returns
    -------
    first : atom that feels the force; parameter; component of the force; factors (order - 1, n); value
    """
    clusters, n = order.clusters, order.clusters.order
    tensors = order.tensors.tocoo()
    cluster, component = numpy.divmod(tensors.row.astype(numpy.int64), 3**n)
    components = numpy.stack(numpy.unravel_index(component, (3,) * n))
    site = cell_index(clusters.cells, basis.repetitions) * basis.n_atoms + clusters.atoms
    factors = numpy.sort(3 * site[cluster, 1:].T + components[1:], axis=0)
    values = -tensors.data / math.factorial(n - 1)
    return clusters.atoms[cluster, 0], tensors.col.astype(numpy.int64), components[0], factors, values
