"""Dynamical matrices of a crystal from the force constants of a supercell.

D_{i a, j b}(q) = (m_i m_j)^{-1/2} sum_L Phi_{i a, j b}(L) exp(i q . (L + tau_j - tau_i)), with each supercell force
constant shared equally by the shortest images of its pair (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev. Lett. 78,
4063 (1997); the convention of phonopy, A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)). The phase holds the atoms'
positions, so that eigenvectors and derivatives are those of phonopy.
"""

import numpy

from phonoscreen.crystal.supercell import reduced_lattice, supercell_cells

THZ_PER_SQRT_EV_PER_ANGSTROM2_U = 15.633302300230191
"""Frequency (not angular) of the eigenvalue 1 eV/angstrom^2/u, THz (CODATA 2018)."""

TIE_ANGSTROM = 1e-5
"""Images of a pair whose distances differ by less share its force constant."""


class HarmonicLattice:
    """Lattice vectors and weights that turn supercell force constants into dynamical matrices; reusable.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell

    Attributes
    ----------
    lattice_vectors : (n_vectors, 3) integers
    mean_vectors : (n_atoms, n_supercell_atoms, 3) mean of the shortest vectors of each pair, angstrom
    mean_products : (n_atoms, n_supercell_atoms, 3, 3) mean of their outer products, angstrom^2
    """

    def __init__(self, crystal, repetitions):
        self.crystal, self.repetitions = crystal, tuple(int(n) for n in repetitions)
        n_atoms = len(crystal.numbers)
        pair, images, weights, vectors = _shortest_images(crystal, self.repetitions)
        self.lattice_vectors, which = numpy.unique(images, axis=0, return_inverse=True)
        self._slots = (which.ravel(), pair // (n_atoms * len(self._cells)), pair % n_atoms)
        self._pair, self._weights, self._images = pair, weights, images
        shared = weights[:, None] * vectors
        self.mean_vectors = _sum_by(pair, shared).reshape(n_atoms, -1, 3)
        self.mean_products = _sum_by(pair, (shared[:, :, None] * vectors[:, None, :]).reshape(-1, 9))
        self.mean_products = self.mean_products.reshape(n_atoms, -1, 3, 3)
        tau = crystal.scaled_positions
        self._offsets = (tau[None, :] - tau[:, None]).reshape(-1, 3)
        self._inverse_masses = 1 / numpy.sqrt(numpy.outer(crystal.masses, crystal.masses))

    @property
    def _cells(self):
        return supercell_cells(self.repetitions)

    def images(self):
        """Shortest images of every pair.

        Returns
        -------
        list over the primitive cell's atoms of lists over supercell atoms of (lattice vector, share) pairs
        """
        n_super = self.mean_vectors.shape[1]
        found = [[[] for _ in range(n_super)] for _ in self.mean_vectors]
        for pair, cell, share in zip(self._pair, self._images, self._weights):
            found[pair // n_super][pair % n_super].append((tuple(int(x) for x in cell), float(share)))
        return found

    def blocks(self, second_order):
        """Mass-weighted force constants of each lattice vector.

        Returns
        -------
        (n_vectors, n_atoms, n_atoms, 3, 3), eV/angstrom^2/u
        """
        n_atoms = len(self.crystal.numbers)
        blocks = numpy.zeros((len(self.lattice_vectors), n_atoms, n_atoms, 3, 3))
        values = second_order.values.reshape(-1, 3, 3)[self._pair] * self._weights[:, None, None]
        numpy.add.at(blocks, self._slots, values)
        return blocks * self._inverse_masses[None, :, :, None, None]

    def dynamical_matrices(self, second_order, qpoints):
        """Dynamical matrices.

        Parameters
        ----------
        second_order : ``SecondOrder`` on the same repetitions
        qpoints : (n_q, 3) in units of the reciprocal primitive vectors

        Returns
        -------
        (n_q, 3 n_atoms, 3 n_atoms) complex, Hermitian, eV/angstrom^2/u
        """
        qpoints = numpy.atleast_2d(numpy.asarray(qpoints, float))
        n_q, n_atoms = len(qpoints), len(self.crystal.numbers)
        blocks = self.blocks(second_order).reshape(len(self.lattice_vectors), -1)
        waves = numpy.exp(2j * numpy.pi * (qpoints @ self.lattice_vectors.T))
        sums = (waves @ blocks).reshape(n_q, n_atoms * n_atoms, 9)
        sums *= numpy.exp(2j * numpy.pi * (qpoints @ self._offsets.T))[:, :, None]
        return _hermitian(sums, n_atoms)

    def dynamical_matrices_and_derivatives(self, second_order, qpoints):
        """Dynamical matrices and their derivatives by the Cartesian components of the wave vector.

        Parameters
        ----------
        second_order : ``SecondOrder`` on the same repetitions
        qpoints : (n_q, 3) in units of the reciprocal primitive vectors

        Returns
        -------
        matrices : (n_q, 3 n_atoms, 3 n_atoms) complex, eV/angstrom^2/u
        derivatives : (n_q, 3, 3 n_atoms, 3 n_atoms) complex, eV/angstrom/u (wave vectors with the factor 2 pi)
        """
        qpoints = numpy.atleast_2d(numpy.asarray(qpoints, float))
        n_q, n_atoms = len(qpoints), len(self.crystal.numbers)
        blocks = self.blocks(second_order).reshape(len(self.lattice_vectors), -1)
        waves = numpy.exp(2j * numpy.pi * (qpoints @ self.lattice_vectors.T))
        offset_waves = numpy.exp(2j * numpy.pi * (qpoints @ self._offsets.T))[:, :, None]
        sums = (waves @ blocks).reshape(n_q, n_atoms * n_atoms, 9)
        vectors = self.lattice_vectors @ self.crystal.cell
        offsets = self._offsets @ self.crystal.cell
        derivatives = numpy.empty((n_q, 3, 3 * n_atoms, 3 * n_atoms), complex)
        for axis in range(3):
            moment = (waves @ (vectors[:, axis, None] * blocks)).reshape(sums.shape)
            moment += offsets[:, axis, None] * sums
            derivatives[:, axis] = _hermitian(1j * moment * offset_waves, n_atoms)
        return _hermitian(sums * offset_waves, n_atoms), derivatives


def frequencies_thz(eigenvalues):
    """Frequencies of eigenvalues of the dynamical matrix; imaginary ones come out negative.

    Parameters
    ----------
    eigenvalues : (...) eV/angstrom^2/u

    Returns
    -------
    (...) THz, not angular
    """
    return numpy.sign(eigenvalues) * numpy.sqrt(numpy.abs(eigenvalues)) * THZ_PER_SQRT_EV_PER_ANGSTROM2_U


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


def _hermitian(sums, n_atoms):
    matrices = sums.reshape(-1, n_atoms, n_atoms, 3, 3).transpose(0, 1, 3, 2, 4).reshape(-1, 3 * n_atoms, 3 * n_atoms)
    return 0.5 * (matrices + matrices.conj().transpose(0, 2, 1))
