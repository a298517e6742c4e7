"""A published force model as an ASE calculator."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.committee import uncertainty
from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
from phonoscreen.forcefield.publish import default_model_path, load_published

if TYPE_CHECKING:
    from ase import Atoms


class ForceModelCalculator(Calculator):
    """Forces of the mean of a published committee.

    ``results["uncertainty"]`` holds epsilon of Eq. (3) for every atom. The equivariant model also has an energy, up to
    a constant of each element, and for crystals a stress; Elemental-SDNNFF has neither: asking for one raises
    ``PropertyNotImplementedError``.

    Parameters
    ----------
    model : folder of a published model; None: the one that comes with the repository
    device, dtype : auto, cpu or cuda; float32, float64 or None (as trained)
    """

    implemented_properties = ["forces"]

    def __init__(
        self, model: str | Path | None = None, device: str = "auto", dtype: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.committee, self.content = load_published(model or default_model_path(), device, dtype)
        if self.committee.has_energy:
            self.implemented_properties = ["energy", "forces", "stress"]

    def calculate(
        self,
        atoms: "Atoms | None" = None,
        properties: Sequence[str] = ("forces",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute the forces, eV/angstrom."""
        super().calculate(atoms, properties, system_changes)
        known = self.atoms
        if known is None:
            raise StudyError("no atoms", where="ForceModelCalculator", fix="give the calculator to an ase.Atoms object")
        neighbourhoods = atoms_neighbourhoods(known, self.committee.cutoff_angstrom)
        forces = self.committee.forces(neighbourhoods)
        spread = uncertainty(forces) if len(forces) > 1 else numpy.full(len(known), numpy.nan)
        self.results = {"forces": forces.mean(axis=0), "uncertainty": spread}
        if self.committee.has_energy:
            self.results["energy"] = self.committee.energy(neighbourhoods)
            if "stress" in properties and known.pbc.all():
                virial = len(known) * self.committee.virials(neighbourhoods)[:, 0].mean(axis=0)
                self.results["stress"] = full_3x3_to_voigt_6_stress(virial / known.get_volume())
