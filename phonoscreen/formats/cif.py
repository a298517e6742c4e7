"""Crystallographic information files, block by block, by ASE; what its reader guesses or drops is looked for first.

Refused: partial occupancy and disorder, magnetic and modulated structures, symbols that are not those of elements, and
a result that contradicts the file's own formula, number of formula units, volume, density or symmetry (``NA`` read as
N, hydrogen without coordinates, a setting of the space group that was misunderstood, sites without the operations that
make the whole cell of them).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

import numpy
from ase.data import atomic_numbers, covalent_radii
from ase.io.cif import parse_cif
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.cif_symmetry import check_symmetry, listed_operations, space_group, stated_group

if TYPE_CHECKING:
    from ase import Atoms

DEUTERIUM_U, TRITIUM_U = 2.01410178, 3.01604928  # atomic masses, AME2020
_U_PER_ANGSTROM3 = 1.66053907  # g/cm^3, CODATA 2018
_SITES_MAX, _OPERATIONS_MAX, _IMAGES_MAX = 500, 400, 50_000
ALONE, EMPTY = 1.6, 0.15
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?![A-Za-z])")


def cif_structures(stream: TextIO, atoms_max: int) -> Iterator[tuple[str, Atoms | StudyError]]:
    """Yield the name of every block with a structure and its atoms or a StudyError.

    Parameters
    ----------
    stream : text
    atoms_max : largest number of atoms
    """
    if not re.match(r"(\s*(#.*)?\n)*\s*data_", head := stream.read(), re.IGNORECASE):
        raise StudyError("no CIF: it does not begin with data_", fix="give a CIF as a text in UTF-8")
    for number, block in enumerate(parse_cif(io.StringIO(head))):
        if not any(tag.startswith(("_atom_site_fract", "_atom_site_cartn", "_atom_site_label", "_atom_site_type"))
                   for tag in block):  # fmt: skip
            continue
        try:
            yield str(number), _structure(block, atoms_max)
        except StudyError as error:
            yield str(number), error
        except Exception as error:  # ASE's reader raises anything
            text = " ".join(str(error).split())[:200] or type(error).__name__
            yield str(number), StudyError(f"cannot be read: {text}", fix="correct the file, or write it anew")


def _structure(block, atoms_max):
    _check_whole_atoms(block)
    _check_coordinates(block)
    _check_magnetism(block)
    sites = _list(block, "_atom_site_type_symbol") or _list(block, "_atom_site_label")
    symbols = [_symbol(site) for site in sites]
    operations = listed_operations(block)
    if len(sites) > _SITES_MAX or len(operations) > _OPERATIONS_MAX or len(sites) * len(operations) > _IMAGES_MAX:
        raise StudyError(f"{len(sites)} sites and {len(operations)} operations", fix="give the primitive cell")
    if "T" in symbols:
        raise StudyError("T is tritium", fix=f"write H and its mass {TRITIUM_U} in an extended XYZ file")
    cell = block.get_cell()
    if not (numpy.isfinite(cell.array).all() and cell.rank == 3):
        raise StudyError("no cell of three independent vectors", fix="give lengths and angles of the cell")
    stated = stated_group(block)
    group = space_group(stated, operations, cell)
    listed = block.get_unsymmetrized_structure()
    atoms = crystal(listed, spacegroup=group, setting=group.setting)
    if len(atoms) > atoms_max:
        raise StudyError(f"{len(atoms)} atoms", fix=f"give the primitive cell, up to {atoms_max} atoms")
    _check_shared_places(listed, group, atoms)
    _check_formula(block, atoms)
    check_symmetry(atoms, group, stated)
    if "D" in symbols:
        masses = atoms.get_masses()
        masses[(atoms.numbers == 1) & (masses > 1.5)] = DEUTERIUM_U
        atoms.set_masses(masses)
    _check_size(block, atoms)
    if not stated.known and not operations:
        _check_whole_cell(atoms)
    return atoms


def _check_whole_cell(atoms):
    """Refuse atoms that look like the asymmetric unit alone, where the file says nothing of its symmetry.

    In 260 compounds of phonondb, crystals of molecules apart, no atom is farther from its nearest neighbour than 1.42
    times the sum of their covalent radii, and spheres of these radii fill at least 0.18 of the cell.
    """
    radii = covalent_radii[atoms.numbers]
    first, second, distance = neighbor_list("ijd", atoms, 2 * ALONE * float(radii.max()))
    near = numpy.bincount(first[distance < ALONE * (radii[first] + radii[second])], minlength=len(atoms)) > 0
    filled = 4 / 3 * numpy.pi * float((radii**3).sum()) / atoms.cell.volume
    if near.all() and filled > EMPTY:
        return
    what = f"the atoms fill {filled:.2f} of the cell"
    if not near.all():
        what = f"{atoms.symbols[int(near.argmin())]} has no neighbour within {ALONE:g} times the covalent radii"
    raise StudyError(f"{what}, and the file states no symmetry: its sites look like the asymmetric unit alone",
                     fix="list operations or name the space group, which is 'P 1' if these are all")  # fmt: skip


def _list(block, tag):
    """Return the values of a tag as a list of texts, whether it stands in a loop or alone."""
    value = block.get(tag)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [str(one) for one in values]


def _symbol(text):
    """Return the element of ``Na1+`` or ``O2a`` as it is written; refuse what is longer than a symbol."""
    match = _SYMBOL.match(text)
    if not match or (match[1] not in atomic_numbers and match[1] not in ("D", "T")) or match[1] == "X":
        raise StudyError(f"{text[:20]!r} names no element", fix="give _atom_site_type_symbol: Na, not NA or Na1A")
    return match[1]


def _check_whole_atoms(block):
    for text in _list(block, "_atom_site_occupancy"):
        share = 1.0 if text in ("?", ".") else _number(text)
        if not abs(share - 1) < 1e-3:
            raise StudyError(f"a site is occupied by {text} of an atom: partial occupancy is no crystal of whole atoms",
                             fix="give an ordered crystal, one atom on every site")  # fmt: skip
    for tag in ("_atom_site_disorder_group", "_atom_site_disorder_assembly"):
        if set(_list(block, tag)) - {".", "?", "0"}:
            raise StudyError("sites belong to disordered groups", fix="give an ordered crystal")
    if any(_number(text) > 0 for text in _list(block, "_atom_site_attached_hydrogens")):
        raise StudyError("hydrogen atoms without coordinates", fix="give the coordinates of all atoms")
    if "dum" in _list(block, "_atom_site_calc_flag"):
        raise StudyError("dummy sites", fix="remove the sites that are no atoms")
    if any(_number(text) > 0 for text in _list(block, "_cell_modulation_dimension")):
        raise StudyError("a modulated structure", fix="give a periodic approximant")


def _check_coordinates(block):
    for tag in block:
        if not tag.startswith(("_atom_site_fract_", "_atom_site_cartn_")):
            continue
        for text in _list(block, tag):
            if math.isnan(_number(text)):
                raise StudyError(f"a site without coordinates: {tag} is {text[:20]!r}",
                                 fix="give the coordinates of all atoms, or remove the site")  # fmt: skip


def _check_shared_places(listed, group, atoms):
    """Refuse places that two elements share: of two sites at one place ASE keeps the first."""
    numbers, places = listed.numbers, listed.get_scaled_positions()
    orbits = [group.equivalent_sites(places[numbers == number], onduplicates="replace")[0]
              for number in set(numbers.tolist())]  # fmt: skip
    shared = sum(map(len, orbits)) - len(atoms)
    if shared > 0:
        raise StudyError(f"{shared} places of the cell are shared by two elements: no crystal of whole atoms",
                         fix="give an ordered crystal, one atom on every site")  # fmt: skip


def _check_magnetism(block):
    magnetic = [tag for tag in block if "magn" in tag or "_moment" in tag]
    values = [_number(text) for tag in magnetic if "_moment" in tag for text in _list(block, tag)]
    if any(math.isfinite(value) and value for value in values) or any("symop_magn" in tag for tag in magnetic):
        raise StudyError("a magnetic structure: all calculations here are non-magnetic",
                         fix="give the crystal without moments if it may be treated so")  # fmt: skip


def _check_formula(block, atoms):
    """The atoms must be those of the formula, as many times as the file says; without that number, a whole multiple.

    Some programs write the sum over the whole cell beside that number (``Na4 Cl4`` and 4).
    """
    stated, units = _formula(block), next(map(_number, _list(block, "_cell_formula_units_z")), math.nan)
    symbols = atoms.get_chemical_symbols()
    found = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    if stated:
        shares = [{s: n / sum(one.values()) for s, n in one.items()} for one in (stated, found)]
        agrees = shares[0].keys() == shares[1].keys() and all(abs(shares[0][s] - shares[1][s]) < 1e-3 for s in stated)
        times = len(atoms) / sum(stated.values())
        if math.isnan(units):
            agrees = agrees and times > 0.99 and _whole(times)
        else:
            agrees = agrees and (
                _near(times, units) or (_near(times, 1) and all(_whole(n / units) for n in stated.values()))
            )
    else:
        agrees = math.isnan(units) or all(_whole(n / units) for n in found.values())
    if not agrees:
        written = " ".join(f"{s}{n}" for s, n in found.items())
        formula = next(iter(_list(block, "_chemical_formula_sum")), "?")
        number = "" if math.isnan(units) else f" and {units:g} units of it in the cell"
        raise StudyError(f"the atoms are {written}, the file's formula is {formula!r}{number}",
                         fix="correct sites, formula or number, list the symmetry operations, or give coordinates such "
                         "as 1/3 with four digits or more")  # fmt: skip


def _formula(block):
    """Return {element: number} of the formula that a block states; {} where none is understood."""
    parts = re.findall(r"([A-Z][a-z]?)\s*(\d+\.?\d*|\.\d+)?(?![a-z])", " ".join(_list(block, "_chemical_formula_sum")))
    stated: dict[str, float] = {}
    for symbol, count in parts:
        symbol = "H" if symbol in ("D", "T") else symbol
        if symbol not in atomic_numbers:
            return {}  # not a formula
        stated[symbol] = stated.get(symbol, 0.0) + float(count or 1)
    return {symbol: count for symbol, count in stated.items() if count}


def _check_size(block, atoms):
    """Volume and density that the file states must be those of the cell and its atoms."""
    volume = atoms.cell.volume
    sizes = [("_cell_volume", "A^3", volume, 0.01), ("_exptl_crystal_density_diffrn", "g/cm^3",
              atoms.get_masses().sum() * _U_PER_ANGSTROM3 / volume, 0.1)]  # fmt: skip
    for tag, unit, found, tolerance in sizes:
        stated = next(map(_number, _list(block, tag)), math.nan)
        if abs(stated / found - 1) > tolerance:
            raise StudyError(f"{tag} is {stated:g} {unit}, cell and atoms make {found:.4g}",
                             fix="correct cell, sites or this entry, or list the symmetry operations")  # fmt: skip


def _whole(number):
    return math.isfinite(number) and _near(number, round(number))


def _near(one, other):
    return abs(one - other) <= 0.01 * abs(other)


def _number(text):
    """Return a number that may carry its uncertainty, ``0.5(1)``; NaN for what is none."""
    try:
        return float(text.split("(")[0])
    except ValueError:
        return math.nan
