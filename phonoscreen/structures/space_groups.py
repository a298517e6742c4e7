"""Space groups as databases write them: numbers, Hermann-Mauguin symbols, or both."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import spglib
from ase import Atoms

from phonoscreen.crystal.space_group_names import standard_symbol

TRIED_ANGSTROM = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2)
"""Tolerances at which a space group that somebody else found is looked for."""


def symbol_of(number: int) -> str:
    """Return the short Hermann-Mauguin symbol of a space group, for example ``"Fm-3m"`` of 225."""
    return {number: symbol for symbol, number in reversed(_numbers().items())}[number]


@cache
def _numbers():
    """Numbers of the space groups by the spellings of their symbols in all settings, blanks and underscores left out.

    The first spelling of a number is that of its standard setting.
    """
    found: dict[str, int] = {}
    for hall in range(1, 531):
        kind: Any = spglib.get_spacegroup_type(hall)
        for symbol in (kind.international_short, kind.international.split("=")[0], kind.international_full):
            found.setdefault(re.sub(r"[\s_]", "", symbol), int(kind.number))
    return found


def space_group_number(value: Any) -> int | None:
    """Return the number that a database means, None for what is no space group.

    Parameters
    ----------
    value : such as ``225``, ``"225"``, ``"Fm-3m"``, ``"P6_3mc"``, ``"Fm-3m (225)"``, ``"Fm3m"``, ``"F d -3 m :2"``
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = re.sub(r"[\s_]", "", str(value)[:60])
    number = re.fullmatch(r"(?:.*\()?(\d{1,3})\)?", text)
    if number:
        return int(number[1]) if 1 <= int(number[1]) <= 230 else None
    return _numbers().get(text) or _numbers().get(standard_symbol(text.split(":")[0]) or "")


def disagreement(atoms: Atoms, number: int, said: int, tolerance_angstrom: float) -> str:
    """Return why a crystal has another space group than its source says, "" where both agree.

    Parameters
    ----------
    atoms : the crystal as it came
    number : space group found within ``tolerance_angstrom``
    said : space group that the source states
    tolerance_angstrom : of the study
    """
    if number == said:
        return ""
    begin = f"{symbol_of(number)} ({number}) within {tolerance_angstrom:g} angstrom, its source says "
    begin += f"{symbol_of(said)} ({said}), "
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = [one for one in TRIED_ANGSTROM if _number_within(cell, one) == said]
    if found:
        way = "a larger" if min(found) > tolerance_angstrom else "a smaller"
        return begin + f"which is found with {way} tolerance: {', '.join(f'{one:g}' for one in found)} angstrom"
    tried = f"{TRIED_ANGSTROM[0]:g} to {TRIED_ANGSTROM[-1]:g} angstrom"
    return begin + f"which is not found with any tolerance from {tried}"


def _number_within(cell, tolerance):
    try:
        dataset: Any = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    except spglib.SpglibError:
        return None
    return None if dataset is None else int(dataset.number)
