"""Outputs that already exist: a folder per structure with extended XYZ files or the outputs of DFT programs.

``<folder>/<structure id>/`` holds any number of ``*.extxyz``, ``vasprun*.xml`` and ``OUTCAR*`` files and outputs of the
programs in ``phonoscreen.formats.outputs``, also compressed, in subfolders too, and perhaps phonopy's file ``BORN`` for
the primitive cell. A supercell finds its forces by its displacements: cell, elements and positions must agree within
1e-4 angstrom, the atoms may come in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy
from ase.units import Bohr
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import file_name
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.displacements import read_born
from phonoscreen.formats.labelled import check_one_setting, read_labelled
from phonoscreen.formats.output_folder import output_files
from phonoscreen.reference.base import check_results

if TYPE_CHECKING:
    from ase import Atoms

AGREEMENT_ANGSTROM = 1e-4

AGREEMENT_EV_PER_ANGSTROM = 1e-3
"""Two outputs of one supercell that differ by more are not the same calculation."""


class CollectedEngine:
    """Forces looked up in existing outputs.

    Parameters
    ----------
    folder : folder with one folder per structure id

    Raises
    ------
    StudyError
        If the folder does not exist.
    """

    kind, relaxes, calculates = "collected", False, False

    def __init__(self, folder: str | Path | None):
        if not folder or not Path(folder).is_dir():
            raise StudyError(
                f"no folder {folder!r} of existing outputs", where="reference/collected/folder",
                fix="name a folder with one folder per structure id",
            )  # fmt: skip
        self._folder = Path(folder)
        self._read: dict[str, list[Atoms]] = {}
        self._used: list[Atoms] = []
        self._perfect: Atoms | None = None
        self.name = f"existing outputs in {self._folder.name}"

    def _outputs(self, structure_id):
        if structure_id not in self._read:
            folder = self._folder / file_name(structure_id)
            files = output_files(folder)
            if not files:
                raise StudyError(
                    "no outputs", where=str(folder), fix="put *.extxyz, vasprun*.xml or other outputs with forces there"
                )
            # One structure at a time is kept: outputs of large supercells fill the memory otherwise.
            self._used, self._perfect = [], None
            self._read = {structure_id: [atoms for file in files for atoms in read_labelled(file, refuse=False)]}
        return self._read[structure_id]

    def forces(self, atoms: Atoms, label: str) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom of the output with these positions."""
        structure_id, _, which = label.rpartition("/")
        outputs = self._outputs(structure_id)
        if which == "perfect":
            self._perfect = atoms
        matches = [(order, output) for output in outputs for order, distance in [match_atoms(atoms, output)]
                   if distance <= AGREEMENT_ANGSTROM]  # fmt: skip
        if not matches:
            raise StudyError(
                f"none of {len(outputs)} outputs belongs to this supercell; {self._nearest(atoms, outputs)}",
                where=label,
                fix="calculate the supercells of results/supercells, with the same seed and relaxed cell",
            )  # fmt: skip
        for _, output in matches:
            if output.info["problem"]:
                what, fix = output.info["problem"]
                raise StudyError(what, where=f"{label}, {output.info['source']}", fix=fix)
        order, output = matches[0]
        forces = output.get_forces()[order]
        for other_order, other in matches[1:]:
            change = numpy.abs(other.get_forces()[other_order] - forces).max()
            if change > AGREEMENT_EV_PER_ANGSTROM:
                raise StudyError(
                    f"two outputs of this supercell differ by {change:.4f} eV/angstrom: {output.info['source']} and "
                    f"{other.info['source']}", where=label, fix="remove the wrong one",
                )  # fmt: skip
        self._used.append(output)
        check_one_setting(self._used)
        energy_ev = output.calc.results.get("energy", numpy.nan)
        if not numpy.isfinite(energy_ev):
            raise StudyError(
                "no energy", where=f"{label}, {output.info['source']}", fix="write the energy beside forces"
            )
        return check_results(energy_ev, forces, len(atoms), label)

    def charges(self, atoms: Atoms, structure_id: str) -> tuple[NDArray, NDArray] | None:
        """Return Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) of a primitive cell, or None.

        They are read from phonopy's file ``BORN`` in the structure's folder, if there is one.
        """
        path = self._folder / file_name(structure_id) / "BORN"
        return read_born(path, Crystal.from_ase(atoms)) if path.exists() else None

    def evaluate(self, atoms: Atoms, label: str) -> NoReturn:
        """Raise: existing outputs cannot relax a structure."""
        raise StudyError("existing outputs cannot relax a structure", where=label)

    def _nearest(self, atoms, outputs):
        """What keeps the output that comes nearest from being the one wanted."""
        return min(self._difference(atoms, output) for output in outputs)[1]

    def _difference(self, atoms, output):
        """How far an output is from a supercell: (class of the difference, size), and words for it."""
        source = f"the nearest, {output.info['source']}, "
        if len(atoms) != len(output):
            return (3, abs(len(atoms) - len(output))), source + f"has {len(output)} atoms instead of {len(atoms)}"
        if sorted(atoms.numbers) != sorted(output.numbers):
            return (2, 0), source + f"holds {output.get_chemical_formula()} instead of {atoms.get_chemical_formula()}"
        cell, other = atoms.cell.array, output.cell.array
        change = numpy.abs(cell - other).max()
        if change > AGREEMENT_ANGSTROM:
            scale = (other.ravel() @ cell.ravel()) / (cell.ravel() @ cell.ravel())
            hint = "; it looks as if it were in bohr" if abs(scale * Bohr - 1) < 0.03 else ""
            return (1, change), source + (
                f"has another cell (lattice vectors differ by {change:.4f} angstrom, factor {scale:.4f}{hint})"
            )
        distance = match_atoms(atoms, output)[1]
        return (0, distance), source + f"differs by {distance:.4f} angstrom{self._scaled(atoms, output)}"

    def _scaled(self, atoms, output):
        """A hint where an output has this supercell's displacements in another unit."""
        if self._perfect is None:
            return ""
        order = match_atoms(self._perfect, output)[0]
        moves = []
        for positions in (atoms.positions, output.positions[order]):
            scaled = (positions - self._perfect.positions) @ numpy.linalg.inv(self._perfect.cell.array)
            moves.append(((scaled - numpy.rint(scaled)) @ self._perfect.cell.array).ravel())
        wanted, found = moves
        factor = wanted @ found / max(wanted @ wanted, 1e-300)
        if numpy.linalg.norm(found - factor * wanted) > 0.05 * numpy.linalg.norm(found) or abs(factor) < 1e-6:
            return ""
        unit = ", as if they were in bohr" if abs(factor * Bohr - 1) < 0.02 else ""
        return f": its displacements are {factor:.3f} times those of this supercell{unit}"


def match_atoms(atoms: Atoms, output: Atoms) -> tuple[NDArray, float]:
    """Find each atom in another list of atoms of the same cell.

    Parameters
    ----------
    atoms, output : ase.Atoms

    Returns
    -------
    order : (n_atoms,) index in ``output`` of every atom
    distance : largest distance between partners, angstrom; infinite if cells or elements differ
    """
    order = numpy.arange(len(atoms))
    if sorted(atoms.numbers) != sorted(output.numbers):
        return order, numpy.inf
    if numpy.abs(atoms.cell.array - output.cell.array).max() > AGREEMENT_ANGSTROM:
        return order, numpy.inf
    difference = atoms.get_scaled_positions()[:, None] - output.get_scaled_positions()[None]
    distances = numpy.linalg.norm((difference - difference.round()) @ atoms.cell.array, axis=2)
    distances[atoms.numbers[:, None] != output.numbers[None]] = numpy.inf
    order = distances.argmin(axis=1)
    if len(set(order)) < len(order):
        return order, numpy.inf
    return order, float(distances[numpy.arange(len(atoms)), order].max())


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> CollectedEngine:
    """Return the engine; ``threads`` and ``folder`` are not used, nothing is calculated."""
    return CollectedEngine(settings["folder"])
