"""Diagonal supercells: choice of the repetitions, order of the atoms, translations."""

from collections.abc import Iterable, Sequence

import numpy
from ase.geometry.minkowski_reduction import minkowski_reduce
from numpy.typing import ArrayLike, NDArray


def choose_repetitions(cell: ArrayLike, n_atoms: int, min_length_angstrom: float, max_atoms: int) -> tuple[int, ...]:
    """Repetitions that make every supercell vector at least ``min_length_angstrom`` long.

    Where that needs more than ``max_atoms`` atoms, the length asked for is lowered step by step until the supercell
    fits. Vectors of equal length always get equal repetitions, so no symmetry of a cubic cell is lost.

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom
    n_atoms : atoms of the primitive cell
    min_length_angstrom, max_atoms : the study's settings

    Returns
    -------
    (3,) tuple of integers
    """
    lengths = numpy.linalg.norm(cell, axis=1)
    wanted = float(min_length_angstrom)
    while True:
        repetitions = numpy.maximum(1, numpy.ceil(wanted / lengths - 1e-4).astype(int))
        if numpy.prod(repetitions) * n_atoms <= max_atoms or repetitions.max() == 1:
            return tuple(int(n) for n in repetitions)
        wanted = numpy.max((repetitions - 1) * lengths)


def supercell_cells(repetitions: Iterable[int]) -> NDArray:
    """Lattice vectors of the cells of a supercell, in the order of ``ase.Atoms.repeat``.

    Returns
    -------
    (n_cells, 3) integers
    """
    return numpy.array(list(numpy.ndindex(*(int(n) for n in repetitions))))


def cell_index(cells: ArrayLike, repetitions: Sequence[int]) -> NDArray:
    """Index of the supercell's cell that a lattice vector falls into.

    Parameters
    ----------
    cells : (..., 3) integer lattice vectors, folded back into the supercell

    Returns
    -------
    (...) integers
    """
    n0, n1, n2 = repetitions
    c = numpy.asarray(cells) % numpy.array(repetitions)
    return (c[..., 0] * n1 + c[..., 1]) * n2 + c[..., 2]


def translation_table(n_atoms: int, repetitions: Sequence[int]) -> NDArray:
    """Supercell atom that each supercell atom becomes when the whole crystal is translated by each lattice vector.

    Returns
    -------
    (n_cells, n_supercell_atoms) integers; row ``m`` holds the atoms seen from cell ``m``
    """
    cells = supercell_cells(repetitions)
    moved = cell_index(cells[:, None] + cells[None, :], repetitions)
    return (moved[:, :, None] * n_atoms + numpy.arange(n_atoms)).reshape(len(cells), -1)


def shortest_supercell_vector(cell: ArrayLike, repetitions: Sequence[int]) -> float:
    """Length of the shortest lattice vector of the supercell, angstrom."""
    reduced, _ = reduced_lattice(numpy.asarray(cell) * numpy.array(repetitions)[:, None])
    return float(numpy.linalg.norm(reduced, axis=1).min())


def reduced_lattice(vectors: ArrayLike) -> tuple[NDArray, NDArray]:
    """Shortest vectors that span a lattice (Minkowski reduction), so that searches among neighbours stay small.

    Parameters
    ----------
    vectors : (3, 3) lattice vectors as rows

    Returns
    -------
    reduced : (3, 3) lattice vectors as rows
    change : (3, 3) integers with ``reduced = change @ vectors``
    """
    _, change = minkowski_reduce(numpy.asarray(vectors, float))
    change = numpy.asarray(change, int)
    return change @ numpy.asarray(vectors, float), change
