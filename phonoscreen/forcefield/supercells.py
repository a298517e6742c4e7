"""The displaced supercells of one structure as force models take them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.neighbourhoods import SupercellNeighbours
from phonoscreen.structures.store import read_crystal

if TYPE_CHECKING:
    import h5py

    from phonoscreen.forcefield.neighbourhoods import Neighbourhoods
    from phonoscreen.structures.labelled_supercells import LabelledSupercells


@dataclass
class Supercells:
    """The displaced supercells of one structure.

    Parameters
    ----------
    crystal : primitive cell
    repetitions : (3,) integers
    displacements : (n_supercells, n_atoms, 3), angstrom
    """

    crystal: Crystal
    repetitions: numpy.ndarray
    displacements: numpy.ndarray

    @classmethod
    def read(cls, group: "h5py.Group") -> "Supercells":
        """Return the supercells stored in an HDF5 group of the stage ``displace_supercells`` or of a dataset."""
        return cls(read_crystal(group), group["repetitions"][:], group["displacements"][:])

    @classmethod
    def of(cls, labelled: "LabelledSupercells") -> "Supercells":
        """Return the supercells of ``LabelledSupercells``."""
        return cls(labelled.crystal, numpy.array(labelled.repetitions), labelled.displacements)

    @property
    def n_atoms(self) -> int:
        """Atoms of one supercell."""
        return len(self.crystal.numbers) * int(numpy.prod(self.repetitions))

    def neighbours(self, cutoff_angstrom: float) -> SupercellNeighbours:
        """Return the neighbour list that serves all displacements of this structure."""
        return SupercellNeighbours(self.crystal, self.repetitions, cutoff_angstrom, self.displacement_max_angstrom)

    def undisplaced(self, cutoff_angstrom: float) -> "Neighbourhoods":
        """Return the neighbourhoods in the undisplaced primitive cell, neighbours in the order of ``neighbours``."""
        once = SupercellNeighbours(self.crystal, (1, 1, 1), cutoff_angstrom, self.displacement_max_angstrom)
        return once.displaced(numpy.zeros((len(self.crystal.numbers), 3)))

    @property
    def displacement_max_angstrom(self) -> float:
        """Length of the largest displacement."""
        largest = numpy.linalg.norm(self.displacements, axis=-1).max(initial=0.0)
        if not numpy.isfinite(largest):
            raise StudyError("displacements hold values that are not finite", where="Supercells", fix="displace again")
        return float(largest)
