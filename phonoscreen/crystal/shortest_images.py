"""Shortest images of every pair of atoms in a supercell.

A supercell of periodic images knows a pair of atoms only up to its translations. Each force constant is shared equally
by the shortest images of its pair (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev. Lett. 78, 4063 (1997); the convention
of phonopy, A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)).
"""

from collections.abc import Iterable
from functools import cached_property

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import reduced_lattice, supercell_cells

TIE_ANGSTROM = 1e-5
"""Images of a pair whose distances differ by less share its force constant."""


class ShortestImages:
    """Lattice vectors, shares and distances of the shortest images; one serves all force constants of a supercell.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell

    Attributes
    ----------
    repetitions : (3,) integers
    lattice_vectors : (n_vectors, 3) integers, from the first atom's cell to that of an image of the second
    mean_vectors : (n_atoms, n_supercell_atoms, 3) mean of the shortest vectors of each pair, angstrom
    mean_products : (n_atoms, n_supercell_atoms, 3, 3) mean of their outer products, angstrom^2
    """

    def __init__(self, crystal: Crystal, repetitions: Iterable[int]):
        self.repetitions = tuple(int(n) for n in repetitions)
        self._n_atoms = n_atoms = len(crystal.numbers)
        pair, images, weights, vectors = _shortest_images(crystal, self.repetitions)
        self.lattice_vectors, which = numpy.unique(images, axis=0, return_inverse=True)
        n_super = n_atoms * int(numpy.prod(self.repetitions))
        self._slots = (which.ravel(), pair // n_super, pair % n_atoms)
        self._pair, self._weights, self._images = pair, weights, images
        shared = weights[:, None] * vectors
        self.mean_vectors = _sum_by(pair, shared).reshape(n_atoms, -1, 3)
        self.mean_products = _sum_by(pair, (shared[:, :, None] * vectors[:, None, :]).reshape(-1, 9))
        self.mean_products = self.mean_products.reshape(n_atoms, -1, 3, 3)

    def of_pairs(self) -> list:
        """Shortest images of every pair.

        Returns
        -------
        list over the primitive cell's atoms of lists over supercell atoms of (lattice vector, share) pairs
        """
        n_super = self.mean_vectors.shape[1]
        found: list = [[[] for _ in range(n_super)] for _ in self.mean_vectors]
        for pair, cell, share in zip(self._pair, self._images, self._weights):
            found[pair // n_super][pair % n_super].append((tuple(int(x) for x in cell), float(share)))
        return found

    def by_lattice_vector(self, values: NDArray) -> NDArray:
        """Values of the pairs of a supercell, each shared by the shortest images of its pair.

        Parameters
        ----------
        values : (n_atoms, n_supercell_atoms, ...)

        Returns
        -------
        (n_vectors, n_atoms, n_atoms, ...)
        """
        shape = values.shape[2:]
        blocks = numpy.zeros((len(self.lattice_vectors), self._n_atoms, self._n_atoms, *shape))
        weights = self._weights.reshape(-1, *(1 for _ in shape))
        numpy.add.at(blocks, self._slots, values.reshape(-1, *shape)[self._pair] * weights)
        return blocks

    @cached_property
    def shares(self) -> NDArray:
        """(n_vectors, n_atoms, n_atoms) share of each lattice vector in what is spread evenly over the supercell."""
        n_cells = int(numpy.prod(self.repetitions))
        return self.by_lattice_vector(numpy.full((self._n_atoms, self._n_atoms * n_cells), 1.0 / n_cells))


def _shortest_images(crystal, repetitions):
    """All shortest images of every pair of a primitive-cell atom and a supercell atom.

    Returns
    -------
    pair : (n_images,) index ``i * n_supercell_atoms + a``
    cells : (n_images, 3) integer lattice vector of the image of the second atom's cell
    weights : (n_images,) one over the number of images of the pair
    vectors : (n_images, 3) from the first atom to the image, angstrom
    """
    cells, tau = supercell_cells(repetitions), crystal.scaled_positions
    n_atoms, n_cells = len(tau), len(cells)
    start = (cells[None, :, None] + tau[None, None, :] - tau[:, None, None]).reshape(-1, 3)
    reduced, change = reduced_lattice(crystal.cell * numpy.array(repetitions)[:, None])
    translations = change * numpy.array(repetitions)  # of the reduced supercell vectors, in primitive vectors
    reach = _image_reach(reduced)
    steps = numpy.array(list(numpy.ndindex(*(2 * reach + 1)))) - reach
    folds = numpy.rint(start @ numpy.linalg.inv(translations)).astype(int)
    cells_of_pair = numpy.broadcast_to(cells[None, :, None], (n_atoms, n_cells, n_atoms, 3)).reshape(-1, 3)
    offsets = (steps[None] - folds[:, None]) @ translations
    vectors = (start[:, None] + offsets) @ crystal.cell
    distances = numpy.sqrt(numpy.einsum("pix,pix->pi", vectors, vectors))
    shortest = distances <= distances.min(axis=1, keepdims=True) + TIE_ANGSTROM
    pair, image = numpy.nonzero(shortest)
    weights = (1 / shortest.sum(axis=1))[pair]
    return pair, cells_of_pair[pair] + offsets[pair, image], weights, vectors[pair, image]


def _image_reach(lattice):
    """Supercell translations along each direction among which the shortest images of a pair certainly lie."""
    signs = numpy.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    covering = 0.5 * numpy.linalg.norm(signs @ lattice, axis=1).max()
    heights = 1 / numpy.linalg.norm(numpy.linalg.inv(lattice), axis=0)
    return numpy.ceil(covering / heights + 0.5 - 1e-9).astype(int)


def _sum_by(group, values):
    """Sums of rows with the same group; groups are ascending and complete."""
    return numpy.add.reduceat(values, numpy.flatnonzero(numpy.diff(group, prepend=-1)), axis=0)
