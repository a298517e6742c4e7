"""Displaced supercells and their forces from the files of other programs.

Whatever cell and supercell matrix a file was made with, it is turned into a primitive cell and its repetitions
(``phonoscreen.lattice.primitive``), in the atom order of ``ase.Atoms.repeat``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.io.number_files import read_text
from phonoscreen.lattice.constants import Crystal
from phonoscreen.lattice.dipoles import check_tensors
from phonoscreen.lattice.primitive import repeated_primitive
from phonoscreen.lattice.supercell import supercell_cells, supercell_order
from phonoscreen.lattice.symmetry import PHONOPY_TOLERANCE_ANGSTROM, TOLERANCE_ANGSTROM
from phonoscreen.transport.units import COULOMB

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.I)


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
    """

    crystal: Crystal
    repetitions: tuple
    displacements: numpy.ndarray
    forces: numpy.ndarray
    born: numpy.ndarray | None = None
    dielectric: numpy.ndarray | None = None
    symmetry_tolerance_angstrom: float = TOLERANCE_ANGSTROM


def read_phonopy_yaml(path, tolerance_angstrom=PHONOPY_TOLERANCE_ANGSTROM):
    """Read a YAML file of phonopy or phono3py, also compressed with xz.

    Displacements of all atoms at once, of single atoms, and of pairs are understood. Forces that the file lacks are
    taken from FORCE_SETS or FORCES_FC3 beside it.

    Parameters
    ----------
    path : for example ``phonopy_params.yaml``, ``phono3py_params.yaml.xz``, ``phono3py_disp.yaml``
    tolerance_angstrom : of the crystal's symmetry

    Returns
    -------
    DisplacedSupercells

    Raises
    ------
    StudyError
        If there are no forces, or the units are not angstrom and eV.
    """
    from phono3py.interface.phono3py_yaml import Phono3pyYaml
    from phonopy.interface.phonopy_yaml import PhonopyYaml

    content = None
    for reader in (Phono3pyYaml, PhonopyYaml):
        try:
            content = reader().read(path)
            if content.dataset is not None and content.supercell_matrix is not None:
                break
        except Exception as error:  # foreign files fail in many ways; the next reader may know them
            failure = error
    if content is None or content.unitcell is None or content.supercell_matrix is None:
        reason = failure if content is None else "no unit cell or supercell matrix"
        raise StudyError(f"{path} cannot be read: {reason}", fix="give phonopy's or phono3py's params or disp YAML")
    if content.calculator not in (None, "vasp"):
        raise StudyError(
            f"{path} was made with {content.calculator}; its units are not angstrom and eV",
            fix="convert it with phonopy's unit conversion, or give extended XYZ",
        )
    supercell = _phonopy_supercell(content.unitcell, content.supercell_matrix)
    displacements, forces = _dataset(path, content.dataset, len(supercell))
    data = _arranged(_crystal(content.unitcell), supercell, displacements, forces, tolerance_angstrom)
    if content.nac_params is not None and content.primitive is not None:
        from phonopy.structure.cells import get_primitive

        theirs = get_primitive(supercell, numpy.linalg.inv(content.supercell_matrix) @ content.primitive_matrix)
        data.born = _charges_of(data.crystal, _crystal(theirs), numpy.array(content.nac_params["born"]))
        data.dielectric = numpy.array(content.nac_params["dielectric"])
    return data


def read_force_sets(path, unit_cell, supercell_matrix, tolerance_angstrom=PHONOPY_TOLERANCE_ANGSTROM):
    """Read phonopy's FORCE_SETS, of single displaced atoms or of all atoms.

    Parameters
    ----------
    path : text file
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
    from phonopy.file_IO import parse_FORCE_SETS
    from phonopy.structure.dataset import get_displacements_and_forces

    matrix = numpy.array(supercell_matrix)
    supercell = _phonopy_supercell(phonopy_atoms(unit_cell), matrix if matrix.ndim == 2 else numpy.diag(matrix))
    try:
        dataset = parse_FORCE_SETS(filename=path, natom=len(supercell))
        displacements, forces = get_displacements_and_forces(dataset)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error}", fix="give phonopy's FORCE_SETS") from error
    except Exception as error:  # phonopy raises whatever its parser stumbles over
        raise StudyError(
            f"{path} is cut or not for a supercell of {len(supercell)} atoms: {error}",
            fix="give the unit cell and the supercell matrix (DIM) of the file",
        ) from error
    return _arranged(unit_cell, supercell, displacements, forces, tolerance_angstrom)


def read_snapshots(path, crystal, snapshots, tolerance_angstrom=TOLERANCE_ANGSTROM):
    """Displaced supercells as ``ase.Atoms`` with forces, atoms in any order.

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
    crystal, repetitions = repeated_primitive(crystal, snapshots[0].cell.array, tolerance_angstrom)
    cell = crystal.cell * numpy.array(repetitions)[:, None]
    perfect = (supercell_cells(repetitions)[:, None] + crystal.scaled_positions).reshape(-1, 3) / repetitions
    displacements, forces = [], []
    for number, atoms in enumerate(snapshots):
        if atoms.calc is None or "forces" not in atoms.calc.results:
            raise StudyError(f"supercell {number} of {path} has no forces", fix="write extended XYZ with forces")
        order = supercell_order(crystal, repetitions, atoms.cell, atoms.positions, atoms.numbers)
        # in units of the supercell's vectors: those of the file may differ from the symmetrised ones by rounding
        same = numpy.rint(atoms.cell.array @ numpy.linalg.inv(cell))
        scaled = (atoms.positions[order] @ numpy.linalg.inv(atoms.cell.array)) @ same - perfect
        displacements.append((scaled - numpy.rint(scaled)) @ cell)
        forces.append(atoms.get_forces()[order])
    return DisplacedSupercells(
        crystal, repetitions, numpy.array(displacements), numpy.array(forces),
        symmetry_tolerance_angstrom=tolerance_angstrom,
    )  # fmt: skip


def read_born(path, crystal, unit_cell=None, tolerance_angstrom=PHONOPY_TOLERANCE_ANGSTROM):
    """Read phonopy's BORN file: Born charges of the inequivalent atoms and the dielectric tensor.

    Parameters
    ----------
    path : text file
    crystal : ``Crystal`` whose charges are wanted, primitive
    unit_cell : ``Crystal`` whose primitive cell the file is for, if its atoms are in another order
    tolerance_angstrom : of the symmetry of ``unit_cell``

    Returns
    -------
    born : (n_atoms, 3, 3), units of e, first index the field
    dielectric : (3, 3)

    Raises
    ------
    StudyError
        If the file is not for this crystal, or holds what no crystal has (not finite, a charge beyond 1000 e, a
        dielectric tensor that is not symmetric and positive, another unit than e^2/(eV angstrom)).
    """
    from phonopy.file_IO import parse_BORN

    from phonoscreen.lattice.primitive import primitive_crystal

    theirs = primitive_crystal(unit_cell, tolerance_angstrom) if unit_cell is not None else crystal
    _check_born(path)
    try:
        charges = parse_BORN(phonopy_atoms(theirs), filename=path)
    except Exception as error:  # phonopy raises whatever its parser stumbles over
        raise StudyError(
            f"{path} is not a BORN file of this crystal: {error}",
            fix="write it with phonopy-vasp-born: one line for the dielectric tensor, one per inequivalent atom",
        ) from error
    return _charges_of(crystal, theirs, numpy.array(charges["born"])), numpy.array(charges["dielectric"])


def _check_born(path):
    """Raise StudyError on numbers that phonopy would symmetrise or pass on."""
    lines = [(k, line.split()) for k, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    tensors = []
    for line, words in lines[1:]:
        if len(words) != 9 or not all(_NUMBER.fullmatch(word) for word in words):
            raise StudyError(f"{path}, line {line}: {' '.join(words)[:60]!r} is not nine numbers",
                             fix="write it with phonopy-vasp-born: one line for the dielectric tensor, one per "
                             "inequivalent atom")  # fmt: skip
        tensors.append(numpy.array(words, float).reshape(3, 3))
    if len(tensors) < 2:
        raise StudyError(f"{path} holds {len(tensors)} tensors", fix="write it with phonopy-vasp-born")
    first = lines[0][1][0]
    if _NUMBER.fullmatch(first) and not abs(float(first) / COULOMB - 1) < 0.01:
        raise StudyError(f"{path}, line 1: the factor {first} is not that of eV and angstrom, {COULOMB:.4f}",
                         fix=f"convert the file to units of e, and write {COULOMB:.4f} there")  # fmt: skip
    check_tensors(numpy.array(tensors[1:]), tensors[0], where=str(path))


def _dataset(path, dataset, n_super):
    """Displacements and forces of phonopy's and phono3py's datasets."""
    from phono3py.file_IO import parse_FORCES_FC3
    from phono3py.phonon3.dataset import get_displacements_and_forces_fc3
    from phonopy.file_IO import parse_FORCE_SETS
    from phonopy.structure.dataset import get_displacements_and_forces

    folder, dataset = Path(path).parent, dataset or {}
    pairs = any("second_atoms" in first for first in dataset.get("first_atoms", ()))
    if pairs and "forces" not in dataset["first_atoms"][0] and (folder / "FORCES_FC3").exists():
        parse_FORCES_FC3(dataset, folder / "FORCES_FC3")
    elif not pairs and (folder / "FORCE_SETS").exists() and not _has_forces(dataset):
        dataset = parse_FORCE_SETS(filename=folder / "FORCE_SETS", natom=n_super)
    if not _has_forces(dataset):
        raise StudyError(
            f"{path} holds no displacements with forces, and none lie beside it",
            fix="save it with forces (phonopy --sp, phono3py --sp), or put FORCE_SETS or FORCES_FC3 beside it",
        )
    return (get_displacements_and_forces_fc3 if pairs else get_displacements_and_forces)(dataset)


def _has_forces(dataset):
    return "forces" in dataset or any("forces" in first for first in dataset.get("first_atoms", ()))


def _arranged(unit_cell, supercell, displacements, forces, tolerance_angstrom):
    """In the order of the primitive cell's repetitions."""
    crystal, repetitions = repeated_primitive(unit_cell, supercell.cell, tolerance_angstrom)
    order = supercell_order(crystal, repetitions, supercell.cell, supercell.positions, supercell.numbers)
    return DisplacedSupercells(
        crystal, repetitions, displacements[:, order], forces[:, order], symmetry_tolerance_angstrom=tolerance_angstrom
    )


def _charges_of(crystal, theirs, born):
    """Born charges of one primitive cell for the atoms of another one of the same crystal."""
    places = theirs.scaled_positions @ theirs.cell @ numpy.linalg.inv(crystal.cell)
    step = crystal.scaled_positions[:, None] - places[None]
    distance = numpy.linalg.norm((step - numpy.rint(step)) @ crystal.cell, axis=2)
    if len(places) != len(crystal.numbers) or distance.min(axis=1).max() > 0.05:
        raise StudyError("the Born charges belong to another crystal", fix="give the charges of the primitive cell")
    return born[distance.argmin(axis=1)]


def _phonopy_supercell(unit_cell, matrix):
    from phonopy.structure.cells import get_supercell

    return get_supercell(unit_cell, matrix)


def phonopy_atoms(crystal):
    """``PhonopyAtoms`` of a ``Crystal``."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, masses=crystal.masses
    )


def _crystal(cell):
    """``Crystal`` of phonopy's atoms."""
    return Crystal(cell.cell.copy(), cell.scaled_positions.copy(), cell.numbers.copy(), cell.masses.copy())
