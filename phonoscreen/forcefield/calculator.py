"""A published force model as an ASE calculator."""

import numpy
from ase.calculators.calculator import Calculator, all_changes

from phonoscreen.forcefield.committee import uncertainty
from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
from phonoscreen.forcefield.publish import load_published


class ForceModelCalculator(Calculator):
    """Forces of the mean of a published committee.

    ``results["uncertainty"]`` holds epsilon of Eq. (3) for every atom. The equivariant model also has an energy, up to
    a constant of each element; Elemental-SDNNFF has none: asking for it raises ``PropertyNotImplementedError``.

    Parameters
    ----------
    model : folder of a published model
    device, dtype : auto, cpu or cuda; float32, float64 or None (as trained)
    """

    implemented_properties = ["forces"]

    def __init__(self, model, device="auto", dtype=None, **kwargs):
        super().__init__(**kwargs)
        self.committee, self.content = load_published(model, device, dtype)
        if self.committee.has_energy:
            self.implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("forces",), system_changes=tuple(all_changes)):
        """Compute the forces, eV/angstrom."""
        super().calculate(atoms, properties, system_changes)
        neighbourhoods = atoms_neighbourhoods(self.atoms, self.committee.cutoff_angstrom)
        forces = self.committee.forces(neighbourhoods)
        spread = uncertainty(forces) if len(forces) > 1 else numpy.full(len(self.atoms), numpy.nan)
        self.results = {"forces": forces.mean(axis=0), "uncertainty": spread}
        if self.committee.has_energy:
            self.results["energy"] = self.committee.energy(neighbourhoods)
