"""Born charges and dielectric tensor of every relaxed crystal, from the DFT code of the study or from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.names import file_name
from phonoscreen.audit.shard import Outcome
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.output_charges import charges_file, read_charges
from phonoscreen.phonons.dipoles import check_charges

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.reference.programs import ProgramEngine


class SourceOfCharges(Protocol):
    """Where charges come from."""

    def find(self, structure_id: str, atoms: Atoms) -> tuple[NDArray, NDArray, str] | str:
        """Return charges, dielectric tensor and where they come from; or why the crystal has none, in words."""


class ChargesOfFiles:
    """Files of a folder with one folder per structure id: BORN, or outputs of VASP.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def find(self, structure_id: str, atoms: Atoms) -> tuple[NDArray, NDArray, str] | str:
        """As ``SourceOfCharges.find``."""
        folder = self._folder / file_name(structure_id)
        path = charges_file(folder)
        if path is None:
            return f"no BORN, vasprun.xml or OUTCAR in {folder}"
        return *read_charges(path, Crystal.from_ase(atoms)), path.name


class CalculatedCharges:
    """The DFT code of the study.

    Parameters
    ----------
    engine : of ``phonoscreen.reference.registry`` with the setting ``charges``
    """

    def __init__(self, engine: ProgramEngine) -> None:
        self._engine = engine

    def find(self, structure_id: str, atoms: Atoms) -> tuple[NDArray, NDArray, str] | str:
        """As ``SourceOfCharges.find``."""
        results = self._engine.results_of(atoms, f"{structure_id}/charges")
        if "born_charges" not in results:
            return f"no gap ({results['gap_ev']:.2f} eV)"
        return results["born_charges"], results["dielectric"], self._engine.name


def find_charges(source: SourceOfCharges, structure_id: str, atoms: Atoms) -> Outcome:
    """Find the charges of one crystal.

    Parameters
    ----------
    source : of charges
    structure_id : str
    atoms : relaxed primitive cell, ase.Atoms

    Returns
    -------
    Outcome with ``born_charges`` (n_atoms, 3, 3) in e and ``dielectric`` (3, 3), both with the symmetry of the crystal
    and charges that sum to zero; without arrays where it has none, which ``without_charges`` explains

    Raises
    ------
    StudyError
        If they cannot be calculated or read, or do not fit the crystal.
    """
    found = source.find(structure_id, atoms)
    if isinstance(found, str):
        values = {"charges_from": "", "without_charges": found, "born_charge_max_e": numpy.nan}
        return Outcome(values={**values, "dielectric_mean": numpy.nan})
    born, dielectric = check_charges(Crystal.from_ase(atoms), *found[:2], where=f"{structure_id}, {found[2]}")
    values = {
        "charges_from": found[2], "without_charges": "", "born_charge_max_e": float(numpy.abs(born).max()),
        "dielectric_mean": float(numpy.trace(dielectric) / 3),
    }  # fmt: skip
    return Outcome(values=values, arrays={"born_charges": born, "dielectric": dielectric})
