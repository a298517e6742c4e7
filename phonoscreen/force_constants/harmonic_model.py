"""Harmonic forces with the symmetry of a crystal, and what one supercell adds to them.

``H``, the hat matrix of the fit, tells what the others say about one supercell, or about one pair of its atoms, without
a second fit: D. A. Belsley, E. Kuh, R. E. Welsch, Regression Diagnostics, Wiley (1980).
"""

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal.constants import Crystal, SecondOrder
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.basis import SymmetryBasis, build_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix

MOST_FREE = 500
"""Free constants up to which a harmonic model costs about a second; a crystal with more is checked without it."""


class HarmonicModel:
    """Second-order force constants and residual forces fitted to all supercells, and what each supercell adds.

    Forces on the undisplaced crystal, those that its symmetry allows, are fitted as well: many force sets hold them.

    Parameters
    ----------
    matrix : ``FitMatrix`` of ``second_order_basis``
    crystal : ``Crystal``
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom

    Attributes
    ----------
    residuals : forces that it leaves unexplained, as ``forces``
    determined : whether there are half as many equations again as free constants, and all are determined
    explained : whether it explains more than half of the squared forces
    """

    def __init__(self, matrix: FitMatrix, crystal: Crystal, displacements: NDArray, forces: NDArray) -> None:
        self.basis, self.displacements, self.forces = matrix.basis, displacements, forces
        self._matrix = matrix
        cells = self.basis.n_supercell_atoms // self.basis.n_atoms
        modes = residual_modes(crystal)
        # Scaled to the columns of the force constants, for the sake of the rank.
        scale = numpy.sqrt(numpy.square(displacements).sum() / (3 * displacements.size))
        self._offset = scale * numpy.tile(modes.reshape(-1, 3 * self.basis.n_atoms), cells).T
        n = self.basis.n_free + len(modes)
        gram, right = numpy.zeros((n, n)), numpy.zeros(n)
        for s in range(len(forces)):
            rows = self._rows(s)
            gram += rows.T @ rows
            right += rows.T @ forces[s].ravel()
        values, vectors = numpy.linalg.eigh(gram)
        kept = values > 1e-9 * values[-1]
        self.determined = bool(forces.size >= 1.5 * n and kept.all())
        self._root = vectors[:, kept] / numpy.sqrt(values[kept])
        solution = self._root @ (self._root.T @ right)
        self.parameters, offset = solution[: self.basis.n_free], solution[self.basis.n_free :]
        self._residual_forces = (self._offset @ offset).reshape(-1, 3)
        self.residuals = forces - self.predict(displacements)
        self.explained = bool(numpy.square(self.residuals).sum() < 0.5 * numpy.square(forces).sum())

    def _rows(self, supercell):
        """Matrix of one supercell: (3 n_supercell_atoms, n_free + n_modes)."""
        n, cells = self.basis.n_atoms, self.basis.n_supercell_atoms // self.basis.n_atoms
        matrix = self._matrix.matrix(self.displacements[supercell : supercell + 1])
        matrix = matrix.reshape(n, 3, cells, -1).transpose(2, 0, 1, 3).reshape(3 * n * cells, -1)
        return numpy.hstack([matrix, self._offset])

    def hat(self, supercell: int) -> NDArray:
        """Factor ``Q`` of the hat matrix of one supercell, ``H = Q Q^T``: (3 n_supercell_atoms, n)."""
        return self._rows(supercell) @ self._root

    def predict(self, displacements: NDArray) -> NDArray:
        """Forces on supercells with other displacements, (n, n_supercell_atoms, 3)."""
        return self._matrix.forces(displacements, self.parameters) + self._residual_forces

    def second_order(self) -> SecondOrder:
        """Fitted ``SecondOrder``."""
        return self.basis.expand_second(self.parameters)


def residual_modes(crystal: Crystal) -> NDArray:
    """Patterns of forces on the undisplaced crystal that its space group allows.

    Parameters
    ----------
    crystal : ``Crystal``

    Returns
    -------
    (n_modes, n_atoms, 3), orthonormal; none where symmetry fixes every position
    """
    symmetry, n = find_symmetry(crystal), len(crystal.numbers)
    projector = numpy.zeros((n, 3, n, 3))
    for turn, images in zip(symmetry.cartesian, symmetry.atoms):
        projector[images, :, numpy.arange(n), :] += turn
    projector = projector.reshape(3 * n, 3 * n) / len(symmetry.atoms)
    values, vectors = numpy.linalg.eigh((projector + projector.T) / 2)
    return vectors[:, values > 0.5].T.reshape(-1, n, 3)


def second_order_basis(basis: SymmetryBasis, crystal: Crystal | None = None) -> SymmetryBasis:
    """Basis of the second order alone over all pairs of the supercell.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    crystal : ``Crystal`` for which it is built anew where the second order of ``basis`` is cut off
    """
    if basis.orders[0].clusters.repetitions is None:
        if crystal is None:
            raise ValueError("a second order that is cut off is built anew, for which the crystal is needed")
        return build_basis(crystal, basis.repetitions, (None,))
    return SymmetryBasis(basis.key, basis.symmetry, basis.n_atoms, basis.repetitions, basis.orders[:1])


def negative_share(second: SecondOrder) -> float:
    """Share of negative eigenvalues of the force constants at the commensurate wave vectors in the sum of magnitudes.

    Parameters
    ----------
    second : ``SecondOrder``

    Returns
    -------
    float between 0 and 1
    """
    n = second.values.shape[0]
    cells = second.values.reshape(n, *second.repetitions, n, 3, 3)
    matrices = numpy.moveaxis(numpy.fft.fftn(cells, axes=(1, 2, 3)), (1, 2, 3), (0, 1, 2))
    matrices = matrices.reshape(-1, n, n, 3, 3).transpose(0, 1, 3, 2, 4).reshape(-1, 3 * n, 3 * n)
    values = numpy.linalg.eigvalsh(matrices)
    return float(-values[values < 0].sum() / numpy.abs(values).sum())


def crude_self_constants(n_atoms: int, displacements: NDArray, forces: NDArray) -> tuple[NDArray, float]:
    """Self force constants from the work of the forces alone, where too few supercells determine a harmonic model.

    Parameters
    ----------
    n_atoms : atoms of the primitive cell
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom

    Returns
    -------
    constants : (n_atoms,) eV/angstrom^2; NaN for atoms that are not displaced
    opposed : cosine between displacements and forces, negative in a crystal that is bound
    """
    kinds = (len(forces), -1, n_atoms, 3)
    work = (displacements * forces).reshape(kinds).sum(axis=(0, 1, 3))
    squares = numpy.square(displacements).reshape(kinds).sum(axis=(0, 1, 3))
    constants = numpy.divide(-work, squares, out=numpy.full(n_atoms, numpy.nan), where=squares > 0)
    acting = forces[(displacements != 0).any(axis=2)]
    return constants, float(work.sum() / numpy.sqrt(squares.sum() * max(numpy.square(acting).sum(), 1e-300)))
