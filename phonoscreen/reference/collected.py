"""Outputs that already exist: a folder per structure with extended XYZ files (forces) or VASP outputs.

``<folder>/<structure id>/`` holds any number of ``*.extxyz`` and ``vasprun*.xml`` files, in subfolders too, and perhaps
phonopy's file ``BORN`` for the primitive cell. A supercell finds its forces by its displacements: cell, elements and
positions must agree within 1e-4 angstrom, the atoms may come in another order.
"""

from pathlib import Path

import numpy
from ase.io import read

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import file_name
from phonoscreen.io.displacements import read_born
from phonoscreen.lattice.constants import Crystal
from phonoscreen.reference.engine import check_results

AGREEMENT_ANGSTROM = 1e-4


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

    kind, relaxes = "collected", False

    def __init__(self, folder):
        if not folder or not Path(folder).is_dir():
            raise StudyError(
                f"no folder {folder!r} of existing outputs", where="reference/collected/folder",
                fix="name a folder with one folder per structure id",
            )  # fmt: skip
        self._folder = Path(folder)
        self._read = {}
        self.name = f"existing outputs in {self._folder.name}"

    def _outputs(self, structure_id):
        if structure_id not in self._read:
            folder = self._folder / file_name(structure_id)
            files = sorted([*folder.rglob("*.extxyz"), *folder.rglob("vasprun*.xml*")])
            if not files:
                raise StudyError("no outputs", where=str(folder), fix="put *.extxyz or vasprun*.xml files there")
            # One structure at a time is kept: outputs of large supercells fill the memory otherwise.
            self._read = {structure_id: [atoms for file in files for atoms in _frames(file)]}
        return self._read[structure_id]

    def forces(self, atoms, label):
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom of the output with these positions."""
        structure_id = label.rsplit("/", 1)[0]
        outputs, nearest = self._outputs(structure_id), numpy.inf
        for output in outputs:
            order, distance = match_atoms(atoms, output)
            nearest = min(nearest, distance)
            if distance <= AGREEMENT_ANGSTROM:
                forces = output.get_forces()[order]
                return check_results(output.get_potential_energy(), forces, len(atoms), label)
        closest = "none has its cell" if nearest == numpy.inf else f"the nearest differs by {nearest:.4f} angstrom"
        raise StudyError(
            f"none of {len(outputs)} outputs belongs to this supercell; {closest}", where=label,
            fix="calculate the supercells of results/supercells, with the same seed and relaxed cell",
        )  # fmt: skip

    def charges(self, atoms, structure_id):
        """Return Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) of a primitive cell, or None.

        They are read from phonopy's file ``BORN`` in the structure's folder, if there is one.
        """
        path = self._folder / file_name(structure_id) / "BORN"
        return read_born(path, Crystal.from_ase(atoms)) if path.exists() else None

    def evaluate(self, atoms, label):
        """Raise: existing outputs cannot relax a structure."""
        raise StudyError("existing outputs cannot relax a structure", where=label)


def match_atoms(atoms, output):
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


def _frames(file):
    try:
        frames = read(file, index=":", format="extxyz" if file.suffix == ".extxyz" else "vasp-xml")
        for frame in frames:
            frame.get_forces()
        return frames
    except Exception as error:  # readers of foreign files raise anything
        raise StudyError(f"forces cannot be read: {error}", where=str(file), fix="repeat or remove it") from error
