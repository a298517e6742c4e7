"""Three-phonon and isotope scattering rates.

For one irreducible q the third-order constants are contracted with its eigenvectors, carried over to every q1 by one
matrix product over lattice vectors, and contracted with the eigenvectors at q1 by batched products. Only mode triplets
that conserve energy within their broadening are finished. With q + q1 + q2 = G the matrix element does not change when
q1 and q2 are exchanged, so absorption and emission of both orders share it; the little group of q reduces the pairs
further.
"""

import math
import shutil
import tempfile
from dataclasses import dataclass

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
    dtype : complex type of the transforms

    Raises
    ------
    StudyError
        If shapes do not fit, an index lies outside the cell, a value is not finite, or the constants change when the
        second and third atom are exchanged.
    """

    def __init__(self, crystal, third, mesh, dtype=complex):
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
        _check_exchange(atoms, cells, values)
        masses = numpy.asarray(crystal.masses, float)[atoms]
        self._values = (values / numpy.sqrt(masses.prod(axis=1))[:, None, None, None]).reshape(-1, 27)
        # on the mesh a lattice vector counts modulo the mesh
        step, self._far_index = mesh.index(cells[:, 0] - cells[:, 1]), mesh.index(cells[:, 1])
        near, step = numpy.unique(step, return_inverse=True)
        self._near = mesh.points[near]
        key = (step * n + atoms[:, 1]) * n + atoms[:, 2]
        slots, slot = numpy.unique(key, return_inverse=True)
        self._slots = slots // n**2, slots // n % n, slots % n
        self._where = numpy.stack([atoms[:, 0], slot], 1)
        self._mesh, self._n_atoms = mesh, n
        # axes from the one that counts slowest on the mesh to the fastest
        sizes = mesh.shape[::-1]
        self._axes = [numpy.unique(self._near[:, x], return_inverse=True) for x in (2, 1, 0)]
        self._waves = [
            numpy.exp(2j * numpy.pi / size * numpy.outer(numpy.arange(size), values)).astype(dtype)
            for size, (values, _) in zip(sizes, self._axes, strict=True)
        ]
        # arrays are made once: fresh memory for each wave vector costs more than the arithmetic on small cells
        counts, width = [len(values) for values, _ in self._axes], max(8, 2**16 // len(mesh.points))
        self._box = numpy.zeros((*counts, width), dtype)
        self._sums = [
            numpy.empty((sizes[0], counts[1] * counts[2] * width), dtype),
            numpy.empty((sizes[0], sizes[1], counts[2] * width), dtype),
            numpy.empty((sizes[0] * sizes[1], sizes[2], width), dtype),
        ]
        self._by_axis_cost = sizes[0] * numpy.prod(counts) + sizes[0] * sizes[1] * counts[1] * counts[2] + (
            numpy.prod(sizes) * counts[2]
        )  # fmt: skip
        self._blocks = numpy.empty((n, 3, len(slots), 9), complex)
        self._table = numpy.zeros((len(near), n, 3, 3 * n, n, 3), dtype)

    def at(self, point, rows):
        """Contract with the eigenvectors of one wave vector.

        Parameters
        ----------
        point : index of q
        rows : (n_band, 3n) eigenvectors

        Returns
        -------
        (n_cells, 3n, n_band * 3n) in eV/angstrom^3/u^(3/2), second axis the atom and direction at q1, last at q2;
        overwritten by the next call
        """
        mesh, (cell, second, third), n3 = self._mesh, self._slots, len(rows)
        phases = numpy.exp(-2j * numpy.pi * (mesh.points @ mesh.fractional[point]))[self._far_index]
        self._blocks[:] = 0
        kernels.sum_triplets(self._where, phases, self._values, self._blocks)
        blocks = (rows @ self._blocks.reshape(n3, -1)).reshape(n3, len(cell), 3, 3)
        self._table[cell, second, :, :, third, :] = blocks.transpose(1, 2, 0, 3)
        return self._table.reshape(len(self._near), n3, -1)

    def carry(self, table, q1, out):
        """Sum a table over its lattice vectors with the phases exp(2 pi i q1.L).

        Few lattice vectors: one matrix product. Many: axis by axis over the whole mesh, in blocks of columns.

        Parameters
        ----------
        table : (n_cells, 3n, columns) from ``at``
        q1 : (n,) indices of wave vectors
        out : (n, 3n, columns) array for the result
        """
        points, flat, target = self._mesh.points, table.reshape(len(table), -1), out.reshape(len(q1), -1)
        if len(q1) * len(table) <= self._by_axis_cost:
            phases = 1.0
            for x in range(3):
                phases = phases * self._waves[x][points[q1, 2 - x]][:, self._axes[x][1]]
            numpy.matmul(phases, flat, out=target)
            return
        counts, width = self._box.shape[:3], self._box.shape[3]
        place = tuple(inverse for _, inverse in self._axes)
        first, second, third = self._sums
        for start in range(0, flat.shape[1], width):
            some = flat[:, start : start + width]
            self._box[(*place, slice(0, some.shape[1]))] = some
            numpy.matmul(self._waves[0], self._box.reshape(counts[0], -1), out=first)
            numpy.matmul(self._waves[1], first.reshape(len(first), counts[1], -1), out=second)
            numpy.matmul(self._waves[2], second.reshape(len(third), counts[2], -1), out=third)
            target[:, start : start + width] = third.reshape(-1, width)[q1, : some.shape[1]]


def _check_exchange(atoms, cells, values, tolerance=0.01):
    """Raise StudyError where the third derivative depends on the order of the second and third atom."""
    key = numpy.concatenate([atoms, cells.reshape(-1, 6)], axis=1)
    exchanged = key[:, [0, 2, 1, 6, 7, 8, 3, 4, 5]]
    _, place = numpy.unique(numpy.concatenate([key, exchanged]), axis=0, return_inverse=True)
    place = place.ravel()
    sums = numpy.zeros((place.max() + 1, 3, 3, 3))
    numpy.add.at(sums, place[: len(key)], values)
    numpy.add.at(sums, place[len(key) :], -values.swapaxes(2, 3))
    worst = numpy.abs(sums).max(axis=(1, 2, 3))
    change, largest = worst.max(), numpy.abs(values).max()
    if change > tolerance * largest:
        a, b, c = atoms[numpy.argmax(worst[place[: len(key)]])] + 1
        raise StudyError(
            f"third-order force constants change by {change:.3g} eV/A^3 (largest: {largest:.3g}) when the second and "
            f"third atom are exchanged, for example atoms {a} {b} {c}", where="transport",
            fix="symmetrise them, and list every permutation of each triplet",
        )  # fmt: skip


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
    memory_mib=8, memory_gib=16.0, progress=None,
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
    memory_gib : largest matrix of the iterative solution kept in memory; a larger one is a file in the folder for
        temporary files
    progress : function of (done, total) irreducible points, or None

    Returns
    -------
    ThreePhononRates

    Raises
    ------
    StudyError
        If the matrix of the iterative solution fits neither in ``memory_gib`` nor on the disk.
    """
    mesh, temperatures_k = modes.mesh, numpy.atleast_1d(numpy.asarray(temperatures_k, float))
    n_t, (n_irr, n_bands), n_q = len(temperatures_k), modes.omega.shape, len(mesh.points)
    transform = ThirdOrderTransform(crystal, third, mesh, dtype)
    omega = numpy.ascontiguousarray(modes.mesh_omega)
    drift = broadening_steps(modes, scalebroad)
    occupation = units.bose(omega[None], temperatures_k[:, None, None])
    rows = modes.eigenvectors.astype(dtype, copy=False)
    scale = numpy.pi / 4 / n_q * units.THREE_PHONON_RATE
    rates = numpy.zeros((n_t, n_irr, n_bands, 2))
    phase_space = numpy.zeros((n_irr, n_bands, 2 + 2 * n_t))
    moved = numpy.zeros((n_t if transfer else 0, n_q, n_bands, n_bands))
    matrix = _make_matrix((n_t, n_irr, n_bands, 3, n_irr, n_bands, 3), memory_gib) if transfer else None
    block = min(n_q, max(8, int(memory_mib * 2**20 / (2 * n_bands**3 * numpy.dtype(dtype).itemsize))))
    carried = numpy.empty((block, n_bands, n_bands * n_bands), dtype)
    half = numpy.empty_like(carried)
    pair_rates = numpy.empty((n_t, block, n_bands, 2))
    pair_space = numpy.empty((block, n_bands, 2 + 2 * n_t))

    for i, point in enumerate(mesh.irreducible):
        table = transform.at(point, modes.eigenvectors[point])
        first, second, counts = pairs_of(mesh, point, reduce)
        for start in range(0, len(first), block):
            q1, q2, some = (x[start : start + block] for x in (first, second, counts))
            n = len(q1)
            transform.carry(table, q1, carried[:n])
            numpy.matmul(rows[q1], carried[:n], out=half[:n])
            pair_rates[:] = 0
            pair_space[:] = 0
            kernels.three_phonon(
                half[:n].reshape(n, n_bands, n_bands, n_bands), rows, omega, drift, occupation, point, q1, q2, some,
                scale, pair_rates, pair_space, moved,
            )  # fmt: skip
            rates[:, i] += pair_rates.sum(axis=1)
            phase_space[i] += pair_space.sum(axis=0)
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


def _make_matrix(shape, memory_gib):
    """Return zeros, in memory or in a temporary file without a name that ends with the array."""
    needed = 8 * math.prod(shape)
    if needed <= memory_gib * 2**30:
        return numpy.zeros(shape)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > 0.9 * free:
        raise StudyError(
            f"the full solution needs a matrix of {needed / 2**30:.1f} GiB; {memory_gib:g} GiB of memory are allowed "
            f"and {free / 2**30:.1f} GiB are free in {tempfile.gettempdir()}", where="transport",
            fix="use a coarser mesh, fewer temperatures at a time or the relaxation-time approximation, allow more "
            "memory, or set TMPDIR to a larger disk",
        )  # fmt: skip
    return numpy.memmap(tempfile.TemporaryFile(), dtype=float, shape=shape)
