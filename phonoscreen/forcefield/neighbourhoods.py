"""Neighbourhoods: the atoms around each centre, the only thing a force model sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.pairs import periodic_pairs

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.crystal.constants import Crystal

OVERLAP_ANGSTROM = 0.5  # atoms closer than this are a mistake of the input, not chemistry


@dataclass
class Neighbourhoods:
    """The neighbours of a list of centres, in compressed rows.

    Parameters
    ----------
    numbers : (n_centres,) atomic numbers of the centres; 0 where the centre is a point without an atom
    offsets : (n_centres + 1,) pairs ``offsets[i]:offsets[i + 1]`` belong to centre i
    neighbours : (n_pairs,) index of the neighbouring atom (among the centres, where these are all atoms of a cell)
    neighbour_numbers : (n_pairs,) atomic numbers of the neighbours
    vectors : (n_pairs, 3) from the centre to the neighbour, angstrom
    positions : (n_centres, 3), angstrom
    structures : list of (number of atoms, (3, 3) cell, or None if it is not periodic), in the order of the centres
    """

    numbers: numpy.ndarray
    offsets: numpy.ndarray
    neighbours: numpy.ndarray
    neighbour_numbers: numpy.ndarray
    vectors: numpy.ndarray
    positions: numpy.ndarray
    structures: list

    def __len__(self):
        return len(self.numbers)

    @property
    def centres(self) -> NDArray:
        """Index of the centre of every pair, (n_pairs,)."""
        return numpy.repeat(numpy.arange(len(self)), numpy.diff(self.offsets))

    @classmethod
    def concatenate(cls, parts: Sequence["Neighbourhoods"]) -> "Neighbourhoods":
        """Return several cells as one list of centres; neighbour indices are shifted accordingly."""
        centres = numpy.cumsum([0] + [len(part) for part in parts])
        pairs = numpy.cumsum([0] + [len(part.vectors) for part in parts])
        return cls(
            numpy.concatenate([part.numbers for part in parts]),
            numpy.concatenate([[0]] + [part.offsets[1:] + shift for part, shift in zip(parts, pairs)]),
            numpy.concatenate([part.neighbours + shift for part, shift in zip(parts, centres)]),
            numpy.concatenate([part.neighbour_numbers for part in parts]),
            numpy.concatenate([part.vectors for part in parts]),
            numpy.concatenate([part.positions for part in parts]),
            [structure for part in parts for structure in part.structures],
        )


class SupercellNeighbours:
    """Neighbour list of an undisplaced supercell, built once and reused for every displacement of its atoms.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``, or anything with ``cell, scaled_positions, numbers``
    repetitions : (3,) integers; supercell atoms in the order of ``ase.Atoms.repeat``
    cutoff_angstrom : radius of the neighbourhoods
    displacement_max_angstrom : largest displacement that the list must stay complete for

    Raises
    ------
    StudyError
        For an empty or flat cell, positions that are not finite, or atoms closer than 0.5 angstrom.
    """

    def __init__(
        self, crystal: "Crystal", repetitions: ArrayLike, cutoff_angstrom: float, displacement_max_angstrom: float = 0.0
    ) -> None:
        cell = numpy.asarray(crystal.cell, dtype=float)
        scaled = numpy.asarray(crystal.scaled_positions, dtype=float).reshape(-1, 3)
        numbers = numpy.asarray(crystal.numbers, dtype=int)
        check_atoms(cell, scaled @ cell, numbers)
        check_volume(cell)
        first, second, vectors, shifts = periodic_pairs(cell, scaled, cutoff_angstrom + 2 * displacement_max_angstrom)
        check_distances(vectors)
        repetitions = numpy.asarray(repetitions, dtype=int)
        grid = numpy.stack(numpy.meshgrid(*map(numpy.arange, repetitions), indexing="ij"), axis=-1).reshape(-1, 3)
        cells = (grid[:, None] + shifts[None]) % repetitions  # (n_cells, n_pairs, 3)
        cells = (cells[..., 0] * repetitions[1] + cells[..., 1]) * repetitions[2] + cells[..., 2]
        n_atoms = len(numbers)
        counts = numpy.bincount(first, minlength=n_atoms)
        self.numbers = numpy.tile(numbers, len(grid))
        self.offsets = numpy.concatenate([[0], numpy.cumsum(numpy.tile(counts, len(grid)))])
        self.neighbours = (cells * n_atoms + second).ravel()
        self.vectors = numpy.tile(vectors, (len(grid), 1))
        self.positions = (scaled + grid[:, None]).reshape(-1, 3) @ cell
        self.structures = [(len(self.numbers), cell * repetitions[:, None])]
        self.displacement_max_angstrom = displacement_max_angstrom
        self._centres = numpy.repeat(numpy.arange(len(self.numbers)), numpy.diff(self.offsets))

    def displaced(self, displacements: ArrayLike) -> Neighbourhoods:
        """Return the neighbourhoods of the displaced supercell.

        Parameters
        ----------
        displacements : (n_supercell_atoms, 3), angstrom

        Raises
        ------
        StudyError
            If the shape is wrong, a value is not finite, or an atom moves further than the list allows.
        """
        displacements = numpy.asarray(displacements, dtype=float)
        if displacements.shape != (len(self.numbers), 3):
            raise StudyError(
                f"displacements have shape {displacements.shape}, the supercell has {len(self.numbers)} atoms",
                where="SupercellNeighbours.displaced",
                fix="use the repetitions the displacements were made with",
            )
        length = numpy.linalg.norm(displacements, axis=1).max(initial=0.0)
        if not length <= self.displacement_max_angstrom + 1e-9:
            raise StudyError(
                f"an atom is displaced by {length} A, the neighbour list is complete up to "
                f"{self.displacement_max_angstrom} A",
                where="SupercellNeighbours.displaced",
                fix="check the displacements for values that are not numbers, or raise displacement_max_angstrom",
            )
        vectors = self.vectors + displacements[self.neighbours] - displacements[self._centres]
        check_distances(vectors)
        return Neighbourhoods(
            self.numbers, self.offsets, self.neighbours, self.numbers[self.neighbours], vectors,
            self.positions + displacements, self.structures,
        )  # fmt: skip


def atoms_neighbourhoods(atoms: "Atoms", cutoff_angstrom: float) -> Neighbourhoods:
    """Return the neighbourhoods of every atom of an ``ase.Atoms`` object, periodic or not.

    Raises
    ------
    StudyError
        For no atoms, positions that are not finite, or atoms closer than 0.5 angstrom.
    """
    cell = numpy.array(atoms.cell)
    check_atoms(cell, atoms.positions, atoms.numbers)
    first, second, vectors = primitive_neighbor_list("ijD", atoms.pbc, cell, atoms.positions, cutoff_angstrom)
    check_distances(vectors)
    offsets = numpy.concatenate([[0], numpy.cumsum(numpy.bincount(first, minlength=len(atoms)))])
    structures = [(len(atoms), cell if atoms.pbc.all() else None)]
    return Neighbourhoods(
        atoms.numbers.copy(), offsets, second, atoms.numbers[second], vectors, atoms.positions.copy(), structures
    )


def crystal_neighbourhoods(atoms: "Atoms", cutoff_angstrom: float) -> Neighbourhoods:
    """Return what ``atoms_neighbourhoods`` returns, for a crystal of few atoms in a fraction of the time.

    Raises
    ------
    StudyError
        For no atoms, a flat cell, positions that are not finite, or atoms closer than 0.5 angstrom.
    """
    cell, numbers = atoms.cell.array, atoms.numbers
    check_atoms(cell, atoms.positions, numbers)
    check_volume(cell)
    first, second, vectors, _ = periodic_pairs(cell, atoms.positions @ numpy.linalg.inv(cell), cutoff_angstrom)
    check_distances(vectors)
    offsets = numpy.searchsorted(first, numpy.arange(len(numbers) + 1))
    return Neighbourhoods(
        numbers.copy(), offsets, second, numbers[second], vectors, atoms.positions.copy(), [(len(numbers), cell.copy())]
    )


def point_neighbourhood(crystal: "Crystal", point: ArrayLike, cutoff_angstrom: float) -> Neighbourhoods:
    """Return the neighbourhood of a point of a crystal that need not hold an atom.

    Parameters
    ----------
    point : (3,) fractional coordinates
    """
    cell = numpy.asarray(crystal.cell, dtype=float)
    numbers = numpy.asarray(crystal.numbers, dtype=int)
    positions = numpy.asarray(crystal.scaled_positions, dtype=float) @ cell
    check_atoms(cell, positions, numbers)
    check_distances(primitive_neighbor_list("D", (True,) * 3, cell, positions, OVERLAP_ANGSTROM))
    positions = numpy.concatenate([[numpy.asarray(point, dtype=float) @ cell], positions])
    first, second, vectors = primitive_neighbor_list("ijD", (True,) * 3, cell, positions, cutoff_angstrom)
    keep = (first == 0) & (second > 0)  # a point is not a neighbour of its own images
    second, vectors = second[keep] - 1, vectors[keep]
    return Neighbourhoods(
        numpy.zeros(1, int), numpy.array([0, len(second)]), second, numbers[second], vectors, positions[:1], [(1, None)]
    )


def check_atoms(cell: NDArray, positions: NDArray, numbers: NDArray) -> None:
    """Raise StudyError unless there are atoms and all coordinates are finite."""
    if len(numbers) == 0:
        raise StudyError("the structure has no atoms", where="neighbourhoods", fix="remove it from the input")
    if not (numpy.isfinite(cell).all() and numpy.isfinite(positions).all()):
        raise StudyError(
            "cell or positions hold values that are not finite", where="neighbourhoods", fix="check the input"
        )


def check_volume(cell: NDArray) -> None:
    """Raise StudyError unless three lattice vectors span a volume."""
    if cell.shape != (3, 3) or abs(numpy.linalg.det(cell)) < 1e-6:
        raise StudyError("the cell has no volume", where="neighbourhoods", fix="give three lattice vectors")


def check_distances(vectors: NDArray) -> None:
    """Raise StudyError if two atoms overlap."""
    if len(vectors):
        shortest = numpy.sqrt((vectors**2).sum(axis=1).min())
        if shortest < OVERLAP_ANGSTROM:
            raise StudyError(
                f"two atoms are {shortest:.3f} A apart",
                where="neighbourhoods",
                fix="check the structure for doubled atoms",
            )
