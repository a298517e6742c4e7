"""Clusters of atoms within a cutoff, and their images under the crystal's symmetry.

A cluster of order n is an ordered list of n sites (atom, cell), the first in cell (0, 0, 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.pairs import periodic_pairs
from phonoscreen.crystal.supercell import reduced_lattice, supercell_cells
from phonoscreen.crystal.symmetry import CrystalSymmetry


@dataclass
class Clusters:
    """Ordered clusters, closed under the crystal's symmetry and under permutation.

    Parameters
    ----------
    atoms : (n_clusters, order) indices into the primitive cell
    cells : (n_clusters, order, 3) integer lattice vectors, the first zero
    repetitions : (3,) of the supercell in which lattice vectors are folded, or None for the infinite crystal
    """

    atoms: numpy.ndarray
    cells: numpy.ndarray
    repetitions: tuple | None = None

    @property
    def order(self) -> int:
        """Number of sites of a cluster."""
        return self.atoms.shape[1]


def neighbour_pairs(crystal: Crystal, cutoff_angstrom: float) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """All pairs of an atom of cell 0 and any atom closer than a cutoff (the atom itself included).

    Returns
    -------
    first, second : (n_pairs,) atoms
    cells : (n_pairs, 3) integer lattice vector of the second
    distances : (n_pairs,) angstrom
    """
    cell, change = reduced_lattice(crystal.cell)
    places = crystal.scaled_positions @ numpy.rint(numpy.linalg.inv(change))  # in units of the reduced vectors
    home = numpy.floor(places).astype(int)
    places = places - home
    first, second, _, steps = periodic_pairs(cell, places, numpy.nextafter(cutoff_angstrom, numpy.inf))
    itself = numpy.arange(len(places))
    first, second = numpy.concatenate([itself, first]), numpy.concatenate([itself, second])
    steps = numpy.concatenate([numpy.zeros((len(places), 3), int), steps])
    distances = numpy.linalg.norm((steps + places[second] - places[first]) @ cell, axis=1)
    cells = (steps - home[second] + home[first]) @ change
    order = numpy.lexsort((second, *cells.T[::-1], first))
    return first[order], second[order], cells[order], distances[order]


def supercell_pairs(n_atoms: int, repetitions: Sequence[int]) -> Clusters:
    """Every pair of a primitive-cell atom and a supercell atom, in the order of ``SecondOrder.values``."""
    cells = supercell_cells(repetitions)
    first, cell, second = (x.ravel() for x in numpy.indices((n_atoms, len(cells), n_atoms)))
    offsets = numpy.zeros((len(first), 2, 3), int)
    offsets[:, 1] = cells[cell]
    return Clusters(numpy.stack([first, second], axis=1), offsets, tuple(int(n) for n in repetitions))


def clusters_within(crystal: Crystal, order: int, cutoff_angstrom: float) -> Clusters:
    """All ordered clusters of the infinite crystal whose sites are mutually closer than a cutoff.

    Sites may coincide.

    Returns
    -------
    Clusters
    """
    first, second, cells, _ = neighbour_pairs(crystal, cutoff_angstrom)
    positions = (cells + crystal.scaled_positions[second]) @ numpy.asarray(crystal.cell)
    atoms, offsets = [], []
    for i in range(len(crystal.numbers)):
        mine = numpy.flatnonzero(first == i)
        close = numpy.linalg.norm(positions[mine][:, None] - positions[mine][None], axis=-1) <= cutoff_angstrom
        sites = numpy.arange(len(mine))[:, None]
        for _ in range(order - 2):
            fits = close[sites].all(axis=1)
            row, new = numpy.nonzero(fits)
            sites = numpy.concatenate([sites[row], new[:, None]], axis=1)
        chosen = mine[sites]
        atoms.append(numpy.concatenate([numpy.full((len(sites), 1), i), second[chosen]], axis=1))
        offsets.append(numpy.concatenate([numpy.zeros((len(sites), 1, 3), int), cells[chosen]], axis=1))
    return Clusters(numpy.concatenate(atoms), numpy.concatenate(offsets))


def image_table(clusters: Clusters, symmetry: CrystalSymmetry) -> tuple[NDArray, list[tuple[int, ...]]]:
    """Index of every cluster's image under every operation followed by every permutation of its sites.

    Parameters
    ----------
    clusters : ``Clusters``
    symmetry : ``CrystalSymmetry``

    Returns
    -------
    table : (n_operations * order!, n_clusters) integers; row ``g * order! + p``
    orders : list of the ``order!`` permutations: site ``k`` of the image is site ``orders[p][k]`` before

    Raises
    ------
    StudyError
        If an image is not among the clusters (the cutoff cuts through a neighbour shell).
    """
    orders = list(permutations(range(clusters.order)))
    base = 1 + 2 * (int(numpy.abs(clusters.cells).max()) + 1)
    n_atoms = int(clusters.atoms.max()) + 1
    if math.log2(n_atoms) * clusters.order + math.log2(base) * 3 * (clusters.order - 1) > 62:
        raise StudyError("too many clusters to be numbered", fix="use a shorter cutoff")
    codes = _encode(clusters, clusters.atoms, clusters.cells, n_atoms, base)
    sort = numpy.argsort(codes)
    table = numpy.empty((len(symmetry.atoms), len(orders), len(codes)), numpy.int32)
    for g, (rotation, atom_map, cell_map) in enumerate(zip(symmetry.rotations, symmetry.atoms, symmetry.cells)):
        atoms = atom_map[clusters.atoms]
        cells = clusters.cells @ rotation.T + cell_map[clusters.atoms]
        for p, permuted in enumerate(orders):
            code = _encode(clusters, atoms[:, permuted], cells[:, permuted], n_atoms, base)
            found = numpy.minimum(numpy.searchsorted(codes, code, sorter=sort), len(codes) - 1)
            table[g, p] = sort[found]
            if not numpy.array_equal(codes[table[g, p]], code):
                raise StudyError(
                    "the cutoff separates atoms that are equivalent by symmetry",
                    fix="move the cutoff into a gap between neighbour shells",
                )
    return table.reshape(-1, len(codes)), orders


def _encode(clusters, atoms, cells, n_atoms, base):
    code = atoms[:, 0].astype(numpy.int64)
    for site in range(1, clusters.order):
        step = cells[:, site] - cells[:, 0]
        if clusters.repetitions is not None:
            step = step % numpy.array(clusters.repetitions)
        code = code * n_atoms + atoms[:, site]
        for axis in range(3):
            code = code * base + step[:, axis] + base // 2
    return code
