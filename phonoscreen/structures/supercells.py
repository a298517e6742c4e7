"""Supercells in which every atom is displaced at random, the samples that force constants are fitted to.

Random displacement of all atoms at once: Zhou, Nielson, Xia and Ozolins, Phys. Rev. Lett. 113, 185501 (2014).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms


def repetitions_for(cell: ArrayLike, n_atoms: int, min_length_angstrom: float, max_atoms: int) -> tuple[int, ...]:
    """Return the smallest diagonal replication whose lattice vectors all reach a length.

    Parameters
    ----------
    cell : (3, 3) primitive lattice vectors as rows, angstrom
    n_atoms : atoms in the primitive cell
    min_length_angstrom : least length of every lattice vector of the supercell
    max_atoms : largest number of atoms allowed

    Returns
    -------
    (3,) tuple of int

    Raises
    ------
    StudyError
        If the cell is singular or not finite, or the supercell would exceed ``max_atoms``.
    """
    cell = numpy.asarray(cell, dtype=float)
    if cell.shape != (3, 3) or not numpy.isfinite(cell).all() or abs(numpy.linalg.det(cell)) < 1e-6:
        raise StudyError(f"the cell {cell.tolist()} spans no volume", fix="give three independent lattice vectors")
    lengths = numpy.linalg.norm(cell, axis=1)
    # A cell relaxed to 9.9999999 instead of 10 angstrom is not a reason for the next larger supercell.
    repetitions = numpy.maximum(1, numpy.ceil(min_length_angstrom / lengths - 1e-6)).astype(int)
    total = int(repetitions.prod()) * n_atoms
    if total > max_atoms:
        size = "x".join(map(str, repetitions))
        raise StudyError(
            f"the {size} supercell has {total} atoms, more than {max_atoms}",
            where="stage displace_supercells",
            fix=f"raise supercell.max_atoms to {total}, or lower supercell.min_length_angstrom",
            blame="settings",
        )
    return tuple(int(n) for n in repetitions)


def build_supercell(atoms: Atoms, repetitions: Iterable[int]) -> Atoms:
    """Return the undisplaced supercell; atom order of ``ase.Atoms.repeat``.

    Atom ``((m0 * n1 + m1) * n2 + m2) * n_atoms + j`` is atom ``j`` translated by ``m0 a0 + m1 a1 + m2 a2``.

    Parameters
    ----------
    atoms : primitive cell, ase.Atoms
    repetitions : (3,) int
    """
    return atoms.repeat(tuple(int(n) for n in repetitions))


def random_displacements(
    n_supercells: int, n_atoms: int, amplitude_angstrom: float, rng: numpy.random.Generator
) -> NDArray:
    """Displacements of fixed length and isotropic random direction.

    A longer series with the same generator state begins with the shorter one.

    Parameters
    ----------
    n_supercells, n_atoms : int
    amplitude_angstrom : length of every atom's displacement
    rng : numpy.random.Generator

    Returns
    -------
    (n_supercells, n_atoms, 3) displacements, angstrom
    """
    directions = rng.standard_normal((n_supercells, n_atoms, 3))
    return amplitude_angstrom * directions / numpy.linalg.norm(directions, axis=2, keepdims=True)


def displaced_supercell(supercell: Atoms, displacements: ArrayLike) -> Atoms:
    """Return a copy of the supercell with its atoms moved.

    Parameters
    ----------
    supercell : ase.Atoms
    displacements : (n_atoms, 3), angstrom

    Raises
    ------
    StudyError
        If the displacements are not finite or do not match the atoms.
    """
    displacements = numpy.asarray(displacements)
    if displacements.shape != (len(supercell), 3) or not numpy.isfinite(displacements).all():
        raise StudyError(
            f"displacements of shape {displacements.shape} do not fit {len(supercell)} atoms, or are not finite",
            fix="rebuild results/supercells",
        )
    moved = supercell.copy()
    moved.positions += displacements
    return moved
