"""Born charges and dielectric tensors by VASP (LEPSILON), for ``charges.source: calculated``; see ``vasp.py`` there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.dft.bandgap import bandgap
from ase.io import read

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.output_charges import read_charges
from phonoscreen.reference.programs import CalculationError, ProgramEngine
from phonoscreen.reference.vasp import VaspCode, run_with

if TYPE_CHECKING:
    from ase import Atoms

GAP_LEAST_EV = 0.05
"""Crystals with a smaller gap count as metals: they have no Born charges."""


class VaspCharges(VaspCode):
    """VASP for Born charges and the dielectric tensor of a primitive cell; parameters and errors as ``VaspCode``."""

    tags = {"LEPSILON": ".TRUE.", "NCORE": "1"}

    def identity(self, atoms: Atoms) -> dict[str, Any]:
        """Return what decides the numbers besides the crystal."""
        return {**self.settings, "charges": True}

    def read(self, folder: Path, atoms: Atoms) -> dict[str, Any]:
        """Return energy, forces, stress and gap, and charges and dielectric tensor of a crystal with a gap."""
        results = super().read(folder, atoms)
        output: Any = read(folder / "vasprun.xml", format="vasp-xml")
        results["gap_ev"] = float(bandgap(output.calc, output=None)[0])
        if results["gap_ev"] > GAP_LEAST_EV:
            try:
                found = read_charges(folder / "vasprun.xml", Crystal.from_ase(atoms))
            except StudyError as error:
                raise CalculationError(error.what, failure="unfinished", where=str(folder), fix=error.fix) from error
            results["born_charges"], results["dielectric"] = found
        return results


code_of_settings = VaspCharges


def make(settings: Mapping[str, Any], threads: int, folder: str | Path) -> ProgramEngine:
    """Return the engine; arguments and errors as ``phonoscreen.reference.vasp.make``."""
    return run_with(VaspCharges(settings), settings, folder)
