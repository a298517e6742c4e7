"""Displaced supercells and their forces from the files of other programs.

Whatever cell and supercell matrix a file was made with, it is turned into a primitive cell and its repetitions
(``phonoscreen.crystal.primitive``), in the atom order of ``ase.Atoms.repeat``. Kinds of files are recognised by
``phonoscreen.formats.recognise``; ``phonoscreen.formats.fit_input`` reads any mixture of them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.geometry import check_forces
from phonoscreen.crystal.matching import SupercellSites
from phonoscreen.crystal.primitive import repeated_primitive
from phonoscreen.crystal.symmetry import PHONOPY_TOLERANCE_ANGSTROM, TOLERANCE_ANGSTROM
from phonoscreen.formats.born import charges_in_order, phonopy_atoms, phonopy_crystal, read_born
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.frames import Frame, forces_of
from phonoscreen.formats.phonopy_data import force_sets, has_forces
from phonoscreen.formats.phonopy_folder import PhonopyFolder, choose_files

__all__ = [
    "DisplacedSupercells", "displaced_supercells", "phonopy_atoms", "read_born", "read_force_sets", "read_frames_of",
    "read_phonopy", "read_phonopy_yaml", "read_snapshots",
]  # fmt: skip

UNDISPLACED_ANGSTROM = 1e-4
"""Where no atom is farther from its site the supercell is undisplaced; coordinates have four decimals or more."""

PERFECT_ANGSTROM = 0.1
"""Farthest that atoms of a perfect supercell are from the sites of its crystal, when two files hold them."""


@dataclass
class DisplacedSupercells:
    """What a fit of force constants needs of one crystal.

    Parameters
    ----------
    crystal : ``Crystal``, primitive
    repetitions : (3,) integers of the supercell
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom
    born : (n_atoms, 3, 3) Born effective charges in units of e, first index the field, or None
    dielectric : (3, 3) high-frequency dielectric tensor, or None
    symmetry_tolerance_angstrom : within which the space group of the crystal was found
    residual_forces : (n_supercell_atoms, 3) of the undisplaced supercell where it is among the data, or None
    second_order : ``DisplacedSupercells`` of a supercell of its own for the second order (FORCES_FC2), or None
    folder : ``PhonopyFolder`` of phono3py's pair displacements, or None
    used : names of the files read
    """

    crystal: Crystal
    repetitions: tuple
    displacements: NDArray
    forces: NDArray
    born: NDArray | None = None
    dielectric: NDArray | None = None
    symmetry_tolerance_angstrom: float = TOLERANCE_ANGSTROM
    residual_forces: NDArray | None = None
    second_order: "DisplacedSupercells | None" = None
    folder: PhonopyFolder | None = None
    used: list = field(default_factory=list)

    def distinct(self) -> "DisplacedSupercells":
        """Without what a fit must not see twice: pairs of displacements that coincide, or cancel to none.

        phono3py's pairs are made by symmetry, and so it happens that two of them are the same supercell, or that the
        second displacement takes the first one back.
        """
        flat = numpy.round(self.displacements.reshape(len(self.displacements), -1), 7)
        kept = numpy.sort(numpy.unique(flat, axis=0, return_index=True)[1])
        kept = kept[numpy.abs(self.displacements[kept]).max(axis=(1, 2)) > 1e-8]
        return DisplacedSupercells(**vars(self) | {"displacements": self.displacements[kept],
                                                   "forces": self.forces[kept]})  # fmt: skip


def read_phonopy_yaml(path: str | Path, tolerance_angstrom: float | None = None) -> DisplacedSupercells:
    """Read a YAML file of phonopy or phono3py, also compressed; forces that it lacks from the files beside it.

    Parameters
    ----------
    path : for example ``phonopy_params.yaml``, ``phono3py_params.yaml.xz``, ``phono3py_disp.yaml``
    tolerance_angstrom : of the crystal's symmetry; by default that of the file

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If there are no forces, or the units are unknown.
    """
    return read_phonopy([path], tolerance_angstrom)


def read_phonopy(paths: list, tolerance_angstrom: float | None = None) -> DisplacedSupercells:
    """Read a folder or files of phonopy or phono3py: displacements of single atoms, of pairs, or of all atoms.

    Parameters
    ----------
    paths : as for ``phonoscreen.formats.phonopy_folder.choose_files``
    tolerance_angstrom : of the crystal's symmetry; by default that of the YAML file

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If no files fit together, or they are damaged.
    """
    return displaced_supercells(choose_files(paths), tolerance_angstrom)


def displaced_supercells(chosen: PhonopyFolder, tolerance_angstrom: float | None = None) -> DisplacedSupercells:
    """Return the displaced supercells of a folder of phonopy or phono3py, whose forces stand in its datasets.

    Parameters
    ----------
    chosen : of ``phonoscreen.formats.phonopy_folder.choose_files``
    tolerance_angstrom : of the crystal's symmetry; by default that of the YAML file

    Raises
    ------
    StudyError
        If its files are damaged.
    """
    from phonopy.structure.cells import get_primitive, get_supercell

    from phonoscreen.formats.phono3py_constants import charges_of

    file, fix = chosen.file, "give a YAML file as phonopy or phono3py writes it"
    tolerance = tolerance_angstrom or file.tolerance_angstrom
    unit_cell = phonopy_crystal(file.unit_cell)
    sets = [(file.supercell_matrix, file.dataset)]
    if file.phonon_supercell_matrix is not None and has_forces(file.phonon_dataset):
        sets.append((file.phonon_supercell_matrix, file.phonon_dataset))
    found = []
    for matrix, dataset in sets:
        with foreign(f"{file.path} cannot be used", fix):
            supercell = get_supercell(file.unit_cell, matrix)
            displacements, forces = _of_dataset(dataset)
        found.append(_arranged(str(file.path), unit_cell, supercell, displacements, forces, tolerance))
    data = found[0]
    data.used, data.second_order = chosen.used, found[1] if len(found) > 1 else None
    if any(first.get("second_atoms") for first in (file.dataset or {}).get("first_atoms", ())):
        data.folder = chosen
    if file.nac_params is not None or chosen.born is not None:
        with foreign(f"{file.path} cannot be used", fix):
            primitive = file.primitive_matrix
            if isinstance(primitive, str):
                primitive = _guessed_primitive(file)
            theirs = get_primitive(supercell, numpy.linalg.inv(matrix) @ primitive)
            charges = charges_of(file, chosen.born, theirs)
        assert charges is not None  # one of the two sources is there
        for own in found:
            own.born = charges_in_order(own.crystal, phonopy_crystal(theirs), charges["born"])
            own.dielectric = charges["dielectric"]
    return data


def read_force_sets(
    path: str | Path,
    unit_cell: Crystal,
    supercell_matrix: ArrayLike,
    tolerance_angstrom: float = PHONOPY_TOLERANCE_ANGSTROM,
) -> DisplacedSupercells:
    """Read phonopy's FORCE_SETS, of single displaced atoms or of all atoms.

    Parameters
    ----------
    path : text file, also compressed
    unit_cell : ``Crystal``, the cell the supercell was made from
    supercell_matrix : (3,) or (3, 3) integers, as phonopy's DIM
    tolerance_angstrom : of the crystal's symmetry

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If the file is cut or for another supercell.
    """
    from phonopy.structure.cells import get_supercell

    matrix = numpy.array(supercell_matrix)
    with foreign("the supercell cannot be made", "give the supercell matrix (DIM) of the file"):
        supercell = get_supercell(phonopy_atoms(unit_cell), matrix if matrix.ndim == 2 else numpy.diag(matrix))
    displacements, forces = _of_dataset(force_sets(path, len(supercell)))
    data = _arranged(str(path), unit_cell, supercell, displacements, forces, tolerance_angstrom)
    data.used = [Path(path).name]
    return data


def read_frames_of(
    crystal: Crystal, frames: list[Frame], tolerance_angstrom: float = TOLERANCE_ANGSTROM
) -> DisplacedSupercells:
    """Displaced supercells from structures with forces, atoms in any order, at any origin.

    Parameters
    ----------
    crystal : ``Crystal`` that was repeated, primitive or not
    frames : list of ``phonoscreen.formats.frames.Frame`` of one supercell
    tolerance_angstrom : of the crystal's symmetry

    Returns
    -------
    DisplacedSupercells; an undisplaced supercell among the frames gives the residual forces

    Raises
    ------
    StudyError
        If a supercell is not one of the crystal.
    """
    if not frames:
        raise StudyError("there are no supercells", fix="give displaced supercells with forces")
    crystal, repetitions = repeated_primitive(crystal, frames[0].atoms.cell.array, tolerance_angstrom)
    sites = SupercellSites(crystal, repetitions)
    displacements, forces, residual = [], [], []
    for frame in frames:
        order, own = sites.displacements(
            frame.atoms.cell.array, frame.atoms.positions, frame.atoms.numbers, frame.where
        )
        if numpy.linalg.norm(own, axis=1).max() < UNDISPLACED_ANGSTROM:
            residual.append(frame.forces[order])
            continue
        displacements.append(_without_rounding(own))
        forces.append(frame.forces[order])
    if not displacements:
        raise StudyError(f"nothing is displaced in any of {len(frames)} supercells", fix="give displaced supercells")
    return DisplacedSupercells(
        crystal, repetitions, numpy.array(displacements), numpy.array(forces),
        symmetry_tolerance_angstrom=tolerance_angstrom,
        residual_forces=numpy.mean(residual, axis=0) if residual else None,
    )  # fmt: skip


def read_snapshots(
    path: str | Path, crystal: Crystal, snapshots: list, tolerance_angstrom: float = TOLERANCE_ANGSTROM
) -> DisplacedSupercells:
    """Displaced supercells as ``ase.Atoms`` with forces.

    Parameters
    ----------
    path : name of their file, for messages
    crystal : ``Crystal`` that was repeated
    snapshots : list of ``ase.Atoms``
    tolerance_angstrom : of the crystal's symmetry

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If forces are missing or a supercell is not one of the crystal.
    """
    names = [f"supercell {number} of {path}" for number in range(len(snapshots))]
    frames = [Frame(atoms, forces_of(atoms, name), name) for atoms, name in zip(snapshots, names)]
    return read_frames_of(crystal, frames, tolerance_angstrom)


def _without_rounding(displacements):
    """Displacements of one supercell; where a single atom is displaced, the rounding of all others is taken off."""
    lengths = numpy.linalg.norm(displacements, axis=1)
    others = numpy.delete(lengths, lengths.argmax())
    if len(others) and others.max() < min(UNDISPLACED_ANGSTROM, 0.02 * lengths.max()):
        displacements = numpy.where((lengths == lengths.max())[:, None], displacements, 0.0)
    return displacements


def _of_dataset(dataset):
    """Displacements and forces of phonopy's and phono3py's datasets, checked."""
    from phono3py.phonon3.dataset import get_displacements_and_forces_fc3
    from phonopy.structure.dataset import get_displacements_and_forces

    pairs = any("second_atoms" in first for first in dataset.get("first_atoms", ()))
    displacements, forces = (get_displacements_and_forces_fc3 if pairs else get_displacements_and_forces)(dataset)
    displacements, forces = numpy.asarray(displacements, float), numpy.asarray(forces, float)
    if displacements.shape != forces.shape or displacements.ndim != 3 or displacements.shape[2] != 3:
        raise StudyError(f"displacements have the shape {displacements.shape}, forces {forces.shape}",
                         fix="write the file again")  # fmt: skip
    if not numpy.isfinite(displacements).all():
        raise StudyError("displacements are not finite numbers", fix="write the file again")
    check_forces(forces)
    return displacements, forces


def _arranged(where, unit_cell, supercell, displacements, forces, tolerance_angstrom):
    """In the order of the primitive cell's repetitions."""
    if displacements.shape[1] != len(supercell):
        raise StudyError(f"{where} holds displacements of {displacements.shape[1]} atoms, the supercell has "
                         f"{len(supercell)}", fix="write the file again")  # fmt: skip
    crystal, repetitions = repeated_primitive(unit_cell, supercell.cell, tolerance_angstrom)
    sites = SupercellSites(crystal, repetitions)
    order, off = sites.displacements(
        supercell.cell, supercell.positions, supercell.numbers, f"the supercell of {where}"
    )
    if numpy.linalg.norm(off, axis=1).max() > PERFECT_ANGSTROM:
        raise StudyError(f"the supercell of {where} is not one of the crystal", fix="give the crystal it was made from")
    return DisplacedSupercells(
        crystal, repetitions, displacements[:, order], forces[:, order], symmetry_tolerance_angstrom=tolerance_angstrom
    )


def _guessed_primitive(file):
    """Primitive matrix that phonopy guesses, or the unit cell itself if the charges are for all its atoms."""
    from phonopy.structure.cells import guess_primitive_matrix

    if file.nac_params is not None and len(file.nac_params["born"]) == len(file.unit_cell):
        return numpy.eye(3)
    return guess_primitive_matrix(file.unit_cell, symprec=file.tolerance_angstrom)
