"""A published force model as an engine: energy, forces and stress of a crystal, for its relaxation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.neighbourhoods import crystal_neighbourhoods
from phonoscreen.forcefield.publish import load_published

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.forcefield.committee import Committee


class CommitteeEngine:
    """Energy, forces and stress of the mean of a committee (interface: ``phonoscreen.reference.base``).

    Parameters
    ----------
    committee : ``Committee``
    name : what products call it
    """

    kind = "model"

    def __init__(self, committee: "Committee", name: str) -> None:
        self.committee, self.name = committee, name
        self.relaxes = committee.has_energy
        """A model without an energy cannot relax: structures are taken as they are."""

    def evaluate(self, atoms: "Atoms", label: str | None = None) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension.

        Raises
        ------
        StudyError
            If an atom has no neighbour: the model knows no force that would bring it back.
        """
        cutoff = self.committee.cutoff_angstrom
        around = crystal_neighbourhoods(atoms, cutoff)
        if (alone := numpy.flatnonzero(numpy.diff(around.offsets) == 0)).size:
            raise StudyError(
                f"{atoms.symbols[alone[0]]} has no neighbour within {cutoff:g} angstrom, as far as the model sees",
                where=label, fix="check the lattice constant, or start from a denser crystal", blame="structure",
            )  # fmt: skip
        energy_ev, forces, virials = (part.mean(axis=0) for part in self.committee.evaluate(around))
        stress = virials[0] * len(atoms) / atoms.cell.volume
        return float(energy_ev), forces, (stress + stress.T) / 2


def make(settings: Mapping[str, Any]) -> CommitteeEngine:
    """Return the engine of a published model.

    Parameters
    ----------
    settings : ``model``, the folder of the published model

    Raises
    ------
    StudyError
        If the model has no energy, and so cannot relax a crystal.
    """
    committee, content = load_published(settings["model"], "cpu")
    engine = CommitteeEngine(committee, f"published {content['kind']} model of {len(committee.members)} members")
    if not engine.relaxes:
        raise StudyError(
            "this published model has no energy and cannot relax", where=str(settings["model"]),
            fix="give relax.engine: reference, or a model of the kind equivariant",
        )  # fmt: skip
    return engine
