"""Three-phonon and isotope scattering rates.

For one irreducible q the third-order constants are contracted with its eigenvectors, carried over to every q1 by one
matrix product over lattice vectors, and contracted with the eigenvectors at q1 by batched products. Only mode triplets
that conserve energy within their broadening are finished. With q + q1 + q2 = G the matrix element does not change when
q1 and q2 are exchanged, so absorption and emission of both orders share it; the little group of q reduces the pairs
further.
"""

from dataclasses import dataclass

import numba
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.transport import kernels, units
from phonoscreen.transport.modes import broadening_steps


class ThirdOrderTransform:
    """Third-order force constants on the way to the mode basis of one mesh.

    Parameters
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``
    third : ``phonoscreen.lattice.constants.ThirdOrder``
    mesh : ``phonoscreen.transport.mesh.Mesh``

    Raises
    ------
    StudyError
        If shapes do not fit, an index lies outside the cell, or a value is not finite.
    """

    def __init__(self, crystal, third, mesh):
        atoms, cells = numpy.asarray(third.atoms, int), numpy.asarray(third.cells, int)
        values = numpy.asarray(third.values, float)
        n_triplets, n = len(atoms), len(crystal.masses)
        if n_triplets == 0 or atoms.shape != (n_triplets, 3) or cells.shape != (n_triplets, 2, 3) or (
            values.shape != (n_triplets, 3, 3, 3)
        ):  # fmt: skip
            raise StudyError(
                f"third-order force constants have shapes {atoms.shape}, {cells.shape}, {values.shape}",
                where="transport", fix="give at least one triplet: (n, 3), (n, 2, 3) and (n, 3, 3, 3)",
            )  # fmt: skip
        if not numpy.isfinite(values).all():
            raise StudyError("third-order force constants contain NaN or infinity", where="transport",
                             fix="check the fit or the file they come from")  # fmt: skip
        if atoms.min() < 0 or atoms.max() >= n:
            raise StudyError(f"third-order force constants name atom {atoms.max() + 1} of a cell of {n}",
                             where="transport", fix="use the force constants of this primitive cell")  # fmt: skip
        masses = numpy.asarray(crystal.masses, float)[atoms]
        self._values = (values / numpy.sqrt(masses.prod(axis=1))[:, None, None, None]).reshape(-1, 27)
        # on the mesh a lattice vector counts modulo the mesh
        self.cells, step = numpy.unique(numpy.mod(cells[:, 0] - cells[:, 1], mesh.shape), axis=0, return_inverse=True)
        self._far, self._far_index = numpy.unique(numpy.mod(cells[:, 1], mesh.shape), axis=0, return_inverse=True)
        self._far_index = self._far_index.ravel()
        self._slots = numpy.stack([atoms[:, 0], step.ravel(), atoms[:, 1], atoms[:, 2]], 1)
        self._shape = (n, 3, len(self.cells), n, 3, n, 3)
        self._mesh = mesh

    def at(self, q, rows, dtype):
        """Contract with the eigenvectors of one wave vector.

        Parameters
        ----------
        q : (3,) fractional
        rows : (n_band, 3n) eigenvectors
        dtype : complex type of the result

        Returns
        -------
        (n_cells, 3n, n_band * 3n) in eV/angstrom^3/u^(3/2), second axis the atom and direction at q1, last at q2
        """
        phases = numpy.exp(-2j * numpy.pi * (self._far @ q))[self._far_index]
        sums = numpy.zeros(self._shape, complex)
        kernels.sum_triplets(self._slots, phases, self._values, sums)
        n, _, n_cells = self._shape[:3]
        table = rows @ sums.reshape(3 * n, -1)
        table = table.reshape(len(rows), n_cells, 3 * n, 3 * n).transpose(1, 2, 0, 3)
        return numpy.ascontiguousarray(table, dtype=dtype).reshape(n_cells, 3 * n, -1)

    def phases(self, q1):
        """Return exp(2 pi i q1.L) for the lattice vectors of ``at``.

        Parameters
        ----------
        q1 : (n, 3) fractional
        """
        return numpy.exp(2j * numpy.pi * (q1 @ self.cells.T))


@dataclass
class ThreePhononRates:
    """Three-phonon scattering of the irreducible modes.

    Attributes
    ----------
    absorption, emission : (n_t, n_irr, n_band) rates, 1/ps
    phase_space : (n_irr, n_band, 2) sum over processes of the broadened delta function, absorption and emission, ps
    weighted_phase_space : (n_t, n_irr, n_band, 2) ShengBTE's WP3, ps^4/rad^4
    transfer : (n_t, 3 n_irr n_band, 3 n_irr n_band) or None; see ``phonoscreen.transport.boltzmann``
    """

    absorption: numpy.ndarray
    emission: numpy.ndarray
    phase_space: numpy.ndarray
    weighted_phase_space: numpy.ndarray
    transfer: numpy.ndarray | None


def pairs_of(mesh, point, reduce=True):
    """Return the pairs q1, q2 with q + q1 + q2 = G, each once under exchange and under the little group of q.

    Parameters
    ----------
    mesh : Mesh
    point : index of q
    reduce : use the little group; otherwise exchange only

    Returns
    -------
    first, second : (n_pairs,) indices
    counts : (n_pairs,) number of ordered pairs each stands for; they sum to the number of points
    """
    partner = mesh.index(-mesh.points - mesh.points[point])
    orbit = mesh.images[mesh.little_group(point)].min(axis=0) if reduce else numpy.arange(len(partner))
    first, counts = numpy.unique(numpy.minimum(orbit, orbit[partner]), return_counts=True)
    return first, partner[first], counts.astype(float)


def three_phonon_rates(
    crystal, third, modes, temperatures_k, *, scalebroad=1.0, transfer=True, reduce=True, dtype=numpy.complex128,
    memory_mib=64, progress=None,
):  # fmt: skip
    """Return the three-phonon scattering rates of every irreducible mode.

    Fermi's golden rule with W. Li et al., Comput. Phys. Commun. 185, 1747 (2014), Eqs. (5)-(8) and (15): adaptive
    Gaussian broadening, processes up to two widths from energy conservation.

    Parameters
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``
    third : ``phonoscreen.lattice.constants.ThirdOrder``
    modes : ``phonoscreen.transport.modes.MeshModes``
    temperatures_k : (n_t,) kelvin
    scalebroad : factor on the broadening
    transfer : also return the matrix the iterative solution needs
    reduce : use the little group of each q (False where the modes do not follow it)
    dtype : complex type of the matrix elements; the rates are summed in double precision
    memory_mib : size of the blocks of pairs
    progress : function of (done, total) irreducible points, or None

    Returns
    -------
    ThreePhononRates
    """
    mesh, temperatures_k = modes.mesh, numpy.atleast_1d(numpy.asarray(temperatures_k, float))
    n_t, (n_irr, n_bands), n_q = len(temperatures_k), modes.omega.shape, len(mesh.points)
    third_transform = ThirdOrderTransform(crystal, third, mesh)
    omega = numpy.ascontiguousarray(modes.mesh_omega)
    drift = broadening_steps(modes, crystal, scalebroad)
    occupation = units.bose(omega[None], temperatures_k[:, None, None])
    rows = modes.eigenvectors.astype(dtype, copy=False)
    scale = numpy.pi / 4 / n_q * units.THREE_PHONON_RATE
    rates = numpy.zeros((n_t, n_irr, n_bands, 2))
    phase_space = numpy.zeros((n_irr, n_bands, 2 + 2 * n_t))
    moved = numpy.zeros((n_t if transfer else 0, n_q, n_bands, n_bands))
    matrix = numpy.zeros((n_t, n_irr, n_bands, 3, n_irr, n_bands, 3)) if transfer else None
    block = max(16, int(memory_mib * 2**20 / (2 * n_bands**3 * numpy.dtype(dtype).itemsize)))
    block = min(block, max(64, int(2**21 / (n_bands**3 * 16))))

    for i, point in enumerate(mesh.irreducible):
        table = third_transform.at(mesh.fractional[point], modes.eigenvectors[point], dtype)
        first, second, counts = pairs_of(mesh, point, reduce)
        for start in range(0, len(first), block):
            q1, q2, some = (x[start : start + block] for x in (first, second, counts))
            phases = third_transform.phases(mesh.fractional[q1]).astype(dtype, copy=False)
            carried = (phases @ table.reshape(len(table), -1)).reshape(len(q1), n_bands, -1)
            half = (rows[q1] @ carried).reshape(len(q1), n_bands, n_bands, n_bands)
            rates_block = numpy.zeros((n_t, len(q1), n_bands, 2))
            space_block = numpy.zeros((len(q1), n_bands, 2 + 2 * n_t))
            kernels.three_phonon(
                half, rows, omega, drift, occupation, point, q1, q2, some, scale, rates_block, space_block, moved
            )
            rates[:, i] += rates_block.sum(axis=1)
            phase_space[i] += space_block.sum(axis=0)
        if transfer:
            touched = numpy.union1d(first, second)
            projector = mesh.rotations[mesh.little_group(point)].mean(axis=0)
            for t in range(n_t):
                kernels.fold_on_wedge(moved[t], touched, mesh.star, mesh.rotations, mesh.operation, matrix[t, i])
            if reduce:
                matrix[:, i] = numpy.einsum("xy,tsyjvz->tsxjvz", projector, matrix[:, i])
        if progress is not None:
            progress(i + 1, n_irr)

    size = 3 * n_irr * n_bands
    weighted = phase_space[:, :, 2:].reshape(n_irr, n_bands, n_t, 2).transpose(2, 0, 1, 3) / n_q
    return ThreePhononRates(
        rates[..., 0], rates[..., 1], phase_space[:, :, :2], weighted,
        matrix.reshape(n_t, size, size) if transfer else None,
    )  # fmt: skip


def set_threads(threads):
    """Use this many threads in the compiled loops (matrix products follow OMP_NUM_THREADS)."""
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
