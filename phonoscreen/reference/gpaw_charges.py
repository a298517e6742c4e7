"""Born charges and dielectric tensors by GPAW, for ``charges.source: calculated``; see ``gpaw.py`` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.response import born_charges, dielectric_tensor, displaced_atoms, field_directions
from phonoscreen.reference.gpaw import GpawCode, run_with
from phonoscreen.reference.programs import ProgramEngine

if TYPE_CHECKING:
    from ase import Atoms

DISPLACEMENT_ANGSTROM = 0.01
GAP_LEAST_EV = 0.05
"""Crystals with a smaller gap count as metals: they have no Born charges."""
BANDS_OF_RESPONSE = 16
"""Bands of the response for each atom."""

_RUN = '''"""Run GPAW for the Born charges and the dielectric tensor of calculation.json; write results.json.

Born charges: change of the Berry-phase polarisation with displacements (R. D. King-Smith, D. Vanderbilt, Phys. Rev. B
47, 1651 (1993)); dielectric tensor: linear response in the random-phase approximation, local fields included.
"""

import json
import os

import numpy
from ase import Atoms
from gpaw import GPAW, __version__
from gpaw.berryphase import polarization_phase
from gpaw.mpi import world
from gpaw.response.df import DielectricFunction

with open("calculation.json") as stream:
    given = json.load(stream)
parameters = given["parameters"]
atoms = Atoms(given["numbers"], positions=given["positions"], cell=given["cell"], pbc=True)
step = given["displacement_angstrom"]


def phases(atom, axis, size):
    moved = atoms.copy()
    moved.positions[atom, axis] += size
    moved.calc = GPAW(txt="gpaw.txt", **{**parameters, "symmetry": "off"})
    moved.get_potential_energy()
    moved.calc.write("moved.gpw", "all")
    return numpy.array(polarization_phase(gpw_wfs="moved.gpw", comm=world)["phase_c"])


def dielectric_constants():
    atoms.calc.fixed_density(**given["response_bands"], txt="bands.txt").write("bands.gpw", "all")
    options = {"frequencies": [0.0], "hilbert": False, "txt": "response.txt", **given["response"]}
    response = DielectricFunction("bands.gpw", **options)
    along = (response.get_macroscopic_dielectric_constant(direction=way) for way in given["directions"])
    return [float(local_fields) for _, local_fields in along]


atoms.calc = GPAW(txt="gpaw.txt", **parameters)
results = {
    "forces": atoms.get_forces().tolist(), "energy_ev": atoms.get_potential_energy(),
    "stress": atoms.get_stress(voigt=False).tolist(), "version": __version__,
}
valence, conduction = atoms.calc.get_homo_lumo()
results["gap_ev"] = float(conduction - valence)
if results["gap_ev"] > given["gap_least_ev"]:
    polarisations = []
    for atom, axis in given["displaced"]:
        change = phases(atom, axis, step) - phases(atom, axis, -step)
        change -= 2 * numpy.pi * numpy.round(change / (2 * numpy.pi))
        polarisations.append((change @ atoms.cell.array / (4 * numpy.pi * step)).tolist())
    results |= {"polarisations": polarisations, "dielectric_constants": dielectric_constants()}
if world.rank == 0:
    with open("results.json.partial", "w") as stream:
        json.dump(results, stream)
    os.replace("results.json.partial", "results.json")
'''


class GpawCharges(GpawCode):
    """GPAW for Born charges and the dielectric tensor of a primitive cell; parameters and errors as ``GpawCode``.

    A crystal without a gap has neither: its results hold ``gap_ev`` alone.
    """

    script = _RUN

    def identity(self, atoms: Atoms) -> dict[str, Any]:
        """Return what decides the numbers besides the crystal."""
        return {**self.settings, "charges": True}

    def further_inputs(self, atoms: Atoms) -> dict[str, Any]:
        """Return displacements and fields that determine everything by symmetry, and the size of the response."""
        crystal, bands = Crystal.from_ase(atoms), BANDS_OF_RESPONSE * len(atoms)
        return {
            "displaced": displaced_atoms(crystal), "displacement_angstrom": DISPLACEMENT_ANGSTROM,
            "directions": field_directions(crystal).tolist(), "gap_least_ev": GAP_LEAST_EV,
            "response_bands": {"nbands": bands + 4 * len(atoms), "convergence": {"bands": bands}},
            "response": {"ecut": 50.0, "eta": 1e-3, "nbands": bands},
        }  # fmt: skip

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return energy, forces, stress and gap, and charges and dielectric tensor of a crystal with a gap."""
        results = super().read(folder, atoms)
        found, given = (json.loads((folder / name).read_text()) for name in ("results.json", "calculation.json"))
        results["gap_ev"] = float(found["gap_ev"])
        if "polarisations" in found:
            crystal = Crystal.from_ase(atoms)
            displaced = [(atom, axis) for atom, axis in given["displaced"]]
            results["born_charges"] = born_charges(crystal, displaced, found["polarisations"])
            constants = found["dielectric_constants"]
            results["dielectric"] = dielectric_tensor(crystal, given["directions"], constants)
        return results


code_of_settings = GpawCharges


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> ProgramEngine:
    """Return the engine; arguments and errors as ``phonoscreen.reference.gpaw.make``."""
    return run_with(GpawCharges(settings), settings, folder)
