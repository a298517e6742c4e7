"""What the space group of a crystal leaves free: strains of the cell, displacements and coordinates of the atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry_search import find_dataset, images_of_atoms

if TYPE_CHECKING:
    from ase import Atoms


def symmetric_modes(atoms: Atoms, tolerance_angstrom: float) -> NDArray:
    """Orthonormal displacement patterns that the whole space group leaves unchanged.

    Parameters
    ----------
    atoms : symmetrised crystal, ase.Atoms
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    (n_modes, n_atoms, 3), Cartesian, orthonormal over all components; uniform translations are excluded
    """
    cell, scaled, n_atoms = atoms.cell.array, atoms.get_scaled_positions(wrap=False), len(atoms)
    symmetry = _operations(atoms, tolerance_angstrom)
    crystal = Crystal(cell, scaled, atoms.numbers, atoms.get_masses())
    images, _ = images_of_atoms(crystal, symmetry.rotations, symmetry.translations, tolerance_angstrom)
    cartesian = cell.T @ symmetry.rotations @ numpy.linalg.inv(cell.T)
    projector = numpy.zeros((n_atoms, n_atoms, 3, 3))
    numpy.add.at(projector, (images, numpy.arange(n_atoms)), cartesian[:, None])
    projector = projector.transpose(0, 2, 1, 3).reshape(3 * n_atoms, 3 * n_atoms) / len(images)
    shift = numpy.tile(numpy.eye(3), (n_atoms, 1)) / n_atoms**0.5
    projector = projector - shift @ (shift.T @ projector)
    return _range_of(projector).reshape(-1, n_atoms, 3)


def symmetric_strains(atoms: Atoms, tolerance_angstrom: float) -> NDArray:
    """Orthogonal symmetric strains that the point group leaves unchanged: one for a cubic crystal, up to six.

    Parameters
    ----------
    atoms : symmetrised crystal, ase.Atoms
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    (n_strains, 3, 3), Frobenius norm sqrt(3); the first is the unit matrix, a change of the volume alone
    """
    cell = atoms.cell.array
    rotations = _operations(atoms, tolerance_angstrom).rotations
    cartesian = cell.T @ rotations @ numpy.linalg.inv(cell.T)
    projector = numpy.einsum("gab,gcd->acbd", cartesian, cartesian).reshape(9, 9) / len(cartesian)
    swap = numpy.eye(9).reshape(3, 3, 3, 3).transpose(1, 0, 2, 3).reshape(9, 9)
    volume = numpy.eye(3).ravel() / 3**0.5
    projector = projector @ (numpy.eye(9) + swap) / 2
    shapes = _range_of(projector - numpy.outer(volume, volume))
    return 3**0.5 * numpy.concatenate([volume[None], shapes]).reshape(-1, 3, 3)


def _operations(atoms, tolerance_angstrom):
    """Return the space group of some atoms, spglib's dataset."""
    return find_dataset(Crystal.from_ase(atoms), tolerance_angstrom)


def _range_of(projector):
    """Return the orthonormal vectors (rows) that a projector leaves unchanged.

    The largest component of each is positive, so that the numbers recorded do not depend on the eigensolver.
    """
    values, vectors = numpy.linalg.eigh((projector + projector.T) / 2)
    rows = vectors[:, values > 0.5].T
    signs = [numpy.sign(row[numpy.argmax(numpy.abs(row).round(6))]) for row in rows]
    return rows * numpy.array(signs).reshape(-1, 1)


def is_cubic(atoms: Atoms, tolerance_angstrom: float) -> bool:
    """Whether the only symmetric strain of a crystal is a change of its volume: in the space groups from 195 on."""
    return int(_operations(atoms, tolerance_angstrom).number) >= 195


def lattice_constant_angstrom(atoms: Atoms) -> float:
    """Edge of the conventional cube of a cubic primitive cell (angstrom): simple, face- or body-centred."""
    angle = atoms.cell.angles()[0]
    cells = 1 if abs(angle - 90) < 1e-3 else 4 if abs(angle - 60) < 1e-3 else 2
    return float((atoms.cell.volume * cells) ** (1 / 3))


def free_coordinates(atoms: Atoms, tolerance_angstrom: float) -> dict[str, list[float]]:
    """Coordinates that the space group leaves free, those that relaxation may change.

    Parameters
    ----------
    atoms : primitive cell, ase.Atoms
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    dict from element to the coordinates of one atom of the site, in units of the lattice constant of a cubic crystal,
    else of the primitive lattice vectors; {} where every position is fixed by symmetry
    """
    modes = symmetric_modes(atoms, tolerance_angstrom)
    places = atoms.get_scaled_positions(wrap=False)
    if is_cubic(atoms, tolerance_angstrom):
        places = atoms.positions / lattice_constant_angstrom(atoms)
    free = {}
    for index, symbol in enumerate(atoms.symbols):
        if len(modes) and numpy.abs(modes[:, index]).max() > 1e-6 and symbol not in free:
            free[symbol] = [round(float(x), 6) for x in places[index]]
    return free
