"""Long-range (dipole-dipole) part of the dynamical matrix of polar crystals."""

from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal
from phonoscreen.phonons.dynamical_matrix import LatticeSum

NOTHING = 1e-18
"""Squared length of a wave vector, over that of the reciprocal lattice, below which it is zero."""


class WangCorrection:
    """Non-analytic term spread evenly over the supercell.

    Y. Wang et al., J. Phys.: Condens. Matter 22, 202201 (2010): at q != 0 every force constant of the supercell gains
    4 pi e^2 (q.Z_a)(q.Z_b) / (V q.eps.q) / N. The wave vector is the shortest of its equivalents and, where several are
    equally short, the given one or else the first of them, as in ShengBTE.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    constants : ``phonoscreen.phonons.dynamical_matrix.LatticeSum``
    born : (n_atoms, 3, 3) Born charges, first Cartesian index the field
    epsilon : (3, 3) high-frequency dielectric tensor
    """

    def __init__(self, crystal: Crystal, constants: LatticeSum, born: ArrayLike, epsilon: ArrayLike) -> None:
        self.crystal, self.constants = crystal, constants
        self.born, self.epsilon = numpy.asarray(born, float), numpy.asarray(epsilon, float)
        self._reciprocal = 2 * numpy.pi * numpy.linalg.inv(crystal.cell).T
        self._vectors = constants.cells @ crystal.cell
        masses = numpy.repeat(numpy.asarray(crystal.masses, float), 3)
        strength = 4 * numpy.pi * units.COULOMB * units.SQUARED_FREQUENCY / crystal.volume
        self._scale = strength / numpy.sqrt(numpy.outer(masses, masses))

    def matrices(self, q: NDArray, gradient: bool) -> tuple[NDArray, Any]:
        """Return what is to be added to D (n_q, 3n, 3n) and, if asked for, to dD/dq (n_q, 3, 3n, 3n) or None."""
        n = len(self.crystal.masses)
        phases = numpy.exp(2j * numpy.pi * (q @ self.constants.cells.T))
        shares = self.constants.shares.reshape(len(self.constants.cells), -1)
        spread = _to_components((phases @ shares).reshape(-1, n, n))
        matrix, slope = self._term(q)
        if not gradient:
            return matrix * spread, None
        slope = slope * spread[:, None]
        for axis in range(3):
            moment = ((1j * phases * self._vectors[:, axis]) @ shares).reshape(-1, n, n)
            slope[:, axis] += matrix * _to_components(moment)
        return matrix * spread, slope

    def _term(self, q):
        """Return the term itself (n_q, 3n, 3n) and its derivative (n_q, 3, 3n, 3n), both zero at Gamma."""
        k = shortest_wave_vectors(q, self._reciprocal)
        charge = numpy.einsum("kx,axi->kai", k, self.born).reshape(len(k), -1)
        along = self.born.transpose(1, 0, 2).reshape(3, -1)
        screened = k @ (self.epsilon + self.epsilon.T) / 2
        norm = (k * screened).sum(axis=1)
        inverse = numpy.divide(
            1.0, norm, out=numpy.zeros_like(norm), where=norm > NOTHING * (self._reciprocal**2).max()
        )
        matrix = charge[:, :, None] * charge[:, None, :] * inverse[:, None, None]
        slope = charge[:, None, :, None] * along[None, :, None, :] + along[None, :, :, None] * charge[:, None, None, :]
        slope = (slope - 2 * screened[:, :, None, None] * matrix[:, None]) * inverse[:, None, None, None]
        return matrix * self._scale, slope * self._scale


def shortest_wave_vectors(q: NDArray, reciprocal: NDArray) -> NDArray:
    """Return the shortest Cartesian equivalent of each wave vector.

    Parameters
    ----------
    q : (n_q, 3) fractional
    reciprocal : (3, 3) reciprocal vectors as rows, 1/angstrom

    Returns
    -------
    (n_q, 3) 1/angstrom
    """
    shifts = numpy.array([(0, 0, 0), *numpy.ndindex(5, 5, 5)])
    shifts[1:] -= 2
    images = (numpy.asarray(q)[:, None] + shifts) @ reciprocal
    lengths = numpy.linalg.norm(images, axis=2)
    nearest = lengths <= lengths.min(axis=1, keepdims=True) + 1e-8
    return images[numpy.arange(len(images)), nearest.argmax(axis=1)]


def _to_components(blocks):
    """Repeat (n, a, b) atom blocks over Cartesian components: (n, 3a, 3b)."""
    return numpy.repeat(numpy.repeat(blocks, 3, axis=1), 3, axis=2)


class EwaldCorrection:
    """Dipole-dipole interaction summed in reciprocal space, to be added to short-range force constants.

    X. Gonze and C. Lee, Phys. Rev. B 55, 10355 (1997), Eqs. (71)-(75). The force constants must lack the same sum, as
    those of Quantum ESPRESSO's q2r.x do with its alpha = (2 pi / alat)^2.

    Parameters
    ----------
    crystal, born, epsilon : as in ``WangCorrection``
    alpha : Ewald parameter, 1/angstrom^2; terms up to k.eps.k = 4 alpha ``cutoff`` are summed
    cutoff : exponent where the sum stops (14 in Quantum ESPRESSO)
    """

    def __init__(
        self, crystal: Crystal, born: ArrayLike, epsilon: ArrayLike, alpha: float, cutoff: float = 14.0
    ) -> None:
        self.born, self.epsilon = numpy.asarray(born, float), numpy.asarray(epsilon, float)
        self._reciprocal = 2 * numpy.pi * numpy.linalg.inv(crystal.cell).T
        self._positions = numpy.asarray(crystal.scaled_positions) @ crystal.cell
        self._alpha, self._limit = alpha, 4 * alpha * cutoff
        masses = numpy.repeat(numpy.asarray(crystal.masses, float), 3)
        strength = 4 * numpy.pi * units.COULOMB * units.SQUARED_FREQUENCY / crystal.volume
        self._scale = strength / numpy.sqrt(numpy.outer(masses, masses))
        radius = numpy.sqrt(self._limit / numpy.linalg.eigvalsh(self.epsilon).min())
        reach = numpy.ceil(radius * numpy.linalg.norm(numpy.linalg.inv(self._reciprocal), axis=0)).astype(int) + 1
        shifts = numpy.array(list(numpy.ndindex(*(2 * reach + 1)))) - reach
        self._vectors = shifts @ self._reciprocal
        n, between = len(crystal.masses), self._positions[:, None] - self._positions
        self._between = between
        waves = numpy.exp(1j * numpy.einsum("gx,abx->gab", self._vectors, between))
        powers = [
            numpy.ones((len(shifts), 1)),
            self._vectors,
            (self._vectors[:, :, None] * self._vectors[:, None]).reshape(-1, 9),
        ]
        self._table = (waves[..., None] * numpy.concatenate(powers, axis=1)[:, None, None]).reshape(len(shifts), -1)
        # the sum over all atoms at q = 0 is taken from each atom's own block: no force when the crystal moves rigidly.
        # Only its symmetric part is a force constant; on sites of low symmetry the charges leave another one (phonopy
        # drops it too)
        total = self._sum(numpy.zeros((1, 3)), False)[0].reshape(n, 3, n, 3).sum(axis=2).real
        own = numpy.zeros((n, 3, n, 3))
        own[numpy.arange(n), :, numpy.arange(n), :] = 0.5 * (total + total.transpose(0, 2, 1))
        self._own = own.reshape(3 * n, 3 * n)

    def matrices(self, q: NDArray, gradient: bool) -> tuple[NDArray, Any]:
        """Return what is to be added to D (n_q, 3n, 3n) and, if asked for, to dD/dq (n_q, 3, 3n, 3n) or None."""
        q = numpy.asarray(q, float)
        blocks = numpy.array_split(q, max(1, len(q) * len(self._vectors) // 2**18))
        sums = [self._sum(block, gradient) for block in blocks]
        matrix = (numpy.concatenate([value for value, _ in sums]) - self._own) * self._scale
        return matrix, numpy.concatenate([slope for _, slope in sums]) * self._scale if gradient else None

    def _sum(self, q, gradient):
        """Return the sum over reciprocal vectors (n_q, 3n, 3n) and its derivative (n_q, 3, 3n, 3n) or None."""
        q = (q - numpy.rint(q)) @ self._reciprocal
        k = self._vectors + q[:, None]
        screened = k @ (self.epsilon + self.epsilon.T) / 2
        norm = (k * screened).sum(axis=2)
        inverse = numpy.divide(
            1.0, norm, out=numpy.zeros_like(norm), where=(norm > NOTHING * self._limit) & (norm < self._limit)
        )  # fmt: skip
        weight = numpy.exp(-norm / (4 * self._alpha)) * inverse
        phase = numpy.exp(1j * numpy.einsum("qx,abx->qab", q, self._between))[..., None, None]
        first, second = self._moments(weight, q)
        matrix = self._between_charges(second * phase)
        if not gradient:
            return matrix, None
        slope = []
        for axis in range(3):
            decay = -2 * screened[..., axis] * (1 / (4 * self._alpha) + inverse) * weight
            change = self._moments(decay, q)[1]
            change[..., axis, :] += first
            change[..., axis] += first
            turn = 1j * self._between[:, :, axis, None, None]
            slope.append(self._between_charges((change + turn * second) * phase))
        return matrix, numpy.stack(slope, axis=1)

    def _moments(self, weight, q):
        """Return sum_G weight exp(i G.(tau_a - tau_b)) k and the same with k k: (n_q, n, n, 3), (n_q, n, n, 3, 3)."""
        n = len(self.born)
        sums = (weight @ self._table.view(float)).view(complex).reshape(len(q), n, n, 13)
        zeroth, first, second = sums[..., 0, None], sums[..., 1:4], sums[..., 4:].reshape(len(q), n, n, 3, 3)
        q = q[:, None, None]
        moved = first + q * zeroth
        return moved, second + q[..., :, None] * first[..., None, :] + moved[..., :, None] * q[..., None, :]

    def _between_charges(self, tensors):
        """Contract (n_q, n, n, 3, 3) with the charges of both atoms: (n_q, 3n, 3n)."""
        found = numpy.einsum("axi,qabxy,byj->qaibj", self.born, tensors, self.born, optimize=True)
        return found.reshape(len(tensors), 3 * len(self.born), -1)


class GonzeCorrection:
    """Dipole-dipole interaction for force constants of a supercell that already hold it at commensurate wave vectors.

    The sum of ``EwaldCorrection`` at the commensurate wave vectors is taken out of the supercell's force constants and
    added back at every wave vector, X. Gonze and C. Lee (1997); phonopy's default, with its Ewald parameter.

    Parameters
    ----------
    crystal, constants, born, epsilon : as in ``WangCorrection``
    """

    N_VECTORS = 300  # reciprocal vectors in the sum, and the Gaussian there: phonopy's choices
    SMALLEST = 1e-10

    def __init__(self, crystal: Crystal, constants: LatticeSum, born: ArrayLike, epsilon: ArrayLike) -> None:
        self._ewald = self.ewald(crystal, born, epsilon)
        n, q = len(crystal.masses), constants.commensurate
        at = self._ewald.matrices(q, False)[0].reshape(len(q), -1)
        back = numpy.exp(-2j * numpy.pi * (constants.cells @ q.T)) @ at
        shares = _to_components(constants.shares).reshape(len(constants.cells), -1)
        self._table = (back * shares).real
        self._cells, self._vectors, self._n3 = constants.cells, constants.cells @ crystal.cell, 3 * n

    @classmethod
    def ewald(cls, crystal: Crystal, born: ArrayLike, epsilon: ArrayLike) -> EwaldCorrection:
        """Return the ``EwaldCorrection`` whose sum is taken out and added back."""
        radius = 2 * numpy.pi * (3 * cls.N_VECTORS / (4 * numpy.pi * crystal.volume)) ** (1 / 3)
        cutoff = -numpy.log(cls.SMALLEST)
        alpha = radius**2 * numpy.trace(epsilon) / 3 / 4 / cutoff
        return EwaldCorrection(crystal, born, epsilon, alpha, cutoff)

    def matrices(self, q: NDArray, gradient: bool) -> tuple[NDArray, Any]:
        """Return what is to be added to D (n_q, 3n, 3n) and, if asked for, to dD/dq (n_q, 3, 3n, 3n) or None."""
        matrix, slope = self._ewald.matrices(q, gradient)
        phases = numpy.exp(2j * numpy.pi * (numpy.asarray(q) @ self._cells.T))
        matrix = matrix - (phases @ self._table).reshape(matrix.shape)
        if gradient:
            for axis in range(3):
                moment = (1j * phases * self._vectors[:, axis]) @ self._table
                slope[:, axis] -= moment.reshape(matrix.shape)
        return matrix, slope
