"""Structures in the HDF5 files of the shards: one group per structure id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.formats.hidden_content import own_masses

if TYPE_CHECKING:
    from pathlib import Path


def structure_arrays(atoms: Atoms) -> dict[str, NDArray]:
    """Return the arrays that describe a cell in a shard file.

    Parameters
    ----------
    atoms : ase.Atoms

    Returns
    -------
    dict with ``cell`` (3, 3) in angstrom, lattice vectors as rows, ``scaled_positions`` (n_atoms, 3),
    ``numbers`` (n_atoms,) and, where they are not the natural ones, ``masses`` (n_atoms,) in u
    """
    masses = {"masses": atoms.get_masses()} if own_masses(atoms) else {}
    return {
        "cell": numpy.array(atoms.cell),
        "scaled_positions": atoms.get_scaled_positions(wrap=False),
        "numbers": atoms.numbers.copy(),
        **masses,
    }


def crystal_arrays(crystal: Crystal) -> dict[str, NDArray]:
    """Return the arrays that describe a ``Crystal`` in a shard file, its masses left out (see ``structure_arrays``)."""
    return {"cell": crystal.cell, "scaled_positions": crystal.scaled_positions, "numbers": crystal.numbers}


def read_crystal(group: h5py.Group) -> Crystal:
    """Return the ``Crystal`` of one group of a shard file; masses that are not stored are the natural ones."""
    numbers = group["numbers"][:]
    masses = group["masses"][:] if "masses" in group else standard_masses(numbers)
    return Crystal(group["cell"][:], group["scaled_positions"][:], numbers, masses)


def read_crystal_and_repetitions(group: h5py.Group) -> tuple[Crystal, tuple[int, ...] | None]:
    """Return a crystal and the repetitions of its supercell where its labels already have one, else None."""
    own = tuple(int(n) for n in group["repetitions"][:]) if "repetitions" in group else None
    return read_crystal(group), own


def read_atoms(group: h5py.Group) -> Atoms:
    """Return the ``ase.Atoms`` of one group of a shard file (see ``structure_arrays``)."""
    return Atoms(
        numbers=group["numbers"][()], cell=group["cell"][()], scaled_positions=group["scaled_positions"][()], pbc=True,
        masses=group["masses"][()] if "masses" in group else None,
    )  # fmt: skip


def read_structures(path: str | Path) -> dict[str, Atoms]:
    """Return all structures of a shard file.

    Parameters
    ----------
    path : HDF5 file written by ``relax_structures`` or ``displace_supercells``

    Returns
    -------
    dict of ``ase.Atoms`` by structure id
    """
    with h5py.File(path) as store:
        return {structure_id: read_atoms(group) for structure_id, group in store.items()}
