"""Space group, formula type and standard primitive cell of a structure; geometry from a formula and a structure type.

The class of a structure (one of the 16 of Table 1 of Rodriguez et al., Commun. Mater. 4, 61 (2023)) is found from its
atoms by spglib (Togo, Shinohara and Tanaka, Sci. Technol. Adv. Mater. Methods 4, 2384822 (2024)), never from a name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy
import yaml
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.formula import Formula

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.crystal.pairs import periodic_pairs
from phonoscreen.crystal.symmetry_search import search_symmetry
from phonoscreen.formats.hidden_content import own_masses, set_masses
from phonoscreen.structures.formulas import formula_of, parse_formula

if TYPE_CHECKING:
    from pathlib import Path

# Rows are the primitive lattice vectors in spglib's conventional ones, by the letter of the centring.
_PRIMITIVE = {
    "F": numpy.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "I": numpy.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
    "A": numpy.array([[2, 0, 0], [0, 1, 1], [0, -1, 1]]) / 2,
    "C": numpy.array([[1, -1, 0], [1, 1, 0], [0, 0, 2]]) / 2,
    "R": numpy.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3,
}


@dataclass
class Classified:
    """A structure in its standard primitive cell.

    Parameters
    ----------
    atoms : idealised primitive cell in spglib's standard setting, ase.Atoms
    space_group_number : 1 to 230
    formula_type : for example ``"ABC2D6"``
    """

    atoms: Atoms
    space_group_number: int
    formula_type: str

    @property
    def prototype(self) -> str:
        """Class of Table 1, for example ``"225-ABC2D6"``."""
        return f"{self.space_group_number}-{self.formula_type}"

    @property
    def formula(self) -> str:
        """Reduced formula, electropositive elements first (``phonoscreen.structures.formulas``)."""
        return formula_of(self.atoms.numbers, own_masses(self.atoms))


def read_prototypes(path: str | Path) -> dict[str, Any]:
    """Return ``resources/prototypes.yaml``: ``classes`` (list of names) and ``structure_types``."""
    with open(path) as stream:
        return yaml.safe_load(stream)


def _reduced_counts(numbers):
    counts = Counter(int(z) for z in numbers)
    divisor = reduce(math.gcd, counts.values())
    ordered = sorted(counts.items(), key=lambda item: (item[1], chemical_symbols[item[0]]))
    return [(chemical_symbols[z], n // divisor) for z, n in ordered]


def formula_type(numbers: Iterable[int]) -> str:
    """Anonymous reduced formula: letters by rising count, for example ``"ABC2D6"`` (``generic`` of the OQMD)."""
    counts = [count for _, count in _reduced_counts(numbers)]
    return str(Formula.from_dict(dict(zip(ascii_uppercase, counts, strict=False))))


def classify(atoms: Atoms, tolerance_angstrom: float) -> Classified:
    """Find space group and formula type and symmetrise to the standard primitive cell.

    Sites rounded by a database are moved to their exact symmetric places.

    Parameters
    ----------
    atoms : ase.Atoms, any periodic cell; masses that are not the natural ones are kept
    tolerance_angstrom : largest distance between an atom and its symmetric image

    Returns
    -------
    Classified

    Raises
    ------
    StudyError
        If the geometry is refused by ``check_geometry``, or spglib finds no symmetry.
    """
    check_geometry(atoms)
    given = Crystal(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, atoms.get_masses())
    dataset, message = search_symmetry(given, tolerance_angstrom)
    if dataset is None:
        raise StudyError(f"spglib: {message or 'no symmetry found'}",
                         fix="check for overlapping atoms or lower the symmetry tolerance")  # fmt: skip
    lattice, positions, first = dataset.std_lattice, dataset.std_positions, numpy.arange(len(dataset.std_types))
    if (centring := _PRIMITIVE.get(dataset.international[0])) is not None:
        lattice, positions = centring @ lattice, positions @ numpy.linalg.inv(centring)
        _, first = numpy.unique(dataset.std_mapping_to_primitive, return_index=True)
    numbers, positions = numpy.unique(atoms.numbers)[dataset.std_types[first]], (positions[first] + 1e-9) % 1.0 - 1e-9
    rank = {symbol: place for place, (symbol, _) in enumerate(_reduced_counts(numbers))}
    order = numpy.argsort([rank[chemical_symbols[z]] for z in numbers], kind="stable")
    primitive = Atoms(numbers=numbers[order], cell=lattice, scaled_positions=positions[order], pbc=True)
    set_masses(primitive, own_masses(atoms))
    return Classified(primitive, int(dataset.number), formula_type(numbers))


def build_structure(formula: str, structure_type: str, structure_types: Mapping[str, Any]) -> Atoms:
    """Build a starting geometry from a formula and a structure type.

    The lattice constant makes the tightest pair of neighbours touch with the covalent radii of Cordero et al.,
    Dalton Trans. 2832 (2008), as tabulated in ase; relaxation follows.

    Parameters
    ----------
    formula : elements in the order of the structure type's sites, for example ``"KIrCs2Cl6"``
    structure_type : name in ``structure_types``, for example ``"225-ABC2D6"``
    structure_types : mapping of ``resources/prototypes.yaml``

    Returns
    -------
    ase.Atoms, primitive cell

    Raises
    ------
    StudyError
        If the structure type is unknown or the formula does not fit it.
    """
    if structure_type not in structure_types:
        raise StudyError(
            f"unknown structure type {structure_type!r}", where=formula, fix=f"use one of {', '.join(structure_types)}"
        )
    parts, sites = parse_formula(formula), structure_types[structure_type]["sites"]
    if len(parts) != len(sites):
        raise StudyError(f"{len(parts)} elements, {len(sites)} sites in {structure_type}", where=formula)
    site, cell, scaled = _ideal_cell(structure_type, tuple(tuple(map(tuple, positions)) for positions in sites))
    numbers = numpy.array([atomic_numbers[symbol] for symbol, _ in parts])[site]
    atoms = Atoms(numbers=numbers, cell=cell, scaled_positions=scaled, pbc=True)
    expected = formula_of(Atoms([symbol for symbol, n in parts for _ in range(n)]).numbers)
    if formula_of(atoms.numbers) != expected:
        raise StudyError(f"the formula does not have the composition of {structure_type}", where=formula)
    one, other, vectors, _ = periodic_pairs(atoms.cell.array, atoms.get_scaled_positions(), 1.01)  # all neighbours
    radii = covalent_radii[atoms.numbers]
    lattice_constant = float(((radii[one] + radii[other]) / numpy.linalg.norm(vectors, axis=1)).max())
    atoms.set_cell(atoms.cell * lattice_constant, scale_atoms=True)
    return Atoms(numbers=atoms.numbers, cell=atoms.cell, scaled_positions=atoms.get_scaled_positions(), pbc=True)


@lru_cache(maxsize=64)
def _ideal_cell(structure_type, sites):
    """Site of each atom, cell and fractional positions of the primitive cell with a lattice constant of 1 angstrom."""
    from ase.spacegroup import crystal

    numbers = [1 + place for place, positions in enumerate(sites) for _ in positions]
    space_group = int(structure_type.split("-")[0])
    atoms = crystal(
        numbers, [position for positions in sites for position in positions], spacegroup=space_group,
        setting=2 if space_group == 227 else 1, cellpar=[1, 1, 1, 90, 90, 90], primitive_cell=True,
    )  # fmt: skip
    return atoms.numbers - 1, atoms.cell.array, atoms.get_scaled_positions()
