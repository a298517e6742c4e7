"""Space-group operations of a crystal as integer maps of its atoms."""

from dataclasses import dataclass

import numpy
import spglib

from phonoscreen.audit.errors import StudyError


@dataclass
class CrystalSymmetry:
    """Operations of the space group; operation ``g`` takes atom ``i`` of cell ``c`` to atom ``atoms[g, i]`` of cell
    ``rotations[g] @ c + cells[g, i]``.

    Parameters
    ----------
    rotations : (n_operations, 3, 3) integers, on fractional coordinates
    cartesian : (n_operations, 3, 3) the same rotations on Cartesian vectors
    atoms : (n_operations, n_atoms) integers
    cells : (n_operations, n_atoms, 3) integers
    """

    rotations: numpy.ndarray
    cartesian: numpy.ndarray
    atoms: numpy.ndarray
    cells: numpy.ndarray


def find_symmetry(crystal, repetitions=(1, 1, 1), tolerance_angstrom=1e-3):
    """Operations of the crystal that also map the supercell onto itself, in a canonical order.

    Parameters
    ----------
    crystal : ``Crystal``; a cell that is not primitive has pure translations among its operations
    repetitions : (3,) integers of the supercell
    tolerance_angstrom : spglib's ``symprec``

    Returns
    -------
    CrystalSymmetry

    Raises
    ------
    StudyError
        If spglib finds no symmetry or an operation does not map the atoms onto each other.
    """
    cell, tau = numpy.asarray(crystal.cell, float), numpy.asarray(crystal.scaled_positions, float)
    found = spglib.get_symmetry((cell, tau, crystal.numbers), symprec=tolerance_angstrom)
    if found is None:
        raise StudyError("spglib finds no space group", fix="check the cell for atoms that sit on each other")
    rotations, translations = found["rotations"].astype(int), found["translations"]
    n = numpy.array(repetitions)
    folded = rotations * n[None, None, :]
    fits = (folded % n[None, :, None] == 0).all(axis=(1, 2))
    rotations, translations = rotations[fits], translations[fits]
    moved = numpy.einsum("gxy,iy->gix", rotations, tau) + translations[:, None]
    step = moved[:, :, None] - tau[None, None]
    whole = numpy.rint(step)
    distance = numpy.linalg.norm((step - whole) @ cell, axis=-1)
    distance[:, crystal.numbers[:, None] != crystal.numbers[None, :]] = numpy.inf
    atoms = distance.argmin(axis=2)
    if distance.min(axis=2).max() > 10 * tolerance_angstrom:
        raise StudyError(
            f"a space-group operation misses an atom by {distance.min(axis=2).max():.2g} angstrom",
            fix="symmetrise the crystal (spglib standardize_cell) before its force constants are made",
        )
    cells = numpy.take_along_axis(whole, atoms[:, :, None, None], axis=2)[:, :, 0].astype(int)
    cartesian = _orthogonal(cell.T @ rotations @ numpy.linalg.inv(cell.T))
    content = numpy.concatenate([rotations.reshape(len(rotations), -1), atoms, cells.reshape(len(atoms), -1)], axis=1)
    order = numpy.lexsort(content.T[::-1])
    return CrystalSymmetry(rotations[order], cartesian[order], atoms[order], cells[order])


def _orthogonal(matrices):
    """Nearest orthogonal matrices; entries that are whole up to rounding become exactly whole."""
    left, _, right = numpy.linalg.svd(matrices)
    nearest = left @ right
    whole = numpy.rint(nearest)
    return numpy.where(numpy.abs(nearest - whole) < 1e-9, whole, nearest)
