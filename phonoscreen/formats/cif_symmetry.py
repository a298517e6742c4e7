"""The space group of a CIF: its operations where they are listed, else its name with setting and origin.

ASE looks a group up by its number in its first setting whatever the name says (``F d -3 m :2`` gives 16 atoms, not 8),
and takes listed operations for granted beside a name that contradicts them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy
import spglib
from ase.spacegroup import Spacegroup
from ase.spacegroup.spacegroup import SpacegroupError, spacegroup_from_data

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.space_group_names import standard_symbol

if TYPE_CHECKING:
    from ase import Atoms
    from ase.cell import Cell
    from ase.io.cif import CIFBlock

_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz")
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number", "_space_group.it_number")
_NAMES = ("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group.name_h-m_full",
          "_symmetry.space_group_name_h-m")  # fmt: skip
_HALL = ("_symmetry_space_group_name_hall", "_space_group_name_hall", "_space_group.name_hall")
_SUFFIX = re.compile(r"\s*(?::\s*([12HRSZhrsz])|\s([SZHR])|(?<=[a-z0-9])([SZHR]))$")
_SETTINGS = {"1": 1, "S": 1, "H": 1, "2": 2, "Z": 2, "R": 2}
_RHOMBOHEDRAL, _MONOCLINIC = (146, 148, 155, 160, 161, 166, 167), range(3, 16)  # their cell shows the setting
_SYMMETRY_ANGSTROM = 0.1  # coordinates written with three decimals


@dataclass(frozen=True)
class StatedGroup:
    """What a CIF says about its space group.

    Parameters
    ----------
    number : of the International Tables, 1 where the file says nothing that is understood
    name : as it is written, or the number
    setting : 1 or 2 of ASE's tables, None where the file does not say it
    known : whether number or name were understood
    """

    number: int
    name: str
    setting: int | None
    known: bool


def listed_operations(block: CIFBlock) -> list[str]:
    """Return the symmetry operations that a block of a CIF lists, or those of its Hall symbol, as texts."""
    listed = [one for tag in _OPERATIONS for one in _texts(block, tag)]
    setting, _ = (None, None) if listed else _hall_numbers().get(_spaceless(_hall_symbol(block)), (None, None))
    return listed if setting is None else _operations_of_hall(setting)


def stated_group(block: CIFBlock) -> StatedGroup:
    """Return the space group that a block of a CIF names.

    Raises
    ------
    StudyError
        If name and number are those of different groups.
    """
    numbers = {int(text) for tag in _NUMBERS for text in _texts(block, tag) if re.fullmatch(r"\d{1,3}", text.strip())}
    numbers = {number for number in numbers if 1 <= number <= 230}
    names = [text.strip() for tag in _NAMES for text in _texts(block, tag) if text.strip(" ?.")]
    settings, groups = zip(*map(_setting_and_group, names)) if names else ((), ())
    setting, named = next(filter(None, settings), None), next(filter(None, groups), None)
    hall = _hall_symbol(block)
    _, group = _hall_numbers().get(_spaceless(hall), (None, None))
    name = next(iter(names), hall)
    known = numbers | {one.no for one in groups if one}
    known |= set() if group is None else {group}
    if len(known) > 1:
        listed = ", ".join(str(number) for number in sorted(known))
        raise StudyError(f"space group {name!r} and the file's number or Hall symbol are different groups: {listed}",
                         fix="correct name, number or Hall symbol")  # fmt: skip
    number = next(iter(known), 1)
    if named and setting is None and not _two_settings(number):
        setting = named.setting
    if not known:
        name = name or _not_understood(block)
    return StatedGroup(number, name or f"number {number}", setting, bool(known))


def space_group(stated: StatedGroup, operations: list[str], cell: Cell) -> Spacegroup:
    """Return the space group that makes the crystal of the listed sites.

    Parameters
    ----------
    stated : what the file says
    operations : listed in the file; they decide where there are some
    cell : ase.cell.Cell

    Raises
    ------
    StudyError
        If none are listed and the group is unknown, or has two origins and the file does not say which one is meant.
    """
    if operations:
        group = spacegroup_from_data(no=1, setting=1, sitesym=operations, subtrans=[(0.0, 0.0, 0.0)])
        _check_closed(group)
        return group
    if not stated.known and stated.name != "number 1":
        raise StudyError(f"space group {stated.name!r} is not known", fix="list the symmetry operations in the file")
    setting = stated.setting
    if setting is None and stated.number in _RHOMBOHEDRAL:
        setting = 2 if numpy.ptp(cell.lengths()) < 1e-3 and numpy.ptp(cell.angles()) < 1e-3 else 1
    elif setting is None and stated.number in _MONOCLINIC:
        setting = 2 if abs(cell.angles()[2] - 90) > 1e-3 else 1
    if setting is None and _two_settings(stated.number):
        raise StudyError(
            f"space group {stated.name!r} has two settings in the tables, and the file lists no operations",
            fix="list the symmetry operations, or say which origin (F d -3 m :1 or :2)",
        )
    try:
        return Spacegroup(stated.number, setting or 1)
    except SpacegroupError as error:
        raise StudyError(f"space group {stated.name!r} has no such setting", fix="list the operations") from error


def _check_closed(group: Spacegroup) -> None:
    """Refuse listed operations whose products are not all listed: some of them are missing."""
    rotations, shifts = (numpy.array(one) for one in zip(*group.get_symop()))

    def keys(turns, moves):
        whole = numpy.rint(numpy.asarray(moves) * 144).astype(int) % 144
        return {turn.astype(int).tobytes() + move.tobytes() for turn, move in zip(turns, whole)}

    known = keys(rotations, shifts)
    for rotation, shift in zip(rotations, shifts):
        if not keys(rotation @ rotations, shifts @ rotation.T + shift) <= known:
            raise StudyError(f"the {len(known)} symmetry operations that are listed are no group: some are missing",
                             fix="list all operations, or the space group alone")  # fmt: skip


def check_symmetry(atoms: Atoms, group: Spacegroup, stated: StatedGroup) -> None:
    """Refuse atoms that have less symmetry than the file's operations, or than the group that it names.

    Raises
    ------
    StudyError
        Naming both.
    """
    if len(atoms) > 500 or not numpy.isfinite(atoms.positions).all():
        return
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        found = spglib.get_symmetry_dataset(cell, symprec=_SYMMETRY_ANGSTROM)
    except spglib.SpglibError:
        found = None
    if found is None:
        return
    operations = len({(rotation.tobytes(), tuple(numpy.rint(48 * shift).astype(int) % 48))
                      for rotation, shift in group.get_symop()})  # fmt: skip
    if len(found.rotations) < operations:
        raise StudyError(
            f"the atoms have {len(found.rotations)} symmetry operations, the file's space group {operations}",
            fix="correct space group, setting or cell",
        )
    named = Spacegroup(stated.number)
    rotations = {rotation.tobytes() for rotation in found.rotations}
    translations = len(found.rotations) // len(rotations)
    lost = len({r.tobytes() for r, _ in named.get_symop()}) > len(rotations) or len(named.subtrans) > translations
    if found.number != stated.number and lost:
        raise StudyError(
            f"the file names space group {stated.name!r} ({stated.number}), its sites and operations make "
            f"{found.international} ({found.number})", fix="correct the name, the operations or the sites",
        )  # fmt: skip


def _setting_and_group(name):
    """Return the setting that a name says, 1, 2 or None, and its group, None if it is not understood."""
    suffix = _SUFFIX.search(name)
    setting = _SETTINGS[next(filter(None, suffix.groups())).upper()] if suffix else None
    return setting, _by_name(name[: suffix.start()] if suffix else name)


def _not_understood(block):
    """Return what a block says about symmetry under other tags, "" for nothing: such a crystal is not one of P 1."""
    for tag, value in block.items():
        if tag.startswith(("_space_group", "_symmetry")) and not tag.endswith("_id"):
            text = " ".join(map(str, value if isinstance(value, list) else [value]))[:60]
            if text.strip(" ?.") and text.lower() not in ("triclinic", "x,y,z", "x, y, z"):
                return f"{tag} {text}"
    return ""


def _by_name(name):
    """Return the group of a Hermann-Mauguin symbol, full, short or old (``P 1 21/c 1``, ``Fm3m``), None if of none."""
    words = name.replace("_", "").split()
    short = [word for word in words if word != "1"]
    texts = (" ".join(words), " ".join(short if len(words) == 4 else words), standard_symbol(name))
    for text in dict.fromkeys(filter(None, texts)):
        try:
            return Spacegroup(text)
        except (SpacegroupError, ValueError, KeyError, IndexError):
            continue
    return None


def _hall_symbol(block):
    return next((text.strip() for tag in _HALL for text in _texts(block, tag) if text.strip(" ?.")), "")


def _spaceless(symbol):
    """Return a Hall symbol as it is compared: quotes of other kinds, underscores, capitals and spaces do not count."""
    return re.sub(r"[\s_]", "", symbol.replace('"', "=").replace("''", "=").replace("′", "'")).lower()


@lru_cache(maxsize=1)
def _hall_numbers():
    """Return {Hall symbol: (number of the setting in spglib's tables, number of the space group)}."""
    kinds = ((number, spglib.get_spacegroup_type(number)) for number in range(1, 531))
    return {_spaceless(kind.hall_symbol): (number, kind.number) for number, kind in kinds if kind is not None}


def _operations_of_hall(number):
    """Return the operations of a Hall symbol as a CIF would list them."""
    found, texts = spglib.get_symmetry_from_database(number), []
    if found is None:
        raise ValueError(f"spglib has no setting {number}")
    for rotation, shift in zip(found["rotations"], found["translations"]):
        parts = []
        for row, move in zip(rotation, shift):
            letters = "".join(f"{'+' if n > 0 else '-'}{axis}" for n, axis in zip(row, "xyz") if n)
            parts.append(f"{letters}+{Fraction(float(move)).limit_denominator(48)}")
        texts.append(",".join(parts))
    return texts


def _two_settings(number):
    """Whether the tables hold two settings of a group under one symbol."""
    try:
        return Spacegroup(number, 2).symbol == Spacegroup(number, 1).symbol
    except SpacegroupError:
        return False


def _texts(block, tag):
    value = block.get(tag)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [str(one) for one in values]
