"""Which displacements and fields determine the Born charges and the dielectric tensor of a crystal.

A Born charge is the change of the polarisation when one atom moves; the dielectric tensor is that under a field. The
space group gives all of them from a few: one displacement of one atom of each kind, and one direction of the field,
in a cubic crystal. F. Giustino, "Materials Modelling using Density Functional Theory" (2014), ch. 9, has both
definitions; the use of the symmetry is that of displaced atoms for force constants.
"""

from __future__ import annotations

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry import find_symmetry

_DIAGONALS = numpy.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=float)
_INDEPENDENT = 1e-6


def displaced_atoms(crystal: Crystal) -> list[tuple[int, int]]:
    """Return the displacements that determine all Born charges.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised

    Returns
    -------
    list of (atom, Cartesian axis)
    """
    symmetry, found = find_symmetry(crystal), []
    for atom in sorted({int(images.min()) for images in symmetry.atoms.T}):
        site = symmetry.cartesian[symmetry.atoms[:, atom] == atom]
        spanned = numpy.zeros((0, 3))
        for axis in range(3):
            turned = numpy.concatenate([spanned, site[:, :, axis]])
            if numpy.linalg.matrix_rank(turned, _INDEPENDENT) > numpy.linalg.matrix_rank(spanned, _INDEPENDENT):
                found.append((atom, axis))
                spanned = turned
    return found


def born_charges(crystal: Crystal, displaced: list[tuple[int, int]], polarisations: ArrayLike) -> NDArray:
    """Return the Born charges of all atoms.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised
    displaced : of ``displaced_atoms``
    polarisations : (n_displaced, 3) change of the polarisation times the volume over the displacement, e

    Returns
    -------
    (n_atoms, 3, 3) e, first index the field
    """
    symmetry, polarisations = find_symmetry(crystal), numpy.asarray(polarisations, dtype=float)
    charges = numpy.zeros((len(crystal.numbers), 3, 3))
    for atom in {atom for atom, _ in displaced}:
        site = symmetry.cartesian[symmetry.atoms[:, atom] == atom]
        rows = [number for number, (mine, _) in enumerate(displaced) if mine == atom]
        # Z (R x) = R Z x: every operation of the site gives one more column of the same charge.
        moves = numpy.concatenate([site[:, :, displaced[row][1]] for row in rows])
        changes = numpy.concatenate([site @ polarisations[row] for row in rows])
        charge = numpy.linalg.lstsq(moves, changes, rcond=None)[0].T
        for images, turn in zip(symmetry.atoms, symmetry.cartesian, strict=True):
            charges[images[atom]] = turn @ charge @ turn.T
    return charges


def field_directions(crystal: Crystal) -> NDArray:
    """Return the directions of the field that determine the dielectric tensor.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised

    Returns
    -------
    (n_directions, 3) unit vectors, one in a cubic crystal, up to six
    """
    basis, chosen = _invariant_tensors(crystal), numpy.zeros((0, 3))
    for direction in _DIAGONALS / numpy.linalg.norm(_DIAGONALS, axis=1)[:, None]:
        more = numpy.concatenate([chosen, direction[None]])
        if numpy.linalg.matrix_rank(_projected(basis, more), _INDEPENDENT) == len(more):
            chosen = more
    return chosen


def dielectric_tensor(crystal: Crystal, directions: ArrayLike, constants: ArrayLike) -> NDArray:
    """Return the dielectric tensor.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised
    directions : (n_directions, 3) of ``field_directions``
    constants : (n_directions,) dielectric constants along them

    Returns
    -------
    (3, 3)
    """
    basis = _invariant_tensors(crystal)
    weights = numpy.linalg.lstsq(_projected(basis, numpy.asarray(directions)), numpy.asarray(constants), rcond=None)[0]
    return numpy.einsum("k,kxy->xy", weights, basis)


def _invariant_tensors(crystal):
    """Symmetric tensors that the point group leaves as they are, (n, 3, 3), orthonormal."""
    turns = find_symmetry(crystal).cartesian
    averages = []
    for x, y in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        unit = numpy.zeros((3, 3))
        unit[x, y] = unit[y, x] = 1.0
        averages.append((turns @ unit @ turns.transpose(0, 2, 1)).mean(axis=0).ravel())
    _, sizes, vectors = numpy.linalg.svd(numpy.array(averages))
    return vectors[: int((sizes > _INDEPENDENT).sum())].reshape(-1, 3, 3)


def _projected(basis, directions):
    return numpy.einsum("dx,kxy,dy->dk", directions, basis, directions)
