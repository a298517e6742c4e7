"""YAML files of phonopy and phono3py: params, disp and the files their runs leave.

Parsed by the safe loader (phonopy's own one would construct any Python object a file names), then understood by
phonopy's and phono3py's classes, which know all versions of the format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import spglib
import yaml

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.symmetry_search import find_dataset
from phonoscreen.crystal.units import COULOMB
from phonoscreen.formats.born import phonopy_atoms, phonopy_crystal
from phonoscreen.formats.compressed import first_text, read_text
from phonoscreen.formats.foreign import foreign

if TYPE_CHECKING:
    from phonopy.structure.atoms import PhonopyAtoms

LARGEST_CELL = 2000
"""Most atoms of a unit cell."""

LARGEST_SUPERCELL = 20000
"""Most atoms of a supercell: beyond, phonopy's own symmetry search takes days."""

DEEPEST = 12
"""Deepest nesting that phonopy writes is seven."""

_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|#[^\n]*")
_REFERENCE = re.compile(r"(?m)(?:^|[\s\[{,:-])[&*!][^\s,\]}]")
_FIX = "give phonopy's or phono3py's params or disp YAML"
_LENGTHS = ("displacement", "displacements", "pair_distance", "cutoff_distance")


@dataclass
class PhonopyFile:
    """What a YAML file of phonopy or phono3py says.

    Parameters
    ----------
    path : the file
    unit_cell : ``phonopy.structure.atoms.PhonopyAtoms``
    supercell_matrix : (3, 3) integers, the columns' convention of phonopy
    phonon_supercell_matrix : (3, 3) integers of phono3py's own supercell for the second order, or None
    primitive_matrix : (3, 3), or "auto" where the file has none, as phonopy and phono3py take it
    dataset, phonon_dataset : displacements, perhaps with forces, in phonopy's form, or None
    nac_params : dict with ``born`` and ``dielectric`` of the primitive cell, or None
    tolerance_angstrom : the tolerance of symmetry that the file was made with
    three_phonon : whether the file is phono3py's
    distance_angstrom, force_ev_per_angstrom : units of the file and of forces beside it, which its calculator decides;
        1 after ``convert``
    nac_factor : e^2/(4 pi epsilon_0) in its units
    """

    path: Path
    unit_cell: PhonopyAtoms
    supercell_matrix: numpy.ndarray
    phonon_supercell_matrix: numpy.ndarray | None
    primitive_matrix: numpy.ndarray | str
    dataset: dict | None
    phonon_dataset: dict | None
    nac_params: dict | None
    tolerance_angstrom: float
    three_phonon: bool
    distance_angstrom: float = 1.0
    force_ev_per_angstrom: float = 1.0
    nac_factor: float = COULOMB

    def convert(self) -> None:
        """Bring crystal, displacements and forces to angstrom and eV/angstrom."""
        length, force = self.distance_angstrom, self.force_ev_per_angstrom
        crystal = phonopy_crystal(self.unit_cell)
        crystal.cell *= length
        self.unit_cell = phonopy_atoms(crystal)
        self.tolerance_angstrom *= length
        units = {"forces": force} | dict.fromkeys(_LENGTHS, length)
        for dataset in filter(None, (self.dataset, self.phonon_dataset)):
            firsts = dataset.get("first_atoms", [])
            for own in [dataset, *firsts, *(second for first in firsts for second in first.get("second_atoms", ()))]:
                for name in units.keys() & own.keys():
                    if own[name] is not None:
                        own[name] = numpy.asarray(own[name], float) * units[name]
        self.distance_angstrom = self.force_ev_per_angstrom = 1.0

    def n_supercell_atoms(self, phonon: bool = False) -> int:
        """Atoms of the supercell, or of the one for the second order where it is another."""
        own = self.phonon_supercell_matrix if phonon and self.phonon_supercell_matrix is not None else None
        matrix = self.supercell_matrix if own is None else own
        return len(self.unit_cell) * abs(round(numpy.linalg.det(matrix)))


def looks_like_phonopy(path: str | Path) -> bool:
    """Whether the beginning of a file is that of a YAML file of phonopy or phono3py."""
    head = first_text(path)
    return bool(re.search(r"(?m)^(phonopy|phono3py|unit_cell|supercell_matrix|primitive_matrix):", head))


def read_phonopy_file(path: str | Path) -> PhonopyFile:
    """Read a YAML file of phonopy or phono3py, also compressed.

    Parameters
    ----------
    path : for example ``phonopy_params.yaml``, ``phono3py_params.yaml.xz``, ``phono3py_disp.yaml``

    Raises
    ------
    StudyError
        If the file is damaged, lacks the unit cell or the supercell matrix, was made with an unknown calculator, or
        holds what these programs never write (references, tags, thousands of atoms).
    """
    from phono3py.interface.phono3py_yaml import load_phono3py_yaml
    from phonopy.interface.phonopy_yaml import load_phonopy_yaml

    tree = _tree(path)
    if "unit_cell" not in tree or "supercell_matrix" not in tree:
        raise StudyError(f"{path} cannot be read: no unit_cell or supercell_matrix", fix=_FIX)
    three_phonon = "phono3py" in tree or "displacement_pairs" in tree or "phonon_supercell_matrix" in tree
    header = tree.get("phono3py") or tree.get("phonopy") or {}
    with foreign(f"{path} cannot be read", _FIX):
        _check_sizes(tree, path)
        units = _units(header.get("calculator"), path)
        content: Any = (load_phono3py_yaml if three_phonon else load_phonopy_yaml)(tree)
        tolerance = float(header.get("symmetry_tolerance") or 1e-5)
    if getattr(content, "site_mixture_scheme", None) is not None:
        raise StudyError(f"{path} describes mixed sites", fix="give a crystal in which every site holds one element")
    if not 1e-12 < tolerance < 0.5:
        raise StudyError(f"{path}: symmetry_tolerance is {tolerance}", fix="correct it; phonopy's own is 1e-5")
    with foreign(f"{path} cannot be used", _FIX):
        _check_equivalent(content.unitcell, tolerance, path)
    primitive = content.primitive_matrix
    return PhonopyFile(
        Path(path), content.unitcell, content.supercell_matrix, getattr(content, "phonon_supercell_matrix", None),
        "auto" if primitive is None else primitive, content.dataset, getattr(content, "phonon_dataset", None),
        content.nac_params, tolerance, three_phonon, units.distance_to_A, units.force_to_eVperA, units.nac_factor,
    )  # fmt: skip


def _units(calculator, path):
    """Units of the files that phonopy makes for a calculator."""
    from phonopy.physical_units import get_calculator_physical_units

    try:
        return get_calculator_physical_units(calculator)
    except ValueError as error:
        raise StudyError(
            f"{path} was made for {calculator!r}, a calculator that phonopy does not know: its units are unknown",
            fix="correct the line 'calculator', or convert the file and the forces beside it to angstrom and "
            "eV/angstrom and take the lines 'calculator' and 'physical_unit' out",
        ) from error


def _check_equivalent(cell, tolerance, path):
    """Refuse masses, magnetic moments and numbered symbols with less symmetry than the elements.

    The symmetry used here is that of the elements, and a primitive cell would forget what tells its atoms apart.
    """
    crystal = phonopy_crystal(cell)
    species = cell.totuple(distinguish_symbol_index=True)
    numbered = len(set(species[2])) > len(set(crystal.numbers))
    moments = cell.magnetic_moments is not None and cell.magnetic_moments.any()
    if not moments and not numbered and len(set(crystal.masses)) <= len(set(crystal.numbers)):
        return
    try:
        all_operations = len(find_dataset(crystal, tolerance).rotations)  # refuses masses
    except StudyError as error:
        raise StudyError(f"{path}: {error.what}", fix=error.fix) from error
    if not moments and not numbered:
        return
    if moments:
        found = spglib.get_magnetic_symmetry(species, symprec=tolerance)
    else:
        found = spglib.get_symmetry(species[:3], symprec=tolerance)
    kept = 0 if found is None else len(found["rotations"])
    if kept < all_operations:
        what = " and ".join(["magnetic moments"] * bool(moments) + ["numbers after the symbols"] * numbered)
        raise StudyError(
            f"{path}: the {what} leave {kept} of the {all_operations} symmetry operations of the crystal: the symmetry "
            "used here is that of the elements",
            fix="take them out of the file if the forces have the symmetry of the elements",
        )


def _tree(path: str | Path) -> dict:
    """The file as nested dicts and lists, nothing else."""
    text = read_text(path)
    bare = _QUOTED.sub("", text)
    found = _REFERENCE.search(bare)
    if found:
        raise StudyError(f"{path} holds {found[0].strip()!r}: anchors, references and tags are not read", fix=_FIX)
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", bare):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEEPEST:
            break
    if depth > DEEPEST or re.search(rf"(?m)^ {{{8 * DEEPEST},}}\S|(?:- ){{{DEEPEST}}}|(?:\? ){{{DEEPEST}}}", bare):
        raise StudyError(f"{path} is nested more deeply than phonopy's files", fix=_FIX)
    try:
        tree = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise StudyError(f"{path} cannot be read: {str(error)[:300]}", fix=_FIX) from error
    if not isinstance(tree, dict):
        raise StudyError(f"{path} cannot be read: not a YAML mapping", fix=_FIX)
    return tree


def _check_sizes(tree: dict, path: str | Path) -> None:
    """Refuse cells and matrices that phonopy would try to build for days."""
    cell = tree["unit_cell"]
    points = cell.get("points") or cell.get("atoms") or []
    lattice = numpy.array(cell["lattice"], float)
    if lattice.shape != (3, 3) or not numpy.isfinite(lattice).all() or abs(numpy.linalg.det(lattice)) < 1e-3:
        raise StudyError(f"{path}: the lattice {lattice.tolist()} spans no cell", fix=_FIX)
    for name in ("supercell_matrix", "phonon_supercell_matrix"):
        if name not in tree:
            continue
        matrix = numpy.array(tree[name], float)
        if matrix.shape != (3, 3) or not (numpy.abs(matrix) < 1e4).all() or (matrix != numpy.rint(matrix)).any():
            raise StudyError(f"{path}: {name} is not a matrix of 3 by 3 integers", fix=_FIX)
        n = len(points) * abs(round(numpy.linalg.det(matrix)))
        if not 0 < len(points) <= LARGEST_CELL or not 0 < n <= LARGEST_SUPERCELL:
            raise StudyError(
                f"{path}: {len(points)} atoms in the unit cell, {n} in the supercell; between 1 and {LARGEST_CELL}, "
                f"and up to {LARGEST_SUPERCELL} are read", fix=_FIX,
            )  # fmt: skip
    numbers = [*lattice.ravel(), *(x for point in points for x in (point.get("coordinates") or point.get("position")))]
    if not numpy.isfinite(numpy.array(numbers, float)).all():
        raise StudyError(f"{path}: the unit cell holds values that are not finite", fix=_FIX)
