"""The door of ``phonoscreen fit``: a crystal and its displaced supercells with forces, from files of any program."""

from dataclasses import dataclass
from pathlib import Path

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.primitive import repeated_primitive
from phonoscreen.crystal.symmetry import PHONOPY_TOLERANCE_ANGSTROM, TOLERANCE_ANGSTROM
from phonoscreen.formats.alamode import read_dfset
from phonoscreen.formats.compressed import find, plain_name
from phonoscreen.formats.displacements import (
    DisplacedSupercells,
    read_born,
    read_force_sets,
    read_frames_of,
    read_phonopy,
)
from phonoscreen.formats.frames import read_frames
from phonoscreen.formats.hiphive import read_container
from phonoscreen.formats.labelled import check_one_setting
from phonoscreen.formats.recognise import (
    CONTAINER,
    DFSET,
    FORCE_SETS,
    FRAMES,
    PHONOPY,
    TDEP,
    files_like,
    members,
    recognise,
)
from phonoscreen.formats.tdep import read_tdep

STRUCTURES = ("POSCAR-unitcell", "POSCAR_unitcell", "POSCAR", "unitcell.vasp", "infile.ucposcar", "SPOSCAR")
"""Names of the crystal in a folder that is given alone."""

BESIDE_YAML = ("FORCES_FC", "FORCE_SETS", "BORN")


@dataclass
class FitInput:
    """What a user gives.

    Parameters
    ----------
    structure : file of the crystal, or a folder or YAML file that holds everything
    forces : files and folders
    supercell : integers of the supercell matrix (3 or 9), or the name of a file with the perfect supercell, or None
    born : BORN file, or None
    forces_name : name of the array of forces, or None
    tolerance_angstrom : of symmetry, or None for that of the kind of file
    """

    structure: str
    forces: list
    supercell: list | None = None
    born: str | None = None
    forces_name: str | None = None
    tolerance_angstrom: float | None = None


def read_fit_input(given: FitInput) -> DisplacedSupercells:
    """Read the crystal and its displaced supercells.

    Parameters
    ----------
    given : ``FitInput``

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If a file cannot be read or recognised, files do not belong together, or options are missing.
    """
    paths = [Path(path) for path in given.forces or [given.structure]]
    kinds = [recognise(path) for path in paths]
    unit_cell = _unit_cell(given, paths, kinds)
    if PHONOPY in kinds:
        data = _phonopy(given, paths, kinds, unit_cell)
    else:
        if len(set(kinds)) > 1:
            listed = ", ".join(f"{path} ({kind})" for path, kind in zip(paths, kinds))
            raise StudyError(f"the files are of several kinds: {listed}", fix="give files of one program at a time")
        if unit_cell is None:
            raise StudyError(f"{paths[0]} does not say which crystal was repeated",
                             fix="give the crystal first: phonoscreen fit POSCAR FORCES")  # fmt: skip
        data = (
            _force_sets(given, paths, unit_cell) if kinds[0] == FORCE_SETS else _frames(given, paths, kinds, unit_cell)
        )
    _check_supercell(given, data, unit_cell)
    born = given.born or (find(paths[0], "BORN") if paths[0].is_dir() and data.born is None else None)
    if born is not None:
        tolerance = data.symmetry_tolerance_angstrom
        data.born, data.dielectric = read_born(born, data.crystal, unit_cell, tolerance)
        if data.second_order is not None:
            data.second_order.born, data.second_order.dielectric = read_born(born, data.second_order.crystal, unit_cell,
                                                                             tolerance)  # fmt: skip
        data.used.append(Path(born).name)
    return data


def _unit_cell(given, paths, kinds):
    """The crystal from the structure's file, or from the folder of the data; None where the data alone are given."""
    if given.forces:
        path = Path(given.structure)
        if path.is_dir():
            path = find(path, *STRUCTURES) or path
        elif path.is_file() and PHONOPY in kinds and _is_yaml(path):
            return None
        return Crystal.from_ase(_one_structure(path))
    if kinds[0] == PHONOPY or not paths[0].is_dir():
        return None
    found = find(paths[0], *STRUCTURES)
    return None if found is None else Crystal.from_ase(_one_structure(found))


def _is_yaml(path):
    return recognise(path) == PHONOPY


def _one_structure(path: str | Path) -> Atoms:
    """The crystal of a file, through the one door of crystals."""
    from phonoscreen.formats.structure_files import read_crystal

    return read_crystal(path)


def _phonopy(given, paths, kinds, unit_cell):
    """Data of phonopy and phono3py; the structure must be the crystal of the YAML file."""
    other = [path for path, kind in zip(paths, kinds)
             if kind not in (PHONOPY, FORCE_SETS) and not plain_name(path).startswith(BESIDE_YAML)]  # fmt: skip
    if other:
        raise StudyError(f"{', '.join(map(str, other))} cannot be combined with files of phonopy",
                         fix="give files of one program at a time")  # fmt: skip
    if given.forces and Path(given.structure).is_file() and unit_cell is None:
        paths = [Path(given.structure), *paths]
    data = read_phonopy(paths, given.tolerance_angstrom)
    if unit_cell is not None:
        _check_same(given, data, unit_cell)
    return data


def _force_sets(given, paths, unit_cell):
    """phonopy's FORCE_SETS, which do not say their supercell."""
    paths = [file for path in paths for file in (files_like(path, FORCE_SETS) if path.is_dir() else [path])]
    if len(paths) > 1:
        raise StudyError(f"{len(paths)} FORCE_SETS are given", fix="give one FORCE_SETS")
    matrix = given.supercell
    if matrix is None:
        raise StudyError(f"{paths[0]} does not say its supercell",
                         fix="give --supercell with phonopy's DIM, or phonopy_disp.yaml instead")  # fmt: skip
    tolerance = given.tolerance_angstrom or PHONOPY_TOLERANCE_ANGSTROM
    if not _integers(matrix):
        supercell = _one_structure(matrix[0])
        matrix = _order_of_phonopy(supercell, matrix[0], unit_cell)
    return read_force_sets(paths[0], unit_cell, _matrix(matrix), tolerance)


def _order_of_phonopy(supercell: Atoms, name: str, unit_cell: Crystal) -> list[int]:
    """Return the matrix of a perfect supercell whose atoms stand in phonopy's order, which is that of FORCE_SETS."""
    from phonopy.structure.cells import get_supercell

    from phonoscreen.formats.born import phonopy_atoms

    exact = numpy.array(supercell.cell.array) @ numpy.linalg.inv(unit_cell.cell)
    matrix = numpy.rint(exact).astype(int)
    fix = "give the SPOSCAR that phonopy wrote, or phonopy's DIM"
    if numpy.abs((exact - matrix) @ unit_cell.cell).max() > 0.05 or not round(abs(numpy.linalg.det(matrix))):
        raise StudyError("its vectors are not lattice vectors of the crystal", where=name, fix=fix)
    expected = get_supercell(phonopy_atoms(unit_cell), matrix.T)
    if len(expected) == len(supercell) and numpy.array_equal(expected.numbers, supercell.numbers):
        steps = supercell.get_scaled_positions() - expected.scaled_positions
        if numpy.linalg.norm((steps - numpy.rint(steps)) @ expected.cell, axis=1).max() < 0.1:
            return matrix.T.ravel().tolist()
    raise StudyError("its atoms are not those of phonopy's supercell in the same order", where=name, fix=fix)


def _frames(given, paths, kinds, unit_cell):
    """Structures with forces, from files of any kind that hold them."""
    frames, used, kind = [], [], kinds[0]
    if kind == DFSET:
        supercell = _perfect(given, unit_cell)
        paths = [file for path in paths for file in (files_like(path, DFSET) if path.is_dir() else [path])]
    for path in paths:
        if kind == TDEP:
            folder = path if path.is_dir() else path.parent
            if folder.name in used:
                continue
            frames += read_tdep(folder)
            used.append(folder.name)
            continue
        for file in members(path) if path.is_dir() else [path]:
            if kind == DFSET:
                frames += read_dfset(file, supercell)
            elif kind == CONTAINER:
                frames += read_container(file)
            elif kind == FRAMES:
                frames += read_frames(file, given.forces_name)
            used.append(file.name)
    check_one_setting([frame.atoms for frame in frames])
    data = read_frames_of(unit_cell, frames, given.tolerance_angstrom or TOLERANCE_ANGSTROM)
    data.used = used
    return data


def _perfect(given: FitInput, unit_cell: Crystal) -> Atoms:
    """Perfect supercell of a DFSET: a file, repetitions of the crystal, or the crystal itself."""
    supercell = given.supercell
    if supercell is not None and not _integers(supercell):
        return _one_structure(supercell[0])
    atoms = Atoms(numbers=unit_cell.numbers, cell=unit_cell.cell, scaled_positions=unit_cell.scaled_positions, pbc=True)
    if supercell is None:
        return atoms
    matrix = _matrix(supercell)
    if matrix.ndim == 2:
        raise StudyError("the order of the atoms of a DFSET does not follow from nine integers",
                         fix="give the perfect supercell as a file: --supercell SPOSCAR")  # fmt: skip
    return atoms.repeat(tuple(int(n) for n in matrix))


def _integers(words: list) -> bool:
    return all(isinstance(word, int) or str(word).lstrip("+-").isdigit() for word in words)


def _matrix(words):
    """Supercell matrix of the command line: (3,) or (3, 3) integers."""
    if not _integers(words) or len(words) not in (3, 9):
        raise StudyError(f"--supercell {' '.join(map(str, words))} is no supercell matrix",
                         fix="give 3 or 9 integers (phonopy's DIM), or the file of the perfect supercell")  # fmt: skip
    matrix = numpy.array([int(word) for word in words])
    matrix = matrix if len(words) == 3 else matrix.reshape(3, 3)
    cells = abs(numpy.linalg.det(numpy.diag(matrix) if matrix.ndim == 1 else matrix))
    if not 0.5 < cells < 1e4 or (matrix.ndim == 1 and matrix.min() < 1):
        raise StudyError(f"--supercell {' '.join(map(str, words))} holds {cells:.0f} cells",
                         fix="give the supercell matrix that the forces were calculated with")  # fmt: skip
    return matrix


def _check_supercell(given: FitInput, data: DisplacedSupercells, unit_cell: Crystal | None) -> None:
    """A supercell that is given though the data say their own must be the same."""
    if given.supercell is None:
        return
    own = data.crystal.cell * numpy.array(data.repetitions)[:, None]
    if not _integers(given.supercell):
        cell = _one_structure(given.supercell[0]).cell.array
    elif unit_cell is None:
        return
    else:
        matrix = _matrix(given.supercell)
        cell = (numpy.diag(matrix) if matrix.ndim == 1 else matrix.T) @ unit_cell.cell
    change = cell @ numpy.linalg.inv(own)
    whole = numpy.rint(change)
    if numpy.abs(change - whole).max() > 1e-2 or abs(round(numpy.linalg.det(whole))) != 1:
        raise StudyError(
            f"--supercell is {numpy.round(cell, 3).tolist()}, the data have {numpy.round(own, 3).tolist()}",
            fix="leave --supercell out: these files say it themselves",
        )


def _check_same(given: FitInput, data: DisplacedSupercells, unit_cell: Crystal) -> None:
    """The structure must be the crystal of the YAML file."""
    from phonoscreen.crystal.matching import SupercellSites

    crystal = data.crystal
    try:
        own, repetitions = repeated_primitive(unit_cell, crystal.cell, data.symmetry_tolerance_angstrom)
        places = crystal.scaled_positions @ crystal.cell
        _, off = SupercellSites(own, repetitions).displacements(crystal.cell, places, crystal.numbers, "its cell")
        if numpy.linalg.norm(off, axis=1).max() > 0.1:
            raise StudyError(f"atoms differ by {numpy.linalg.norm(off, axis=1).max():.2f} angstrom")
    except StudyError as error:
        raise StudyError(
            f"{given.structure} is not the crystal of {given.forces[0]}: {error.what}",
            fix="give the cell that the YAML file calls unit_cell",
        ) from error
