"""Reference forces that were recorded before: one packed file with the supercells that a small study displaces.

The file (``phonoscreen.structures.packed_labels``, made by ``phonoscreen.stages.label_recording``) holds for each
structure id the relaxed crystal and the forces on its displaced supercells, calculated with a universal potential. A
structure is relaxed by taking the recorded crystal; a supercell finds its forces by its positions, within 1e-4
angstrom. Labels that were made for training (``phonoscreen.stages.label_library``) serve as well where they are of the
study's supercells: the displacements of a structure are drawn from the same seed. They hold no undisplaced supercell;
its forces are zero where the symmetry leaves no atom free, and refused elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.base import check_results
from phonoscreen.reference.collected import AGREEMENT_ANGSTROM
from phonoscreen.structures.free_parameters import symmetric_modes
from phonoscreen.structures.packed_labels import read_product
from phonoscreen.structures.supercells import build_supercell

if TYPE_CHECKING:
    from os import PathLike

SYMMETRY_TOLERANCE_ANGSTROM = 1e-3
FIX = "choose another reference.engine (nequix, sevennet), which calculates"


class RecordedEngine:
    """Forces looked up in one packed file.

    Parameters
    ----------
    path : file of packed labels
    relaxed : file of further packed labels, whose relaxed crystals, and forces where the supercells are the same, are
        taken where the first has none

    Raises
    ------
    StudyError
        If a file is none of these, or the two are of different potentials.
    """

    kind, relaxes, calculates = "recorded", True, False
    seconds = numpy.nan
    """Time of a calculation: what looking it up takes says nothing of the potential."""

    def __init__(self, path: str | PathLike | None, relaxed: str | PathLike | None = None) -> None:
        origin, known = _read(path)
        further, others = _read(relaxed) if relaxed else (origin, {})
        if further.get("engine") != origin.get("engine"):
            found = f"{relaxed} was made with {further.get('engine')}, {path} with {origin.get('engine')}"
            raise StudyError(found, where="reference/recorded/relaxed", fix="name labels of one potential, or null")
        self.name = f"recorded: {origin.get('engine', 'unknown')}"
        self._known = {**others, **known}

    def _of(self, structure_id, label):
        record, arrays = self._known.get(structure_id, ({}, {}))
        if not arrays:
            why = f": {record['reason']}" if record.get("reason") else ""
            raise StudyError(f"no labels are recorded{why}", where=label, fix=FIX)
        return record, arrays

    def relaxed(self, atoms: Atoms, structure_id: str) -> tuple[Atoms, dict[str, Any]]:
        """Return the recorded crystal of a structure, and the values of its relaxation."""
        record, arrays = self._of(structure_id, structure_id)
        crystal = Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
        if sorted(crystal.numbers) != sorted(atoms.numbers):
            found = f"{crystal.get_chemical_formula()} is recorded, not {atoms.get_chemical_formula()}"
            raise StudyError(found, where=structure_id, fix=FIX)
        missing = {"energy_ev_per_atom": record.get("energy_ev", numpy.nan) / len(crystal), "stress_max_gpa": numpy.nan}
        return crystal, {**missing, **record}

    def forces(self, atoms: Atoms, label: str) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom of the recorded supercell with these positions."""
        structure_id = label.rpartition("/")[0] or label
        record, arrays = self._of(structure_id, label)
        crystal = Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
        supercell, moves = build_supercell(crystal, arrays["repetitions"]), arrays["displacements"]
        if len(supercell) != len(atoms) or (supercell.numbers != atoms.numbers).any():
            self._refuse(f"the recorded supercells have {len(supercell)} atoms in another order or number", label)
        if numpy.abs(supercell.cell.array - atoms.cell.array).max() > AGREEMENT_ANGSTROM:
            self._refuse("the recorded supercells have another cell", label)
        step = (atoms.positions - supercell.positions)[None] - moves
        whole = numpy.rint(step @ numpy.linalg.inv(supercell.cell.array))
        distances = numpy.linalg.norm(step - whole @ supercell.cell.array, axis=2).max(axis=1)
        nearest = int(distances.argmin())
        if numpy.abs(atoms.positions - supercell.positions).max() < AGREEMENT_ANGSTROM < distances[nearest]:
            return self._undisplaced(crystal, len(atoms), record, label)
        if distances[nearest] > AGREEMENT_ANGSTROM:
            self._refuse(f"none of {len(moves)} recorded supercells is this one, the nearest differs by "
                         f"{distances[nearest]:.4f} angstrom", label)  # fmt: skip
        return check_results(float(arrays["energies_ev"][nearest]), arrays["forces"][nearest], len(atoms), label)

    def evaluate(self, atoms: Atoms, label: str) -> NoReturn:
        """Raise: recorded labels hold relaxed crystals, not the way there."""
        raise StudyError("recorded labels cannot be evaluated elsewhere", where=label, fix=FIX)

    def _undisplaced(self, crystal, n_atoms, record, label):
        """Energy and forces of the relaxed crystal itself, which labels for training leave out."""
        if len(symmetric_modes(crystal, SYMMETRY_TOLERANCE_ANGSTROM)):
            self._refuse("the undisplaced supercell is not recorded, and the symmetry leaves atoms free", label)
        return record.get("energy_ev", numpy.nan) * n_atoms / len(crystal), numpy.zeros((n_atoms, 3))

    def _refuse(self, what, label):
        raise StudyError(what, where=label, fix=f"keep the seed and the settings of supercells as recorded, or {FIX}")


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> RecordedEngine:
    """Return the engine; ``threads`` and ``folder`` are not used, nothing is calculated."""
    return RecordedEngine(settings["file"], settings.get("relaxed"))


def _read(path):
    """Return the origin of a file, and record and arrays by structure id."""
    if not path or not Path(path).is_file():
        raise StudyError(f"no file {path!r} of recorded labels", where="reference/recorded", fix=FIX)
    origin, labelled = read_product(path)
    return origin, {record["structure_id"]: (record, arrays) for record, arrays in labelled}
