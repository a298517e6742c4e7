"""Diagonal supercells: choice of the repetitions, order of the atoms, translations."""

import numpy
from ase.geometry.minkowski_reduction import minkowski_reduce

from phonoscreen.audit.errors import StudyError


def choose_repetitions(cell, n_atoms, min_length_angstrom, max_atoms):
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


def supercell_cells(repetitions):
    """Lattice vectors of the cells of a supercell, in the order of ``ase.Atoms.repeat``.

    Returns
    -------
    (n_cells, 3) integers
    """
    return numpy.array(list(numpy.ndindex(*(int(n) for n in repetitions))))


def cell_index(cells, repetitions):
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


def translation_table(n_atoms, repetitions):
    """Supercell atom that each supercell atom becomes when the whole crystal is translated by each lattice vector.

    Returns
    -------
    (n_cells, n_supercell_atoms) integers; row ``m`` holds the atoms seen from cell ``m``
    """
    cells = supercell_cells(repetitions)
    moved = cell_index(cells[:, None] + cells[None, :], repetitions)
    return (moved[:, :, None] * n_atoms + numpy.arange(n_atoms)).reshape(len(cells), -1)


def shortest_supercell_vector(cell, repetitions):
    """Length of the shortest lattice vector of the supercell, angstrom."""
    reduced, _ = reduced_lattice(numpy.asarray(cell) * numpy.array(repetitions)[:, None])
    return float(numpy.linalg.norm(reduced, axis=1).min())


def reduced_lattice(vectors):
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
    return change @ vectors, change


def supercell_order(crystal, repetitions, cell, positions, numbers=None, tolerance_angstrom=0.3):
    """Where each atom of this project's supercell stands in someone else's list of the same supercell.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    cell : (3, 3) lattice vectors of the other supercell, angstrom; any vectors that span the same lattice
    positions : (n_supercell_atoms, 3) Cartesian positions there, angstrom
    numbers : (n_supercell_atoms,) atomic numbers there, if known

    Returns
    -------
    (n_supercell_atoms,) integers ``order`` with ``positions[order]`` in the order of ``ase.Atoms.repeat``

    Raises
    ------
    StudyError
        If the cells differ or an atom has no partner.
    """
    expected = crystal.cell * numpy.array(repetitions)[:, None]
    change = numpy.asarray(cell) @ numpy.linalg.inv(expected)
    whole = numpy.rint(change)
    if (
        numpy.abs((change - whole) @ expected).max() > 1e-3 * max(repetitions)
        or abs(round(numpy.linalg.det(whole))) != 1
    ):
        raise StudyError(
            f"the supercell's lattice vectors {numpy.round(cell, 4).tolist()} are not the crystal's repeated "
            f"{tuple(repetitions)} times {numpy.round(expected, 4).tolist()}",
            fix="give the primitive cell that was repeated, in the same orientation",
        )
    cells = supercell_cells(repetitions)
    scaled = (cells[:, None] + crystal.scaled_positions[None]).reshape(-1, 3) / numpy.array(repetitions)
    theirs = numpy.asarray(positions) @ numpy.linalg.inv(expected)
    if len(theirs) != len(scaled):
        raise StudyError(
            f"the supercell has {len(theirs)} atoms, {tuple(repetitions)} repetitions of the crystal {len(scaled)}",
            fix="give the cell and the repetitions that the supercells were made with",
        )
    order = numpy.empty(len(scaled), int)
    for a, point in enumerate(scaled):
        step = theirs - point
        distance = numpy.linalg.norm((step - numpy.rint(step)) @ expected, axis=1)
        order[a] = distance.argmin()
        if distance[order[a]] > tolerance_angstrom:
            raise StudyError(
                f"no atom within {tolerance_angstrom} angstrom of site {a} of the supercell "
                f"(nearest {distance[order[a]]:.2f})",
                fix="give the crystal that the supercells were made from",
            )
    if len(set(order.tolist())) != len(order):
        raise StudyError("two sites of the supercell found the same atom", fix="check the supercell's positions")
    if numbers is not None and not numpy.array_equal(
        numpy.asarray(numbers)[order], numpy.tile(crystal.numbers, len(cells))
    ):
        raise StudyError("the supercell holds other elements than the crystal", fix="check species and atom order")
    return order
