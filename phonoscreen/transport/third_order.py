"""Third-order force constants on their way to the mode basis of a mesh."""

from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import DTypeLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, ThirdOrder
from phonoscreen.crystal.mesh import Mesh
from phonoscreen.transport import kernels


class ThirdOrderTransform:
    """What all wave vectors of one mesh share; safe to use from several threads, each with its own ``Scratch``.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    third : ``phonoscreen.crystal.constants.ThirdOrder``
    mesh : ``phonoscreen.crystal.mesh.Mesh``
    dtype : complex type of the transforms

    Raises
    ------
    StudyError
        If shapes do not fit, an index lies outside the cell, a value is not finite, or the constants change when the
        second and third atom are exchanged.
    """

    def __init__(self, crystal: Crystal, third: ThirdOrder, mesh: Mesh, dtype: DTypeLike = complex) -> None:
        n = len(crystal.masses)
        atoms, cells, values = check_third_order(third, n)
        masses = numpy.asarray(crystal.masses, float)[atoms]
        self._values = (values / numpy.sqrt(masses.prod(axis=1))[:, None, None, None]).reshape(-1, 27)
        # on the mesh a lattice vector counts modulo the mesh
        step, self._far_index = mesh.index(cells[:, 0] - cells[:, 1]), mesh.index(cells[:, 1])
        near, step = numpy.unique(step, return_inverse=True)
        self._near = mesh.points[near]
        slots, slot = numpy.unique((step * n + atoms[:, 1]) * n + atoms[:, 2], return_inverse=True)
        self._slots = slots // n**2, slots // n % n, slots % n
        self._where = numpy.stack([atoms[:, 0], slot], 1)
        self._mesh, self._n_atoms, self._dtype = mesh, n, numpy.dtype(dtype)
        # axes from the one that counts slowest on the mesh to the fastest
        sizes = mesh.shape[::-1]
        self._axes = [numpy.unique(self._near[:, x], return_inverse=True) for x in (2, 1, 0)]
        self._waves = [
            numpy.exp(2j * numpy.pi / size * numpy.outer(numpy.arange(size), values)).astype(dtype)
            for size, (values, _) in zip(sizes, self._axes, strict=True)
        ]
        counts = [len(values) for values, _ in self._axes]
        self._by_axis_cost = sizes[0] * numpy.prod(counts) + sizes[0] * sizes[1] * counts[1] * counts[2] + (
            numpy.prod(sizes) * counts[2]
        )  # fmt: skip

    def by_axis(self, n_pairs: int) -> bool:
        """Whether so many wave vectors are cheaper axis by axis (small matrix products run at half the speed)."""
        return n_pairs * len(self._near) > 2 * self._by_axis_cost

    def products(self, n_pairs: int) -> int:
        """Number of complex products that ``carry`` takes for each column, at most."""
        return self._by_axis_cost if self.by_axis(n_pairs) else n_pairs * len(self._near)

    def scratch(self, n_bands: int) -> "Scratch":
        """Return the arrays that one thread works in, for ``n_bands`` bands of q at a time."""
        sizes, counts = self._mesh.shape[::-1], [len(values) for values, _ in self._axes]
        n, width = self._n_atoms, max(8, 2**16 // len(self._mesh.points))
        return Scratch(
            blocks=numpy.empty((n, 3, len(self._slots[0]), 9), complex),
            table=numpy.zeros(len(self._near) * 9 * n * n * n_bands, self._dtype),
            box=numpy.zeros((*counts, width), self._dtype),
            sums=[
                numpy.empty((sizes[0], counts[1] * counts[2] * width), self._dtype),
                numpy.empty((sizes[0], sizes[1], counts[2] * width), self._dtype),
                numpy.empty((sizes[0] * sizes[1], sizes[2], width), self._dtype),
                numpy.empty((sizes[0] * sizes[1], counts[2], width), self._dtype),
            ],
        )

    def load(self, point: int, scratch: "Scratch") -> None:
        """Sum the constants over the cells of the third atom with the phases of one wave vector (index ``point``)."""
        mesh = self._mesh
        phases = numpy.exp(-2j * numpy.pi * (mesh.points @ mesh.fractional[point]))[self._far_index]
        scratch.blocks[:] = 0
        kernels.sum_triplets(self._where, phases, self._values, scratch.blocks)

    def table(self, rows: NDArray, scratch: "Scratch") -> NDArray:
        """Contract with eigenvectors of the wave vector that was loaded.

        Parameters
        ----------
        rows : (n_bands, 3n) eigenvectors of some bands
        scratch : Scratch

        Returns
        -------
        (n_cells, 3n, n_bands * 3n) in eV/angstrom^3/u^(3/2), second axis the atom and direction at q1, last at q2;
        overwritten by the next call
        """
        (cell, second, third), n, k = self._slots, self._n_atoms, len(rows)
        blocks = (rows @ scratch.blocks.reshape(3 * n, -1)).reshape(k, len(cell), 3, 3)
        table = scratch.table[: len(self._near) * 9 * n * n * k].reshape(len(self._near), n, 3, k, n, 3)
        if k != scratch.n_bands:  # slots of other shapes are not where this one's are
            table[:], scratch.n_bands = 0, k
        table[cell, second, :, :, third, :] = blocks.transpose(1, 2, 0, 3)
        return table.reshape(len(self._near), 3 * n, k * 3 * n)

    def carry(self, table: NDArray, q1: NDArray, out: NDArray, scratch: "Scratch") -> None:
        """Sum a table over its lattice vectors with the phases exp(2 pi i q1.L).

        Few lattice vectors: one matrix product. Many: axis by axis over the planes and rows of the mesh that hold a
        wanted wave vector, in blocks of columns.

        Parameters
        ----------
        table : (n_cells, 3n, columns) from ``table``
        q1 : (n,) indices of wave vectors
        out : (n, 3n, columns) array for the result
        scratch : Scratch
        """
        points, flat, target = self._mesh.points[q1], table.reshape(len(table), -1), out.reshape(len(q1), -1)
        if not self.by_axis(len(q1)):
            phases = 1.0
            for x in range(3):
                phases = phases * self._waves[x][points[:, 2 - x]][:, self._axes[x][1]]
            numpy.matmul(phases, flat, out=target)
            return
        box, (first, second, third, rows) = scratch.box, scratch.sums
        counts, width, (n_fast, n_middle, _) = box.shape[:3], box.shape[3], self._mesh.shape
        place: tuple[Any, ...] = tuple(inverse for _, inverse in self._axes)
        planes, plane = numpy.unique(points[:, 2], return_inverse=True)
        lines, line = numpy.unique(plane * n_middle + points[:, 1], return_inverse=True)
        where, waves = line * n_fast + points[:, 0], self._waves[0][planes]
        first, second = first[: len(planes)], second[: len(planes)]
        third, rows = third[: len(lines)], rows[: len(lines)]
        for start in range(0, flat.shape[1], width):
            some = flat[:, start : start + width]
            box[(*place, slice(0, some.shape[1]))] = some
            numpy.matmul(waves, box.reshape(counts[0], -1), out=first)
            numpy.matmul(self._waves[1], first.reshape(len(first), counts[1], -1), out=second)
            numpy.take(second.reshape(-1, counts[2], width), lines, axis=0, out=rows)
            numpy.matmul(self._waves[2], rows, out=third)
            target[:, start : start + width] = third.reshape(-1, width)[where, : some.shape[1]]


@dataclass
class Scratch:
    """Arrays made once for each thread: fresh memory for each wave vector costs more than arithmetic on small cells."""

    blocks: numpy.ndarray
    table: numpy.ndarray
    box: numpy.ndarray
    sums: list
    n_bands: int = 0


def check_third_order(third: ThirdOrder, n_atoms: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return atoms, cells and values of third-order constants as arrays.

    Raises
    ------
    StudyError
        If they do not fit together or to a cell of ``n_atoms``.
    """
    atoms, cells = numpy.asarray(third.atoms, int), numpy.asarray(third.cells, int)
    values, n = numpy.asarray(third.values, float), len(third.atoms)
    if n == 0 or (atoms.shape, cells.shape, values.shape) != ((n, 3), (n, 2, 3), (n, 3, 3, 3)):
        raise StudyError(
            f"third-order force constants have shapes {atoms.shape}, {cells.shape}, {values.shape}",
            where="transport", fix="give at least one triplet: (n, 3), (n, 2, 3) and (n, 3, 3, 3)",
        )  # fmt: skip
    if not numpy.isfinite(values).all():
        raise StudyError("third-order force constants contain NaN or infinity", where="transport",
                         fix="check the fit or the file they come from")  # fmt: skip
    if atoms.min() < 0 or atoms.max() >= n_atoms:
        raise StudyError(f"third-order force constants name atom {atoms.max() + 1} of a cell of {n_atoms}",
                         where="transport", fix="use the force constants of this primitive cell")  # fmt: skip
    _check_exchange(atoms, cells, values)
    _check_complete(atoms, values, n_atoms)
    return atoms, cells, values


def _check_exchange(atoms, cells, values, tolerance=0.01):
    """Raise StudyError where the third derivative depends on the order of the second and third atom."""
    key = numpy.concatenate([atoms, cells.reshape(-1, 6)], axis=1)
    exchanged = key[:, [0, 2, 1, 6, 7, 8, 3, 4, 5]]
    low, high = key.min(axis=0), key.max(axis=0)
    low, high = numpy.minimum(low, exchanged.min(axis=0)), numpy.maximum(high, exchanged.max(axis=0))
    code = [numpy.ravel_multi_index(tuple((part - low).T), high - low + 1) for part in (key, exchanged)]
    _, place = numpy.unique(numpy.concatenate(code), return_inverse=True)
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


def _check_complete(atoms, values, n_atoms, tolerance=0.2):
    """Raise StudyError where atoms that are first in a triplet have not the constants that they have as second atoms.

    Norms summed over all lattice vectors are compared: they do not depend on which images of an atom are listed.
    """
    kinds, place = numpy.unique(atoms @ [n_atoms**2, n_atoms, 1], return_inverse=True)
    norms = numpy.bincount(place, weights=numpy.linalg.norm(values.reshape(-1, 27), axis=1))
    first, second, other = kinds // n_atoms**2, kinds // n_atoms % n_atoms, kinds % n_atoms
    partner = (second * n_atoms + first) * n_atoms + other
    found = numpy.minimum(numpy.searchsorted(kinds, partner), len(kinds) - 1)
    change = numpy.abs(norms - numpy.where(kinds[found] == partner, norms[found], 0.0))
    if change.max() > tolerance * norms.max():
        worst = int(numpy.argmax(change))
        a, b, c = first[worst] + 1, second[worst] + 1, other[worst] + 1
        raise StudyError(
            f"third-order force constants of atoms {a} {b} {c} and {b} {a} {c} are not those of the same triplets: "
            f"their norms sum to values {change[worst]:.3g} eV/A^3 apart, of {norms.max():.3g}", where="transport",
            fix="list the triplets of every atom of the primitive cell, and every permutation of each",
        )  # fmt: skip


SMALLEST_ANHARMONICITY, LARGEST_ANHARMONICITY = 0.1, 100.0
"""Largest third-order constant times the distance of atoms over the largest second-order one; 235 compounds of the
laptop study have 0.8 to 12. It cannot vanish: the bonds of a crystal that is turned keep their energy."""


def check_anharmonicity(crystal: Crystal, second: NDArray, third: NDArray) -> None:
    """Raise StudyError if third-order constants are too small or too large to be those of a crystal.

    Without them isotopes alone scatter, and the conductivity looks like a result.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second, third : arrays of force constants of any shape, eV/angstrom^2 and eV/angstrom^3
    """
    distance = (crystal.volume / len(crystal.numbers)) ** (1 / 3)
    largest = [float(numpy.abs(values).max(initial=0.0)) for values in (second, third)]
    ratio = largest[1] * distance / max(largest[0], 1e-300)
    if ratio < SMALLEST_ANHARMONICITY or ratio > LARGEST_ANHARMONICITY:  # what is not finite is refused elsewhere
        raise StudyError(
            f"the largest third-order force constant is {largest[1]:.3g} eV/A^3 beside {largest[0]:.3g} eV/A^2 of the "
            f"second order and {distance:.3g} A between atoms: too {'small' if ratio < 1 else 'large'} for any crystal",
            where="transport", fix="check the unit and the fit of the third order; for harmonic properties alone give "
            "onlyharmonic=.TRUE. in CONTROL",
        )  # fmt: skip
