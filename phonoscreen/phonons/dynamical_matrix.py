"""Phonons of a crystal on any set of wave vectors: frequencies, eigenvectors, velocity matrices.

The phase of the dynamical matrix counts lattice vectors, D(q) = sum_L Phi(0a, Lb) exp(2 pi i q.L) / sqrt(m_a m_b), so
that everything is periodic in q. The derivative uses the whole vector between the atoms, so velocity matrices are those
of the smooth convention that Eq. (2) of J. Rodriguez et al., Commun. Mater. 4, 61 (2023) and M. Simoncelli et al.,
Nat. Phys. 15, 809 (2019) need.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, SecondOrder
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.crystal.supercell import cell_index, supercell_cells

ZERO_THZ = 1e-4
"""A frequency below this is that of no oscillation: left out of every sum, like the acoustic modes at Gamma."""


LARGEST_ASYMMETRY = 0.1
"""Largest change of a second-order constant when its two atoms are exchanged, over the largest constant.

Above the noise of constants that nobody made symmetric (up to a few hundredths), below that of any other supercell
(0.25). The dynamical matrix takes the mean of both."""


@dataclass
class LatticeSum:
    """Second-order force constants by lattice vector: the form that every supercell and file format reduces to.

    Attributes
    ----------
    cells : (n_cells, 3) integer lattice vectors of the second atom, the first is in cell 0
    values : (n_cells, n_atoms, n_atoms, 3, 3), eV/angstrom^2; a pair with several equally short images is shared
    shares : (n_cells, n_atoms, n_atoms) share of each block in a quantity spread evenly over the supercell (for each
        pair of atoms they sum to 1)
    commensurate : (n, 3) fractional wave vectors that fit into the supercell
    """

    cells: numpy.ndarray
    values: numpy.ndarray
    shares: numpy.ndarray
    commensurate: numpy.ndarray

    @classmethod
    def from_second_order(
        cls, crystal: Crystal, second: SecondOrder, images: ShortestImages | None = None
    ) -> "LatticeSum":
        """Return the lattice sum of a diagonal supercell under the minimum-image convention.

        Parameters
        ----------
        crystal : ``Crystal``
        second : ``SecondOrder``
        images : ``ShortestImages`` of the crystal in that supercell, if they are known already

        Raises
        ------
        StudyError
            If the shape does not fit crystal and repetitions, a value is not finite, or the constants change when the
            two atoms are exchanged.
        """
        n, repetitions = len(crystal.numbers), tuple(int(k) for k in second.repetitions)
        total, values = int(numpy.prod(repetitions)), numpy.asarray(second.values, float)
        if values.shape != (n, n * total, 3, 3):
            raise StudyError(
                f"second-order force constants have shape {values.shape}, expected {(n, n * total, 3, 3)}",
                where="phonons", fix="check the atoms of the primitive cell and the repetitions of the supercell",
            )  # fmt: skip
        if not numpy.isfinite(values).all():
            raise StudyError("second-order force constants contain NaN or infinity", where="phonons",
                             fix="check the fit or the file they come from")  # fmt: skip
        cells = supercell_cells(repetitions)
        opposite = cell_index(-cells, repetitions)
        by_cell = values.reshape(n, total, n, 3, 3)
        change = numpy.abs(by_cell - by_cell[:, opposite].transpose(2, 1, 0, 4, 3)).max()
        if change > LARGEST_ASYMMETRY * numpy.abs(values).max():
            raise StudyError(
                f"second-order force constants change by {change:.2e} eV/A^2 when the two atoms are exchanged",
                where="phonons", fix="symmetrise them, or check the order of the supercell's atoms",
            )  # fmt: skip
        images = images or ShortestImages(crystal, repetitions)
        return cls(images.lattice_vectors, images.by_lattice_vector(values), images.shares, cells / repetitions)


class DynamicalMatrix:
    """Dynamical matrices and their derivatives.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    constants : ``SecondOrder`` or ``LatticeSum``
    correction : None, or an object with ``matrices(q, gradient)`` that returns what is to be added for long-range
        forces (``phonoscreen.phonons.long_range``)
    """

    def __init__(
        self, crystal: Crystal, constants: SecondOrder | LatticeSum, correction: Callable[..., Any] | None = None
    ) -> None:
        if isinstance(constants, SecondOrder):
            constants = LatticeSum.from_second_order(crystal, constants)
        self.crystal, self.constants = crystal, constants
        self.correction = correction(crystal, constants) if correction is not None else None
        masses, n = numpy.asarray(crystal.masses, float), len(crystal.masses)
        weighted = constants.values * units.SQUARED_FREQUENCY
        weighted = weighted / numpy.sqrt(numpy.outer(masses, masses))[None, :, :, None, None]
        self._table = weighted.transpose(0, 1, 3, 2, 4).reshape(len(constants.cells), 9 * n * n)
        self._vectors = constants.cells @ crystal.cell
        positions = numpy.asarray(crystal.scaled_positions) @ crystal.cell
        offsets = positions[None, :] - positions[:, None]
        self.offsets = numpy.moveaxis(numpy.repeat(numpy.repeat(offsets, 3, 0), 3, 1), 2, 0)

    def __call__(self, q: NDArray, gradient: bool = False) -> tuple[NDArray, Any]:
        """Return D and, if asked for, dD/dq.

        Parameters
        ----------
        q : (n_q, 3) fractional wave vectors

        Returns
        -------
        (n_q, 3n, 3n) in (rad/ps)^2, and (n_q, 3, 3n, 3n) in (rad/ps)^2 angstrom or None
        """
        q = numpy.asarray(q, float)
        n3 = 3 * len(self.crystal.masses)
        phases = numpy.exp(2j * numpy.pi * (q @ self.constants.cells.T))
        matrix, slope = (phases @ self._table).reshape(-1, n3, n3), None
        if gradient:
            slope = numpy.empty((len(q), 3, n3, n3), complex)
            for axis in range(3):
                slope[:, axis] = ((1j * phases * self._vectors[:, axis]) @ self._table).reshape(-1, n3, n3)
        if self.correction is not None:
            extra, extra_slope = self.correction.matrices(q, gradient)
            matrix += extra
            if gradient:
                slope += extra_slope
        if gradient:
            slope += 1j * self.offsets[None] * matrix[:, None]
            slope = 0.5 * (slope + slope.conj().swapaxes(2, 3))
        return 0.5 * (matrix + matrix.conj().swapaxes(1, 2)), slope


def solve_modes(dynamical_matrix: DynamicalMatrix, q: NDArray) -> tuple[NDArray, NDArray]:
    """Return frequencies and eigenvectors.

    Parameters
    ----------
    dynamical_matrix : DynamicalMatrix
    q : (n_q, 3) fractional wave vectors

    Returns
    -------
    omega : (n_q, 3n) rad/ps, ascending; imaginary frequencies are negative
    eigenvectors : (n_q, 3n, 3n) complex, columns
    """
    squares, eigenvectors = numpy.linalg.eigh(dynamical_matrix(q)[0])
    return numpy.sign(squares) * numpy.sqrt(numpy.abs(squares)), eigenvectors


def frequencies(dynamical_matrix: DynamicalMatrix, q: NDArray) -> NDArray:
    """Return frequencies without eigenvectors: (n_q, 3n), rad/ps, ascending; imaginary ones are negative.

    Parameters
    ----------
    dynamical_matrix : DynamicalMatrix
    q : (n_q, 3) fractional wave vectors
    """
    squares = numpy.linalg.eigvalsh(dynamical_matrix(q)[0])
    return numpy.sign(squares) * numpy.sqrt(numpy.abs(squares))


def frequencies_thz(dynamical_matrix: DynamicalMatrix, q: NDArray) -> NDArray:
    """Return what ``frequencies`` does in THz, not angular."""
    return units.to_thz(frequencies(dynamical_matrix, q))


def acoustic_at_gamma(frequencies: NDArray, q: NDArray) -> NDArray:
    """Which modes are the three translations: those at Gamma whose frequencies, real or imaginary, are the smallest.

    One definition for the verdict on stability and for transport.

    Parameters
    ----------
    frequencies : (n_q, n_band), imaginary ones negative
    q : (n_q, 3) fractional wave vectors

    Returns
    -------
    (n_q, n_band) booleans
    """
    chosen = numpy.zeros(numpy.shape(frequencies), bool)
    for k in numpy.flatnonzero(numpy.abs(q - numpy.rint(q)).max(axis=1) < 1e-8):
        chosen[k, numpy.argsort(numpy.abs(frequencies[k]), kind="stable")[:3]] = True
    return chosen


def velocity_matrices(omega: NDArray, eigenvectors: NDArray, slope: NDArray) -> NDArray:
    """Velocity matrices V_ss' = e_s^* dD/dq e_s' / (omega_s + omega_s'), Eq. (2) of Rodriguez et al. (2023).

    Parameters
    ----------
    omega : (n_q, 3n) rad/ps
    eigenvectors : (n_q, 3n, 3n) columns
    slope : (n_q, 3, 3n, 3n) derivative of the dynamical matrix, (rad/ps)^2 angstrom

    Returns
    -------
    (n_q, 3, 3n, 3n) complex, angstrom/ps; zero where a frequency is not positive
    """
    matrices = eigenvectors.conj().swapaxes(1, 2)[:, None] @ slope @ eigenvectors[:, None]
    positive = omega > 0
    total = omega[:, :, None] + omega[:, None, :]
    allowed = positive[:, :, None] & positive[:, None, :]
    return matrices * numpy.where(allowed, 1.0 / numpy.where(allowed, total, 1.0), 0.0)[:, None]


def degenerate_sets(omega: NDArray, tolerance_thz: float = 1e-4) -> NDArray:
    """Return the index of the degenerate set of each mode.

    Parameters
    ----------
    omega : (n_q, n_band) rad/ps, ascending
    tolerance_thz : neighbours closer than this belong together

    Returns
    -------
    (n_q, n_band) integers, 0 for the lowest set of each wave vector
    """
    gaps = numpy.diff(omega, axis=1) > 2 * numpy.pi * tolerance_thz
    return numpy.concatenate([numpy.zeros((len(omega), 1), int), numpy.cumsum(gaps, axis=1)], axis=1)


def average_over_sets(values: NDArray, sets: NDArray) -> NDArray:
    """Replace each mode's value by the mean over its degenerate set.

    Parameters
    ----------
    values : (n_q, n_band, ...)
    sets : (n_q, n_band) from ``degenerate_sets``
    """
    same = (sets[:, :, None] == sets[:, None, :]).astype(float)
    same /= same.sum(axis=2, keepdims=True)
    flat = numpy.asarray(values, float).reshape(*sets.shape, -1)
    return (same @ flat).reshape(numpy.shape(values))
