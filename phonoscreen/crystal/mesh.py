"""Gamma-centred q meshes, their irreducible points, stars and little groups."""

from dataclasses import dataclass, replace

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry_search import find_dataset


@dataclass
class Mesh:
    """A Gamma-centred mesh with the point symmetry of a crystal (time reversal included).

    Attributes
    ----------
    shape : (3,) number of points along the reciprocal vectors
    points : (n_q, 3) integers m, the first counts fastest (ShengBTE's order); the fractional q is m / shape
    rotations : (n_op, 3, 3) Cartesian matrices that act on q, on velocities and on any vector field of q
    images : (n_op, n_q) index of the image of each point
    irreducible : (n_irr,) indices of the irreducible points
    weights : (n_irr,) size of each star
    star : (n_q,) position in ``irreducible`` of the representative of each point
    operation : (n_q,) operation that maps the representative on the point
    """

    shape: numpy.ndarray
    points: numpy.ndarray
    rotations: numpy.ndarray
    images: numpy.ndarray
    irreducible: numpy.ndarray
    weights: numpy.ndarray
    star: numpy.ndarray
    operation: numpy.ndarray

    @property
    def fractional(self) -> NDArray:
        """(n_q, 3) fractional coordinates of the points."""
        return self.points / self.shape

    def index(self, points: NDArray) -> NDArray:
        """Return the index of integer points, taken modulo the mesh."""
        m = numpy.mod(points, self.shape)
        return (m[..., 2] * self.shape[1] + m[..., 1]) * self.shape[0] + m[..., 0]

    def little_group(self, point: int) -> NDArray:
        """Return the operations that leave a point (an index) where it is."""
        return numpy.flatnonzero(self.images[:, point] == point)


def point_group(crystal: Crystal, tolerance_angstrom: float = 1e-4) -> NDArray:
    """Return the rotations of a crystal's space group, each once.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    tolerance_angstrom : distance within which atoms count as equivalent

    Returns
    -------
    (n, 3, 3) integer matrices that act on fractional coordinates

    Raises
    ------
    StudyError
        If spglib finds no symmetry at all (for example two atoms at one place).
    """
    atoms = numpy.column_stack([crystal.numbers, numpy.round(numpy.asarray(crystal.masses, float), 6)])
    kinds = numpy.unique(atoms, axis=0, return_inverse=True)[1].ravel()  # isotopes of one element are different atoms
    try:
        found = find_dataset(replace(crystal, numbers=kinds), tolerance_angstrom)
    except StudyError as error:
        raise StudyError(
            "no space group found for the crystal", where="transport", fix="check cell, positions and atomic numbers"
        ) from error
    return numpy.unique(found.rotations, axis=0)


def build_mesh(crystal: Crystal, shape: ArrayLike, *, symmetry: bool = True) -> Mesh:
    """Return the mesh of a crystal; operations that do not map the mesh on itself are left out.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    shape : three positive integers
    symmetry : use the crystal's point group and time reversal; otherwise every point is irreducible

    Raises
    ------
    StudyError
        If the shape is not three positive integers, or the mesh has a single point.
    """
    shape = numpy.asarray(shape)
    if shape.shape != (3,) or numpy.any(shape < 1) or numpy.any(shape != numpy.round(shape)):
        raise StudyError(f"q mesh {shape.tolist()} is not three positive integers", where="transport",
                         fix="give a mesh such as 11 11 11")  # fmt: skip
    if numpy.prod(shape) == 1:
        raise StudyError("a q mesh of one point holds no momentum-conserving processes", where="transport",
                         fix="give at least 2 points along one direction, a converged mesh has 9 or more")  # fmt: skip
    shape = shape.astype(numpy.int64)
    points = numpy.array(list(numpy.ndindex(*shape[::-1])))[:, ::-1]
    rotations = point_group(crystal) if symmetry else numpy.eye(3, dtype=int)[None]
    cell = numpy.asarray(crystal.cell, float)
    cartesian, found, seen = [], [], set()
    for sign in (1, -1) if symmetry else (1,):
        for rotation in rotations:
            reciprocal = sign * numpy.rint(numpy.linalg.inv(rotation).T).astype(int)
            if reciprocal.tobytes() in seen:
                continue
            seen.add(reciprocal.tobytes())
            image = points @ (reciprocal * shape[:, None] / shape[None, :]).T
            if numpy.abs(image - numpy.rint(image)).max() > 1e-8:
                continue
            m = numpy.mod(numpy.rint(image).astype(numpy.int64), shape)
            found.append((m[:, 2] * shape[1] + m[:, 1]) * shape[0] + m[:, 0])
            cartesian.append(sign * cell.T @ rotation @ numpy.linalg.inv(cell.T))
    images = numpy.array(found)
    representative = images.min(axis=0)
    irreducible, star, weights = numpy.unique(representative, return_inverse=True, return_counts=True)
    operation = (images[:, irreducible[star]] == numpy.arange(len(points))).argmax(axis=0)
    return Mesh(shape, points, numpy.array(cartesian), images, irreducible, weights, star.ravel(), operation)


def automatic_mesh(crystal: Crystal, density_angstrom: float, points_max: int | None = None) -> tuple[int, ...]:
    """Return an odd mesh with the same density of points along each reciprocal vector, and the crystal's symmetry.

    Vectors that the point group turns into each other get the larger of their numbers: a primitive cell may be chosen
    with vectors of unequal length (diagonal supercells ask for it), and unequal numbers would break the symmetry.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    density_angstrom : N_i is the odd number at or above density / |a_i|
    points_max : most points along a direction; lowered to the odd number at or below

    Returns
    -------
    tuple of three odd integers, at least 3
    """
    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    shape = numpy.maximum(numpy.ceil(density_angstrom / lengths - 1e-9).astype(int), 3)
    shape += 1 - shape % 2
    transposed = point_group(crystal).transpose(0, 2, 1)
    while True:
        images = transposed * shape[:, None] / shape
        broken = numpy.argwhere((numpy.abs(images - numpy.rint(images)) > 1e-8).any(axis=0))
        if not len(broken):
            break
        shape[broken[0]] = shape[broken[0]].max()
    if points_max is not None:
        shape = numpy.minimum(shape, points_max - 1 + points_max % 2)
    return tuple(int(n) for n in shape)
