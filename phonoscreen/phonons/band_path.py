"""Wave vectors along the standard path of the Brillouin zone and on an irreducible mesh."""

from dataclasses import dataclass

import numpy
from ase.cell import Cell
from numpy.typing import ArrayLike, NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry import find_symmetry

PATHS = {"FCC": "GXU,KGL", "CUB": "GXMGRX,MR"}
"""Paths of the cubic lattices of the study; other lattices get the one of W. Setyawan, S. Curtarolo, Comput. Mater.
Sci. 49, 299 (2010)."""


@dataclass
class BandPath:
    """Points along the edges of the Brillouin zone.

    Parameters
    ----------
    qpoints : (n_points, 3) in units of the reciprocal primitive vectors
    distances : (n_points,) length along the path, 1/angstrom (with the factor 2 pi)
    labels : list of n_points names; empty between the corners, two names joined by ``|`` where the path jumps
    """

    qpoints: numpy.ndarray
    distances: numpy.ndarray
    labels: list


def band_path(cell: NDArray, points_per_edge: int = 40) -> BandPath:
    """Standard path of a lattice.

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom
    points_per_edge : steps between two corners

    Returns
    -------
    BandPath
    """
    lattice = Cell(cell)
    name = lattice.get_bravais_lattice(eps=1e-3).name
    standard = lattice.bandpath(PATHS.get(name), npoints=0, eps=1e-3)
    corners = standard.special_points
    reciprocal = 2 * numpy.pi * numpy.linalg.inv(cell).T
    qpoints: list[NDArray] = []
    distances: list[float] = []
    labels: list[str] = []
    length = 0.0
    for piece in standard.path.split(","):
        names = _corner_names(piece, corners)
        if labels:
            labels[-1] += f"|{names[0]}"
        else:
            qpoints, distances, labels = [corners[names[0]]], [0.0], [names[0]]
        for start, end in zip(names, names[1:]):
            step = (corners[end] - corners[start]) / points_per_edge
            edge = float(numpy.linalg.norm(step @ reciprocal))
            for k in range(1, points_per_edge + 1):
                qpoints.append(corners[start] + k * step)
                distances.append(length + k * edge)
                labels.append(end if k == points_per_edge else "")
            length += points_per_edge * edge
    return BandPath(numpy.array(qpoints), numpy.array(distances), labels)


def irreducible_mesh(crystal: Crystal, mesh: ArrayLike) -> tuple[NDArray, NDArray]:
    """Irreducible points of a mesh through Gamma.

    Parameters
    ----------
    crystal : ``Crystal``
    mesh : (3,) divisions

    Returns
    -------
    qpoints : (n_q, 3) in units of the reciprocal primitive vectors
    weights : (n_q,) number of mesh points equivalent to each
    """
    mesh = numpy.array(mesh)
    addresses = numpy.array(list(numpy.ndindex(*mesh)))
    least = numpy.arange(len(addresses))
    for rotation in numpy.unique(find_symmetry(crystal).rotations, axis=0):
        # wave vectors turn with the inverse transpose; over the whole group that is q R
        turned = addresses / mesh @ rotation * mesh
        whole = numpy.rint(turned).astype(int)
        if numpy.abs(turned - whole).max() > 1e-6:
            continue  # does not map the mesh onto itself
        for sign in (1, -1):  # time reversal
            least = numpy.minimum(least, numpy.ravel_multi_index(tuple((sign * whole % mesh).T), tuple(mesh)))
    points, weights = numpy.unique(least, return_counts=True)
    folded = addresses[points] - mesh * (2 * addresses[points] > mesh)
    return folded / mesh, weights


def _corner_names(piece, corners):
    """Names in a path such as ``GXU`` or ``X1Y``."""
    names, longest = [], max(len(name) for name in corners)
    while piece:
        name = next(piece[:n] for n in range(longest, 0, -1) if piece[:n] in corners)
        names.append(name)
        piece = piece[len(name) :]
    return names
