"""Three-phonon scattering rates.

For one irreducible q the third-order constants are contracted with its eigenvectors, carried over to every q1
(``phonoscreen.transport.third_order``), and contracted with the eigenvectors at q1 by batched products. Only mode
triplets that conserve energy within their broadening are finished. With q + q1 + q2 = G the matrix element does not
change when q1 and q2 are exchanged, so absorption and emission of both orders share it; the little group of q reduces
the pairs further. Irreducible wave vectors are independent of each other: threads share them out.
"""

import math
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import ArrayLike, DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, ThirdOrder
from phonoscreen.crystal.mesh import Mesh
from phonoscreen.phonons.modes import MeshModes, broadening_steps
from phonoscreen.transport import kernels
from phonoscreen.transport.third_order import ThirdOrderTransform

CACHE_MIB = 4
"""Matrix elements on their way between two steps stay in a processor's cache."""


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

    def leave_out(self, modes: NDArray) -> None:
        """Take away the processes of some modes (ShengBTE's omega_max).

        The modes remain partners in the processes of others.

        Parameters
        ----------
        modes : (n_irr, n_band) booleans
        """
        for rates in (self.absorption, self.emission, self.weighted_phase_space):
            rates[:, modes] = 0.0
        self.phase_space[modes] = 0.0
        if self.transfer is not None:
            fed = self.transfer.reshape(len(self.transfer), len(modes), modes.shape[1], -1)
            fed[:, modes] = 0.0


def pairs_of(mesh: Mesh, point: int, reduce: bool = True) -> tuple[NDArray, NDArray, NDArray]:
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


@threadpool_limits.wrap(limits=1, user_api="blas")
def three_phonon_rates(
    crystal: Crystal,
    third: ThirdOrder,
    modes: MeshModes,
    temperatures_k: ArrayLike,
    *,
    scalebroad: float = 1.0,
    transfer: bool = True,
    reduce: bool = True,
    dtype: DTypeLike = numpy.complex128,
    memory_mib: float = 64,
    memory_gib: float = 16.0,
    threads: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> ThreePhononRates:
    """Return the three-phonon scattering rates of every irreducible mode.

    Fermi's golden rule with W. Li et al., Comput. Phys. Commun. 185, 1747 (2014), Eqs. (5)-(8) and (15): adaptive
    Gaussian broadening, processes up to two widths from energy conservation.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    third : ``phonoscreen.crystal.constants.ThirdOrder``
    modes : ``phonoscreen.phonons.modes.MeshModes``
    temperatures_k : (n_t,) kelvin
    scalebroad : factor on the broadening
    transfer : also return the matrix the iterative solution needs
    reduce : use the little group of each q (False where the modes do not follow it)
    dtype : complex type of the matrix elements; the rates are summed in double precision
    memory_mib : largest block of matrix elements of each thread
    memory_gib : largest matrix of the iterative solution kept in memory; a larger one is a file in the folder for
        temporary files
    threads : threads that share the irreducible wave vectors
    progress : function of (done, total) irreducible points, or None

    Returns
    -------
    ThreePhononRates

    Raises
    ------
    StudyError
        If the matrix of the iterative solution fits neither in ``memory_gib`` nor on the disk.
    """
    processes = _Processes(crystal, third, modes, temperatures_k, scalebroad, reduce, dtype)
    processes.choose_blocks(memory_mib)
    if transfer:
        processes.keep_transfer(memory_gib)
    local = threading.local()

    def work(i):
        if not hasattr(local, "buffers"):
            local.buffers = processes.buffers()
        processes.add(i, local.buffers)

    n_irr = len(modes.omega)
    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(work, range(n_irr)), start=1):
            if progress is not None:
                progress(done, n_irr)
    return processes.rates()


@dataclass
class _Buffers:
    """Working memory of one thread, and the transfer of one wave vector to every point of the mesh."""

    scratch: object
    carried: numpy.ndarray
    half: numpy.ndarray
    moved: numpy.ndarray


class _Processes:
    """Sums over the processes of every irreducible wave vector; threads add to different wave vectors."""

    def __init__(self, crystal, third, modes, temperatures_k, scalebroad, reduce, dtype):
        self.modes, self.mesh, self.reduce, self.dtype = modes, modes.mesh, reduce, dtype
        temperatures_k = numpy.atleast_1d(numpy.asarray(temperatures_k, float))
        self.n_t, (self.n_irr, self.n_bands), self.n_q = len(temperatures_k), modes.omega.shape, len(modes.mesh.points)
        self.transform = ThirdOrderTransform(crystal, third, modes.mesh, dtype)
        self.omega = numpy.ascontiguousarray(modes.mesh_omega)
        self.broadening = broadening_steps(modes, scalebroad)
        self.occupation = units.bose(self.omega[None], temperatures_k[:, None, None])
        self.rows = modes.eigenvectors.astype(dtype, copy=False)
        self.scale = numpy.pi / 4 / self.n_q * units.THREE_PHONON_RATE
        self.by_kind = numpy.zeros((self.n_t, self.n_irr, self.n_bands, 2))
        self.phase_space = numpy.zeros((self.n_irr, self.n_bands, 2 + 2 * self.n_t))
        self.matrix: Any = None

    def choose_blocks(self, memory_mib):
        """Choose how many bands and pairs of wave vectors are worked on together."""
        n_pairs = self.n_q // 2 + 4  # at most: a point in eight may be its own partner
        item = self.n_bands**2 * numpy.dtype(self.dtype).itemsize
        self.small = int(min(n_pairs, max(8, CACHE_MIB * 2**20 / (self.n_bands * item))))
        self.bands, self.block = self.n_bands, self.small
        if self.transform.by_axis(n_pairs // 2):  # it gives all wave vectors at once: as many as the memory holds
            self.bands = int(min(self.n_bands, max(1, memory_mib * 2**20 / (n_pairs * item))))
            self.block = int(min(n_pairs, max(8, memory_mib * 2**20 / (self.bands * item))))

    def keep_transfer(self, memory_gib):
        """Also sum the matrix that the iterative solution needs."""
        self.matrix = _make_matrix((self.n_t, self.n_irr, self.n_bands, 3, self.n_irr, self.n_bands, 3), memory_gib)

    def buffers(self):
        """Return the working memory of a thread."""
        n_bands, n_t = self.n_bands, self.n_t if self.matrix is not None else 0
        return _Buffers(
            self.transform.scratch(self.bands),
            numpy.empty(self.block * n_bands * n_bands * self.bands, self.dtype),
            numpy.empty(self.small * n_bands * n_bands * self.bands, self.dtype),
            numpy.zeros((n_t, self.n_q, n_bands, n_bands)),
        )

    def add(self, i, buffers):
        """Add the processes of one irreducible wave vector, a few of its bands at a time."""
        point = self.mesh.irreducible[i]
        pairs = pairs_of(self.mesh, point, self.reduce)
        self.transform.load(point, buffers.scratch)
        for low in range(0, self.n_bands, self.bands):
            some = slice(low, min(low + self.bands, self.n_bands))
            table = self.transform.table(self.modes.eigenvectors[point, some], buffers.scratch)
            self._add_bands(i, some, pairs, table, buffers)
        if self.matrix is not None:
            self._fold_transfer(i, numpy.union1d(*pairs[:2]), buffers.moved)

    def _add_bands(self, i, some, pairs, table, buffers):
        """Contract a block of pairs with the eigenvectors of q1, then small blocks of it with those of q2."""
        (first, second, counts), n_bands, k = pairs, self.n_bands, some.stop - some.start
        for start in range(0, len(first), self.block):
            q1 = first[start : start + self.block]
            carried = _shaped(buffers.carried, (len(q1), n_bands, n_bands * k))
            self.transform.carry(table, q1, carried, buffers.scratch)
            for begin in range(start, start + len(q1), self.small):
                now = slice(begin, min(begin + self.small, start + len(q1)))
                half = _shaped(buffers.half, (now.stop - begin, n_bands, n_bands * k))
                numpy.matmul(self.rows[first[now]], carried[begin - start : now.stop - start], out=half)
                kernels.three_phonon(
                    half.reshape(len(half), n_bands, k, n_bands), self.rows, self.omega, self.broadening,
                    self.occupation, self.mesh.irreducible[i], some.start, first[now], second[now], counts[now],
                    self.scale, self.by_kind[:, i], self.phase_space[i], buffers.moved,
                )  # fmt: skip

    def _fold_transfer(self, i, touched, moved):
        """Fold what one wave vector hands to every point of the mesh onto the irreducible points."""
        mesh = self.mesh
        projector = mesh.rotations[mesh.little_group(mesh.irreducible[i])].mean(axis=0)
        for t in range(self.n_t):
            mine = numpy.zeros(self.matrix.shape[2:])
            kernels.fold_on_wedge(moved[t], touched, mesh.star, mesh.rotations, mesh.operation, mine)
            self.matrix[t, i] = numpy.einsum("xy,syjvz->sxjvz", projector, mine) if self.reduce else mine

    def rates(self):
        """Return the sums as ``ThreePhononRates``."""
        n_irr, n_bands, n_t, size = self.n_irr, self.n_bands, self.n_t, 3 * self.n_irr * self.n_bands
        weighted = self.phase_space[:, :, 2:].reshape(n_irr, n_bands, n_t, 2).transpose(2, 0, 1, 3) / self.n_q
        return ThreePhononRates(
            self.by_kind[..., 0], self.by_kind[..., 1], self.phase_space[:, :, :2], weighted,
            None if self.matrix is None else self.matrix.reshape(n_t, size, size),
        )  # fmt: skip


def _shaped(buffer, shape):
    return buffer[: math.prod(shape)].reshape(shape)


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
