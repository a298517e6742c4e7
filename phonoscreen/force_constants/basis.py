"""Symmetry bases: everything about force constants that depends only on the prototype and its supercell.

Species, masses and the lattice constant play no part, so one basis serves every compound of a prototype whose
neighbour shells inside the third-order cutoff are the same. A basis is found by the digest of what it depends on.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h5py
import numpy
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.supercell import cell_index
from phonoscreen.crystal.symmetry import CrystalSymmetry, find_symmetry
from phonoscreen.force_constants.clusters import Clusters, clusters_within, neighbour_pairs, supercell_pairs
from phonoscreen.force_constants.cutoffs import check_cutoff
from phonoscreen.force_constants.invariants import OrderBasis, build_order

LAYOUT = "5"  # counts up when the meaning of stored bases changes

BASES_HELD = 32
"""Bases kept in memory; a shard holds few prototypes."""


@dataclass
class SymmetryBasis:
    """Allowed force constants of a prototype in a supercell.

    Parameters
    ----------
    key : digest of everything the basis depends on
    symmetry : digest of the space group's maps alone, see ``symmetry_digest``
    n_atoms : atoms of the primitive cell
    repetitions : (3,) integers of the supercell
    orders : list of ``OrderBasis``, second order first
    """

    key: str
    symmetry: str
    n_atoms: int
    repetitions: tuple
    orders: list

    @property
    def n_supercell_atoms(self) -> int:
        """Atoms of the supercell."""
        return self.n_atoms * int(numpy.prod(self.repetitions))

    @property
    def n_free(self) -> int:
        """Number of free force constants of all orders."""
        return sum(order.n_free for order in self.orders)

    def split(self, parameters: ArrayLike) -> list[NDArray]:
        """Parameters of each order from the parameters of all orders (last axis)."""
        ends = numpy.cumsum([order.n_free for order in self.orders])[:-1]
        return numpy.split(numpy.asarray(parameters), ends, axis=-1)

    def expand_second(self, parameters: ArrayLike) -> SecondOrder:
        """Second-order force constants.

        Parameters
        ----------
        parameters : (n_free,) of all orders, eV/angstrom^order

        Returns
        -------
        SecondOrder
        """
        basis = self.orders[0]
        clusters = basis.clusters
        values = numpy.zeros((self.n_atoms, self.n_supercell_atoms, 3, 3))
        column = cell_index(clusters.cells[:, 1], self.repetitions) * self.n_atoms + clusters.atoms[:, 1]
        values[clusters.atoms[:, 0], column] = basis.expand(self.split(parameters)[0])
        return SecondOrder(self.repetitions, values)

    def expand_third(self, parameters: ArrayLike) -> ThirdOrder:
        """Third-order force constants.

        Parameters
        ----------
        parameters : (n_free,) of all orders, eV/angstrom^order

        Returns
        -------
        ThirdOrder
        """
        if len(self.orders) < 2:
            raise StudyError(f"basis {self.key} has no third order", fix="build it with a third-order cutoff")
        basis = self.orders[1]
        values = basis.expand(self.split(parameters)[1])
        return ThirdOrder(basis.clusters.atoms, basis.clusters.cells[:, 1:], values)


def symmetry_digest(symmetry: CrystalSymmetry, n_atoms: int, repetitions: Sequence[int]) -> str:
    """Digest of the space group's maps of atoms and cells, its rotations, and the repetitions.

    Parameters
    ----------
    symmetry : ``CrystalSymmetry``
    n_atoms : atoms of the primitive cell
    repetitions : (3,) integers

    Returns
    -------
    str
    """
    digest = hashlib.sha256(f"{LAYOUT} {n_atoms} {tuple(int(n) for n in repetitions)}".encode())
    for array in (symmetry.rotations, symmetry.atoms, symmetry.cells):
        digest.update(array.astype("<i4").tobytes())
    digest.update((numpy.rint(symmetry.cartesian * 1e6) + 0.0).astype("<i4").tobytes())
    return digest.hexdigest()[:20]


def basis_key(
    crystal: Crystal,
    repetitions: Sequence[int],
    cutoffs_angstrom: Sequence[float | None],
    symmetry: CrystalSymmetry | None = None,
) -> str:
    """Digest of what a symmetry basis depends on.

    That is: the space group's maps of atoms and cells, its rotations, the repetitions, and which pairs of atoms lie
    within each cutoff.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    cutoffs_angstrom : one cutoff for each order from the second on; None for all pairs of the supercell
    symmetry : ``CrystalSymmetry`` if already known

    Returns
    -------
    str
    """
    symmetry = symmetry or find_symmetry(crystal, repetitions)
    digest = hashlib.sha256(symmetry_digest(symmetry, len(crystal.numbers), repetitions).encode())
    for cutoff in cutoffs_angstrom:
        digest.update(b"cutoff")
        if cutoff is not None:
            first, second, cells, _ = neighbour_pairs(crystal, cutoff)
            pairs = numpy.column_stack([first, second, cells])
            digest.update(pairs[numpy.lexsort(pairs.T[::-1])].astype("<i4").tobytes())
    return digest.hexdigest()[:20]


def build_basis(
    crystal: Crystal, repetitions: Sequence[int], cutoffs_angstrom: Sequence[float | None]
) -> SymmetryBasis:
    """Build the symmetry basis of a crystal in a supercell.

    Parameters
    ----------
    crystal : ``Crystal``; only its geometry's symmetry and neighbour pattern matter
    repetitions : (3,) integers
    cutoffs_angstrom : one cutoff for each order from the second on, for example ``(None, 5.2)``; None, allowed for
        the second order, takes all pairs of the periodic supercell

    Returns
    -------
    SymmetryBasis

    Raises
    ------
    StudyError
        If a cutoff lies on a neighbour shell or beyond half the supercell.
    """
    repetitions = tuple(int(n) for n in repetitions)
    symmetry = find_symmetry(crystal, repetitions)
    n_atoms = len(crystal.numbers)
    orders = []
    for order, cutoff in enumerate(cutoffs_angstrom, start=2):
        if cutoff is None and order > 2:
            raise StudyError(f"order {order} needs a cutoff", fix="give a cutoff below half the supercell")
        if cutoff is None:
            clusters = supercell_pairs(n_atoms, repetitions)
        else:
            check_cutoff(crystal, repetitions, cutoff)
            clusters = clusters_within(crystal, order, cutoff)
        orders.append(build_order(clusters, symmetry))
    key = basis_key(crystal, repetitions, cutoffs_angstrom, symmetry)
    return SymmetryBasis(key, symmetry_digest(symmetry, n_atoms, repetitions), n_atoms, repetitions, orders)


def write_basis(store: h5py.File, basis: SymmetryBasis) -> None:
    """Store a basis in an HDF5 file as the group named by its key.

    Parameters
    ----------
    store : open ``h5py.File``
    basis : ``SymmetryBasis``
    """
    group = store.create_group(basis.key)
    group.attrs.update(symmetry=basis.symmetry, n_atoms=basis.n_atoms, repetitions=basis.repetitions, layout=LAYOUT)
    for basis_of_order in basis.orders:
        clusters, tensors = basis_of_order.clusters, basis_of_order.tensors
        part = group.create_group(str(clusters.order))
        part.attrs["periodic"] = clusters.repetitions is not None
        part.attrs["shape"] = tensors.shape
        part.attrs["symmetry_residual"] = basis_of_order.symmetry_residual
        arrays = {
            "atoms": clusters.atoms.astype("i2"),
            "cells": clusters.cells.astype("i2"),
            "tensors/data": tensors.data,
            "tensors/indices": tensors.indices,
            "tensors/indptr": tensors.indptr,
        }
        for name, array in arrays.items():
            part.create_dataset(name, data=array, compression="gzip", compression_opts=1, shuffle=True)


def open_bases(paths: Iterable[str | os.PathLike]) -> h5py.File:
    """Return the symmetry bases of several shards as one open file (in memory, links to the files).

    Parameters
    ----------
    paths : files written by ``build_symmetry_bases``; a basis that several hold is the same in all of them
    """
    together = h5py.File("symmetry bases of all shards", "w", driver="core", backing_store=False)
    for path in map(os.path.abspath, paths):
        with h5py.File(path) as store:
            for key in store:
                if key not in together:
                    together[key] = h5py.ExternalLink(path, key)
    return together


def read_basis(store: h5py.File, key: str) -> SymmetryBasis:
    """Read one basis.

    Parameters
    ----------
    store : open ``h5py.File``
    key : of the basis

    Returns
    -------
    SymmetryBasis

    Raises
    ------
    StudyError
        If the file does not hold the basis.
    """
    if key not in store:
        raise StudyError(f"no symmetry basis {key} in {store.filename}", fix="run the rule build_symmetry_bases")
    group = store[key]
    repetitions = tuple(int(n) for n in group.attrs["repetitions"])
    orders = []
    for name in sorted(group):
        part = group[name]
        clusters = Clusters(
            part["atoms"][:].astype(int), part["cells"][:].astype(int), repetitions if part.attrs["periodic"] else None
        )
        tensors = sparse.csr_array(
            tuple(part[f"tensors/{x}"][:] for x in ("data", "indices", "indptr")), shape=tuple(part.attrs["shape"])
        )
        orders.append(OrderBasis(clusters, tensors, float(part.attrs["symmetry_residual"])))
    return SymmetryBasis(key, str(group.attrs["symmetry"]), int(group.attrs["n_atoms"]), repetitions, orders)
