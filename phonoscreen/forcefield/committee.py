"""The committee: forces of several members, and how far they disagree."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy
import torch
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.models.equivariant import EquivariantPotential
from phonoscreen.forcefield.models.files import load_model
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods
from phonoscreen.forcefield.stacked_members import StackedMembers

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.forcefield.models.base import ForceModel
    from phonoscreen.forcefield.supercells import Supercells

BATCH_ENVIRONMENTS = 2048


class Committee:
    """Models of one architecture and different weights.

    Parameters
    ----------
    members : list of ``ForceModel``

    Raises
    ------
    StudyError
        If there are no members or they differ in kind or settings.
    """

    def __init__(self, members: "Sequence[ForceModel]") -> None:
        if not members or any((m.kind, m.settings) != (members[0].kind, members[0].settings) for m in members):
            raise StudyError(
                "a committee needs members of one kind with the same settings",
                where="Committee",
                fix="train them again",
            )
        self.members = list(members)
        self.cutoff_angstrom = members[0].cutoff_angstrom
        self.has_energy = hasattr(members[0], "energy")
        self.subtracts_undisplaced = members[0].settings["subtract_undisplaced"]
        self._stack: StackedMembers | None = None

    @classmethod
    def load(
        cls,
        weights_paths: "Iterable[str | Path]",
        settings_paths: "Iterable[str | Path]",
        device: str = "auto",
    ) -> "Committee":
        """Return the committee stored in safetensors and JSON files, in this order."""
        return cls([load_model(*paths, device) for paths in zip(weights_paths, settings_paths, strict=True)])

    def forces(self, neighbourhoods: Neighbourhoods, undisplaced: Neighbourhoods | None = None) -> NDArray:
        """Return the forces of every member, (n_members, n_centres, 3), eV/angstrom; StudyError unless finite.

        With ``undisplaced`` they are relative to the undisplaced crystal (see ``ForceModel.describe``).
        """
        if self.has_energy and undisplaced is None:
            forces = self.evaluate(neighbourhoods)[1]
        else:
            description = self.members[0].describe(neighbourhoods, undisplaced)
            forces = numpy.array([member.predict(description).detach().cpu().numpy() for member in self.members])
        if not numpy.isfinite(forces).all():
            raise StudyError(
                "the model gives forces that are not finite",
                where="Committee.forces",
                fix="check the structure for distances and elements far from those the model was trained on",
            )
        return numpy.asarray(forces, dtype=float)

    def evaluate(self, neighbourhoods: Neighbourhoods) -> tuple[NDArray, NDArray, NDArray]:
        """Return energies, forces and ``virials`` of every member in one pass; only of models with an energy.

        Returns
        -------
        (n_members,) eV, (n_members, n_atoms, 3) eV/angstrom, (n_members, n_structures, 3, 3) eV per atom
        """
        description = self.members[0].describe(neighbourhoods)
        if self._stack is None and self.members[0].device.type == "cpu":
            equivariant = [member for member in self.members if isinstance(member, EquivariantPotential)]
            self._stack = StackedMembers(equivariant) if equivariant else None
        found: Any
        if self._stack is not None:
            found = self._stack.evaluate(description)
        else:
            members: list[Any] = self.members
            found = map(torch.stack, zip(*(member.evaluate(description) for member in members), strict=True))
        energy_ev, forces, virials = (part.double().cpu().numpy() for part in found)
        return energy_ev, forces, virials

    def energy(self, neighbourhoods: Neighbourhoods) -> float:
        """Return the energy of some atoms, mean of the members, eV, up to a constant of each element."""
        return float(self.evaluate(neighbourhoods)[0].mean())

    def virials(self, neighbourhoods: Neighbourhoods) -> NDArray:
        """Return the derivative of the energy with respect to strain of every member, eV per atom.

        Of a crystal of n atoms and volume V the stress, positive under tension, is this times n / V. Only a model with
        an energy has one.

        Returns
        -------
        (n_members, n_structures, 3, 3)
        """
        return self.evaluate(neighbourhoods)[2]

    def supercell_forces(self, supercells: "Supercells") -> NDArray:
        """Return the forces of every member on every displaced supercell of a structure.

        The atoms of a relaxed crystal feel no force, but a model without an energy does not know that: where the
        setting ``subtract_undisplaced`` is on, its force on the same atom of the undisplaced crystal, in the same
        frame, is subtracted.

        Parameters
        ----------
        supercells : ``phonoscreen.forcefield.supercells.Supercells``

        Returns
        -------
        (n_members, n_supercells, n_atoms, 3) eV/angstrom
        """
        if self.has_energy:
            return self.pool_forces([supercells])[0]
        neighbours = supercells.neighbours(self.cutoff_angstrom)
        undisplaced = supercells.undisplaced(self.cutoff_angstrom) if self.subtracts_undisplaced else None
        together = max(1, BATCH_ENVIRONMENTS // supercells.n_atoms)
        forces = numpy.empty((len(self.members), *supercells.displacements.shape))
        for begin in range(0, len(supercells.displacements), together):
            part = slice(begin, begin + together)
            cells = [neighbours.displaced(displacement) for displacement in supercells.displacements[part]]
            chunk = self.forces(Neighbourhoods.concatenate(cells), undisplaced)
            forces[:, part] = chunk.reshape(len(self.members), len(cells), supercells.n_atoms, 3)
        return forces

    def pool_forces(self, pool: "Sequence[Supercells]") -> list[NDArray]:
        """Return what ``supercell_forces`` returns for each structure of a list, all computed together.

        A model with an energy needs no frame of the undisplaced crystal, so supercells of any structures share a
        batch; other models take one structure after another.
        """
        if not self.has_energy:
            return [self.supercell_forces(supercells) for supercells in pool]
        cells = []
        for supercells in pool:
            neighbours = supercells.neighbours(self.cutoff_angstrom)
            cells += [neighbours.displaced(displacement) for displacement in supercells.displacements]
            if self.subtracts_undisplaced:
                cells.append(supercells.undisplaced(self.cutoff_angstrom))
        parts = []
        for batch in batches(cells, BATCH_ENVIRONMENTS):
            ends = numpy.cumsum([len(cell) for cell in batch])[:-1]
            parts += numpy.split(self.forces(Neighbourhoods.concatenate(batch)), ends, axis=1)
        results, computed = [], iter(parts)
        for supercells in pool:
            forces = numpy.stack([next(computed) for _ in supercells.displacements], axis=1)
            if self.subtracts_undisplaced:
                at_rest = next(computed)
                forces -= numpy.tile(at_rest, (1, supercells.n_atoms // at_rest.shape[1], 1))[:, None]
            results.append(forces)
        return results

    def perfect_crystal_forces(self, supercells: "Supercells") -> NDArray:
        """Return the forces of every member on the atoms of the undisplaced primitive cell, (n_members, n_atoms, 3)."""
        return self.forces(supercells.undisplaced(self.cutoff_angstrom))

    def residual_forces(self, supercells: "Supercells") -> NDArray:
        """Return what ``supercell_forces`` gives for the undisplaced supercell, (n_members, n_atoms, 3), eV/angstrom.

        Zero where the setting ``subtract_undisplaced`` is on.
        """
        if self.subtracts_undisplaced:
            return numpy.zeros((len(self.members), supercells.n_atoms, 3))
        repeated = supercells.n_atoms // len(supercells.crystal.numbers)
        return numpy.tile(self.perfect_crystal_forces(supercells), (1, repeated, 1))


class Lookahead:
    """Forces of structures asked for one after another, computed for several at a time.

    Parameters
    ----------
    committee : ``Committee``
    structure_ids : in the order in which they will be asked for
    read : function of a structure id that returns its ``Supercells``
    """

    def __init__(self, committee: Committee, structure_ids: Iterable[str], read: "Callable[[str], Supercells]") -> None:
        self.committee, self.structure_ids, self.read = committee, list(structure_ids), read
        self.ready: dict[str, tuple[NDArray, float]] = {}

    def forces(self, structure_id: str) -> tuple[NDArray, float]:
        """Return the forces of every member on the supercells of a structure and the seconds they took.

        See ``Committee.supercell_forces``; the time of structures computed together is shared by their atoms.

        Raises
        ------
        Exception
            What made the computation of this structure fail, if it did.
        """
        if structure_id not in self.ready:
            coming = self.structure_ids[self.structure_ids.index(structure_id) :]
            chosen, pool, size = [structure_id], [self.read(structure_id)], 0
            for other in coming[1:]:
                size += len(pool[-1].displacements) * pool[-1].n_atoms
                if size >= BATCH_ENVIRONMENTS or not self.committee.has_energy:
                    break
                try:
                    pool.append(self.read(other))
                    chosen.append(other)
                except Exception:  # an unreadable structure raises again, and is recorded, when it is asked for
                    break
            begin = time.perf_counter()
            try:
                forces = self.committee.pool_forces(pool)
            except Exception:  # one of them is to blame: this one alone, the others when they are asked for
                begin, chosen, pool = time.perf_counter(), chosen[:1], pool[:1]
                forces = self.committee.pool_forces(pool)
            per_value = (time.perf_counter() - begin) / sum(supercells.displacements.size for supercells in pool)
            seconds = [per_value * supercells.displacements.size for supercells in pool]
            self.ready = dict(zip(chosen, zip(forces, seconds)))
        return self.ready.pop(structure_id)


def batches(items: Iterable, n_environments: int, count: Callable[[Any], int] = len) -> Iterator[list]:
    """Yield lists of items of about ``n_environments`` atoms together.

    Parameters
    ----------
    items : neighbourhoods, or anything that ``count`` returns the number of atoms of
    """
    batch, size = [], 0
    for item in items:
        batch.append(item)
        size += count(item)
        if size >= n_environments:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def uncertainty(forces: ArrayLike) -> NDArray:
    """Disagreement of the committee about the force on each atom.

    ``epsilon_i = sqrt(mean over members of |f_i^m - mean f_i|^2)``, Eq. (3) of Rodriguez et al., Commun. Mater. 4, 61
    (2023).

    Parameters
    ----------
    forces : (n_members, ..., n_atoms, 3)

    Returns
    -------
    (..., n_atoms) in the unit of the forces

    Raises
    ------
    StudyError
        If there are fewer than two members.
    """
    forces = numpy.asarray(forces, dtype=float)
    if len(forces) < 2:
        raise StudyError(
            "one model cannot disagree", where="uncertainty", fix="set force_model.committee to at least 2"
        )
    return numpy.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
