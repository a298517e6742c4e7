"""Displaced supercells with their forces: the one place where labels meet the supercells they are of."""

from dataclasses import dataclass

import h5py
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.structures.store import read_crystal


@dataclass
class LabelledSupercells:
    """What models are trained on and force constants are fitted to, of one crystal.

    Parameters
    ----------
    crystal : ``Crystal``, primitive
    repetitions : (3,) integers of the supercell
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom
    numbers : (n_supercells,) their numbers among the displaced supercells of the structure
    residual_forces : (n_supercell_atoms, 3) of the undisplaced supercell, eV/angstrom, or None
    charges : Born charges (n_atoms, 3, 3) in e and dielectric tensor (3, 3) as the engine gave them, or None
    engine, model : where the forces come from
    """

    crystal: Crystal
    repetitions: tuple[int, ...]
    displacements: NDArray
    forces: NDArray
    numbers: NDArray
    residual_forces: NDArray | None = None
    charges: tuple[NDArray, NDArray] | None = None
    engine: str = ""
    model: str = ""


def read_labelled(labels: h5py.Group, supercells: h5py.Group, rows: slice = slice(None)) -> LabelledSupercells:
    """Read the labels of one structure with the supercells that they are of.

    Parameters
    ----------
    labels : group of the structure with ``forces`` and, where not all supercells are labelled, ``supercell_index``;
        perhaps ``residual_forces``, ``born_charges, dielectric`` and the attributes ``engine, model``
    supercells : its group with ``cell, scaled_positions, numbers, repetitions, displacements``
    rows : which of the labels

    Raises
    ------
    StudyError
        If a label is of a supercell that does not exist, or of another number of atoms.
    """
    displacements, forces = supercells["displacements"][:], labels["forces"][rows]
    available = len(displacements)
    indices = labels["supercell_index"][rows] if "supercell_index" in labels else numpy.arange(available)[rows]
    indices = numpy.asarray(indices, dtype=int)
    fix = "label again: the supercells have changed since"
    absent = indices[(indices < 0) | (indices >= available)]
    if len(absent):
        raise StudyError(f"label of supercell {absent[0]}, but only {available} supercells",
                         where=labels.name.strip("/"), fix=fix)  # fmt: skip
    if forces.shape != (len(indices), *displacements.shape[1:]):
        raise StudyError(f"forces of shape {forces.shape} for {len(indices)} supercells of {displacements.shape[1]} "
                         "atoms", where=labels.name.strip("/"), fix=fix)  # fmt: skip
    known = "born_charges" in labels and "dielectric" in labels
    charges = (labels["born_charges"][:], labels["dielectric"][:]) if known else None
    return LabelledSupercells(
        read_crystal(supercells),
        tuple(int(n) for n in supercells["repetitions"][:]),
        displacements[indices],
        forces,
        indices,
        residual_forces=labels["residual_forces"][:] if "residual_forces" in labels else None,
        charges=charges,
        engine=str(labels.attrs.get("engine", "")),
        model=str(labels.attrs.get("model", "")),
    )
