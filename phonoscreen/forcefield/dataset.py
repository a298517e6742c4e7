"""Training data: displaced supercells with reference forces, each structure in one split."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import h5py
import numpy
import pandas
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.models.base import check_forces
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, SupercellNeighbours
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.structures.labelled_supercells import read_labelled
from phonoscreen.structures.store import crystal_arrays, read_crystal

if TYPE_CHECKING:
    from pathlib import Path

STAGE = "assemble_dataset"


def is_held_out(structure_id: str, fraction: float, seed: int) -> bool:
    """Return whether a structure is kept from the gradient; the same answer in every round."""
    return derive_seed(seed, structure_id, "held_out") / 2**63 < fraction


def assemble_dataset(
    labels: "Mapping[str, str | Path]",
    supercells: "Mapping[str, str | Path]",
    selected: "Sequence[Mapping[str, str | Path]]",
    path: "str | Path",
    *,
    held_out_fraction: float,
    seed: int,
    supercells_max: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> pandas.DataFrame:
    """Write the labelled supercells of training structures and of all selections as one HDF5 file.

    Parameters
    ----------
    labels : dict structure id -> path of the HDF5 file with its initial labels (training part only)
    supercells : dict structure id -> path of the HDF5 file with its displaced supercells
    selected : list over rounds of dict structure id -> path with the labels of the supercells selected there
    path : HDF5 file to write; one group per structure: ``cell, scaled_positions, numbers, repetitions,
        displacements`` and ``forces`` (n_supercells, n_atoms, 3), ``round`` (n_supercells,), attributes ``split,
        weight, force_rms_ev_per_angstrom, displacement_max_angstrom``
    held_out_fraction : part of the structures used for early stopping only
    supercells_max : at most this many initially labelled supercells per structure (None: all)
    weights : dict structure id -> weight in the loss, or None; structures not in it weigh 1

    Returns
    -------
    pandas.DataFrame, one row per structure

    Raises
    ------
    StudyError
        If there are no labels, or labels and displacements do not fit together.
    """
    rounds = [labels, *selected]
    structure_ids = sorted(set().union(*rounds))
    if not structure_ids:
        raise StudyError("no labelled structure", where=STAGE, fix="check the records of label_forces")
    held_out = _held_out(structure_ids, held_out_fraction, seed)
    rows, engines = [], set()
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        for structure_id in structure_ids:
            with h5py.File(supercells[structure_id]) as source:
                data = Supercells.read(source[structure_id])
                found = _labels_of_rounds(structure_id, rounds, source[structure_id], supercells_max)
            engines |= {(labelled.engine, labelled.model) for labelled in found.values()}
            rounds_of_cells = numpy.concatenate([numpy.full(len(own.numbers), n) for n, own in found.items()])
            indices = numpy.concatenate([own.numbers for own in found.values()])
            indices, first = numpy.unique(indices, return_index=True)  # a supercell labelled twice counts once
            forces = check_forces(numpy.concatenate([own.forces for own in found.values()])[first], data.n_atoms)
            split, group = "held_out" if structure_id in held_out else "training", store.create_group(structure_id)
            store_labelled(group, data, indices, forces, split, float((weights or {}).get(structure_id, 1.0)))
            group["round"], group["supercell_index"] = rounds_of_cells[first], indices
            rows.append(
                {
                    "structure_id": structure_id,
                    "split": split,
                    "n_supercells": len(indices),
                    "n_environments": len(indices) * data.n_atoms,
                    "first_round": int(rounds_of_cells[first].min()),
                    "force_rms_ev_per_angstrom": group.attrs["force_rms_ev_per_angstrom"],
                }
            )
        if len(engines) > 1:
            raise StudyError(
                f"labels of different engines: {sorted(engines)}", where=STAGE, fix="label with one engine"
            )
        store.attrs["engine"], store.attrs["model"] = engines.pop()
    return pandas.DataFrame(rows)


def _held_out(structure_ids, fraction, seed):
    """Return the ids kept from the gradient: at least one where there are two, never all."""
    held_out = {structure_id for structure_id in structure_ids if is_held_out(structure_id, fraction, seed)}
    if not held_out and len(structure_ids) > 1:
        held_out = {min(structure_ids, key=lambda structure_id: derive_seed(seed, structure_id, "held_out"))}
    if len(held_out) == len(structure_ids):
        raise StudyError("every structure is held out", where=STAGE, fix="lower training.held_out_fraction")
    return held_out


def _labels_of_rounds(structure_id, rounds, supercells, supercells_max):
    """Return the ``LabelledSupercells`` of one structure by the number of the round; the limit is that of round 0."""
    found = {}
    for number, paths in enumerate(rounds):
        if structure_id in paths:
            with h5py.File(paths[structure_id]) as source:
                rows = slice(supercells_max if number == 0 else None)
                found[number] = read_labelled(source[structure_id], supercells, rows)
    return found


def store_labelled(
    group: h5py.Group, data: Supercells, indices: NDArray | slice, forces: NDArray, split: str, weight: float
) -> None:
    """Write the labelled supercells of one structure as ``Dataset`` reads them.

    Parameters
    ----------
    group : empty HDF5 group
    data : ``Supercells``, all that are displaced: the largest displacement sets the neighbour list
    indices : (n_supercells,) which of them are labelled
    forces : (n_supercells, n_atoms, 3), eV/angstrom
    split : training, held_out or test
    weight : in the loss
    """
    for name, array in crystal_arrays(data.crystal).items():
        group[name] = array
    group["repetitions"] = data.repetitions
    group["displacements"], group["forces"] = data.displacements[indices], forces
    group.attrs["split"], group.attrs["weight"] = split, weight
    group.attrs["displacement_max_angstrom"] = data.displacement_max_angstrom
    group.attrs["force_rms_ev_per_angstrom"] = float(numpy.sqrt((forces**2).mean()))


STRAINED = -1
"""Stands where the number of a supercell stands for the strained primitive cells of a structure, taken together."""
VIRIAL_FLOOR_EV = 0.05  # per atom, of what a structure's virials are measured by


class Dataset:
    """Reader of an assembled dataset: of each structure only a few numbers are kept, supercells are read when needed.

    A structure may have ``stresses`` (n_supercells, 3, 3) in eV/angstrom^3 and a group ``strained`` with ``strains``
    (n, 3, 3), ``forces`` (n, n_primitive_atoms, 3) and ``stresses`` (n, 3, 3) of strained primitive cells
    (``phonoscreen.stages.label_dataset``).

    Parameters
    ----------
    path : HDF5 file of ``assemble_dataset``
    cutoff_angstrom : radius of the neighbourhoods
    """

    def __init__(self, path: "str | Path", cutoff_angstrom: float) -> None:
        self.store = h5py.File(path)
        self.cutoff_angstrom = cutoff_angstrom
        self._facts: dict[str, dict] = {}
        self._recent: dict[tuple, SupercellNeighbours] = {}
        for structure_id, group in sorted(self.store.items()):
            shape = group["forces"].shape
            facts = {**group.attrs, "n_supercells": shape[0], "n_atoms": shape[1], "n_strained_atoms": 0}
            if "strained" in group:
                facts["n_strained_atoms"] = int(numpy.prod(group["strained/forces"].shape[:2]))
            self._facts[structure_id] = facts
        self.has_stress = any(facts["n_strained_atoms"] for facts in self._facts.values())

    def supercells(self, split: str) -> list[tuple[str, int]]:
        """Return [(structure id, supercell number)] of a split, in the order of the ids."""
        return [
            (structure_id, number)
            for structure_id, facts in self._facts.items()
            if facts["split"] == split
            for number in range(facts["n_supercells"])
        ]

    def cells(self, split: str) -> list[tuple[str, int]]:
        """Return the supercells of a split and, where stresses are known, one item of strained cells per structure."""
        items = self.supercells(split)
        strained = [name for name in dict.fromkeys(name for name, _ in items) if self._facts[name]["n_strained_atoms"]]
        return items + [(structure_id, STRAINED) for structure_id in strained]

    def n_atoms(self, item: tuple[str, int]) -> int:
        """Atoms of a supercell, or of all strained cells of a structure."""
        structure_id, number = item
        return int(self._facts[structure_id]["n_strained_atoms" if number == STRAINED else "n_atoms"])

    def weights(self, relative_floor_mev_per_angstrom: float | None) -> dict[str, float]:
        """Return the weight of each structure's mean squared error in the loss, angstrom^2/eV^2.

        The loss is dimensionless: the squared error over ``rms^2 + floor^2``, where rms is the force RMS of the
        structure; without a floor over the mean rms^2 of the structures of the training split.

        Parameters
        ----------
        relative_floor_mev_per_angstrom : number or None

        Returns
        -------
        dict structure id -> weight, of both splits
        """
        square = {name: float(facts["force_rms_ev_per_angstrom"]) ** 2 for name, facts in self._facts.items()}
        if relative_floor_mev_per_angstrom is None:
            training = [square[name] for name, facts in self._facts.items() if facts["split"] == "training"]
            mean = float(numpy.mean(training))
            unit = dict.fromkeys(square, max(mean, 1e-12))
        else:
            floor = (1e-3 * relative_floor_mev_per_angstrom) ** 2
            unit = {name: value + floor for name, value in square.items()}
        return {name: float(facts["weight"]) / unit[name] for name, facts in self._facts.items()}

    def is_relative(self, item: tuple[str, int]) -> bool:
        """Return whether the reference forces of an item are relative to a crystal that need not rest with the model.

        Force sets of DFT are: their crystals were relaxed by what calculated them.
        """
        return bool(self._facts[item[0]].get("relative", False)) and item[1] != STRAINED

    def undisplaced(self, supercell: tuple[str, int]) -> Neighbourhoods:
        """Return the neighbourhoods of the undisplaced primitive cell (see ``Supercells.undisplaced``)."""
        crystal, _ = self._crystal(supercell[0])
        return self._neighbours(supercell[0], crystal, (1, 1, 1)).displaced(numpy.zeros((len(crystal.numbers), 3)))

    def forces(self, supercell: tuple[str, int]) -> NDArray:
        """Return the reference forces of one supercell, or of all strained cells, (n_atoms, 3), eV/angstrom."""
        structure_id, number = supercell
        if number == STRAINED:
            return self.store[structure_id]["strained/forces"][:].reshape(-1, 3)
        return self.store[structure_id]["forces"][number]

    def virials(self, item: tuple[str, int]) -> tuple[NDArray, float]:
        """Return what the stress of each cell of an item does per atom, (n_cells, 3, 3), and its unit, both in eV.

        Stress times volume over the number of atoms: the derivative of the energy per atom with respect to strain.
        The unit is the root mean square over the strained cells of the structure, with a floor of 0.05 eV. Of a
        structure without stresses it is infinite: whatever its virials are, they are no error.
        """
        structure_id, number = item
        group = self.store[structure_id]
        if "strained" not in group:
            return numpy.zeros((1, 3, 3)), numpy.inf
        volume, n_atoms = abs(numpy.linalg.det(group["cell"][:])), len(group["numbers"])
        volumes = volume * numpy.linalg.det(numpy.eye(3) + group["strained/strains"][:])
        strained = group["strained/stresses"][:] * volumes[:, None, None] / n_atoms
        unit = float(numpy.sqrt((strained**2).mean() + VIRIAL_FLOOR_EV**2))
        if number == STRAINED:
            return strained, unit
        return group["stresses"][number][None] * volume / n_atoms, unit

    def elements(self) -> list[int]:
        """Atomic numbers that occur in the training split."""
        ids = [structure_id for structure_id, facts in self._facts.items() if facts["split"] == "training"]
        return sorted({int(number) for structure_id in ids for number in self.store[structure_id]["numbers"][:]})

    def read(self, supercell: tuple[str, int]) -> tuple[Neighbourhoods, NDArray]:
        """Return (``Neighbourhoods``, (n_atoms, 3) forces) of one supercell, or of all strained cells."""
        structure_id, number = supercell
        if number == STRAINED:
            crystal, _ = self._crystal(structure_id)
            strained = [
                Crystal(
                    crystal.cell @ (numpy.eye(3) + strain), crystal.scaled_positions, crystal.numbers, crystal.masses
                )
                for strain in self.store[structure_id]["strained/strains"][:]
            ]
            at_rest = numpy.zeros((len(crystal.numbers), 3))
            cells = [SupercellNeighbours(one, (1, 1, 1), self.cutoff_angstrom).displaced(at_rest) for one in strained]
            return Neighbourhoods.concatenate(cells), self.forces(supercell)
        neighbours = self._neighbours(structure_id, *self._crystal(structure_id))
        return neighbours.displaced(self.store[structure_id]["displacements"][number]), self.forces(supercell)

    def _crystal(self, structure_id):
        group = self.store[structure_id]
        return read_crystal(group), group["repetitions"][:]

    def _neighbours(self, structure_id, crystal, repetitions):
        key = structure_id, tuple(repetitions)
        if key not in self._recent:  # the supercells of a structure are read one after another
            self._recent = {other: kept for other, kept in self._recent.items() if other[0] == structure_id}
            self._recent[key] = self._new_neighbours(structure_id, crystal, repetitions)
        return self._recent[key]

    def _new_neighbours(self, structure_id, crystal, repetitions):
        largest = float(self._facts[structure_id]["displacement_max_angstrom"])
        return SupercellNeighbours(crystal, repetitions, self.cutoff_angstrom, largest)
