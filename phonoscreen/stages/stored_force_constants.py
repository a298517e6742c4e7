"""Force constants in the shards' HDF5 files."""

from functools import lru_cache
from typing import TYPE_CHECKING

import h5py
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.basis import BASES_HELD, read_basis
from phonoscreen.phonons.dipoles import dipole_constants
from phonoscreen.stages.transport import Task
from phonoscreen.structures.store import read_crystal

if TYPE_CHECKING:
    import os

    from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder

SINGLE = "its forces are of single displaced atoms, which hold no third order"


class StoredForceConstants:
    """Force constants of one shard, expanded when they are asked for.

    Parameters
    ----------
    path : HDF5 file written by ``fit_force_constants``
    bases : HDF5 file written by ``build_symmetry_bases``
    """

    def __init__(self, path: "str | os.PathLike", bases: "str | os.PathLike") -> None:
        self._store, self._bases = h5py.File(path), h5py.File(bases)
        self.basis = lru_cache(BASES_HELD)(lambda key: read_basis(self._bases, key))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._store.close()
        self._bases.close()

    def __contains__(self, structure_id):
        return structure_id in self._store

    def basis_key(self, structure_id: str) -> str:
        """Key of the symmetry basis of one structure; structures with the same key share triplets and maps."""
        return str(self._store[structure_id].attrs["basis_key"])

    def second_order(self, structure_id: str) -> "SecondOrder":
        """``SecondOrder`` of one structure, its dipole-dipole part included."""
        return self._expand_second(structure_id, [self._store[structure_id]["parameters"][:]])[0]

    def second_order_alone(self, structure_id: str) -> bool:
        """Whether single atoms were displaced, so that the forces hold no third order."""
        return bool(self._store[structure_id].attrs.get("second_order_alone", False))

    def third_order(self, structure_id: str) -> "ThirdOrder":
        """``ThirdOrder`` of one structure.

        Raises
        ------
        StudyError
            If the forces hold none.
        """
        if self.second_order_alone(structure_id):
            raise StudyError(SINGLE, where=structure_id, fix="label supercells in which all atoms are displaced")
        return self._basis_of(structure_id).expand_third(self._store[structure_id]["parameters"][:])

    def second_order_committee(self, structure_id: str) -> "list[SecondOrder]":
        """``SecondOrder`` of each committee member; empty where forces are not predicted."""
        return self._expand_second(structure_id, self._committee(structure_id))

    def third_order_committee(self, structure_id: str) -> "list[ThirdOrder]":
        """``ThirdOrder`` of each committee member; empty where forces are not predicted."""
        basis = self._basis_of(structure_id)
        return [basis.expand_third(member) for member in self._committee(structure_id)]

    def charges(self, structure_id: str) -> tuple[NDArray, NDArray] | None:
        """Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) of one structure, or None where unknown."""
        group = self._store[structure_id]
        return (group["born_charges"][:], group["dielectric"][:]) if "born_charges" in group else None

    def task(self, structure_id: str, crystal: "Crystal", transport: dict, committee: bool = False) -> Task:
        """What transport solves for one structure.

        Parameters
        ----------
        structure_id : str
        crystal : ``Crystal``, relaxed
        transport : section of the settings; ``non_analytic_correction`` counts
        committee : whether the force constants of the members are wanted too

        Returns
        -------
        ``phonoscreen.stages.transport.Task``
        """
        members: tuple = ()
        if committee:
            seconds = self.second_order_committee(structure_id)
            members = tuple(zip(seconds, self.third_order_committee(structure_id), strict=True))
        charges = self.charges(structure_id) if transport["non_analytic_correction"] else None
        return Task(crystal, self.second_order(structure_id), self.third_order(structure_id), members, charges)

    def _expand_second(self, structure_id, parameter_sets):
        basis, charges = self._basis_of(structure_id), self.charges(structure_id)
        expanded = [basis.expand_second(parameters) for parameters in parameter_sets]
        if charges is not None:
            dipoles = dipole_constants(read_crystal(self._store[structure_id]), basis.repetitions, *charges)
            for own in expanded:
                own.values += dipoles.values
        return expanded

    def _basis_of(self, structure_id):
        return self.basis(self.basis_key(structure_id))

    def _committee(self, structure_id):
        group = self._store[structure_id]
        return group["parameters_committee"][:] if "parameters_committee" in group else numpy.zeros((0, 0))
