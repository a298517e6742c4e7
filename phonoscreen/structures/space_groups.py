"""Space groups as databases write them: numbers, Hermann-Mauguin symbols, or both."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import spglib


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
    value : such as ``225``, ``"225"``, ``"Fm-3m"``, ``"P6_3mc"``, ``"Fm-3m (225)"``
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = re.sub(r"[\s_]", "", str(value)[:60])
    number = re.fullmatch(r"(?:.*\()?(\d{1,3})\)?", text)
    if number:
        return int(number[1]) if 1 <= int(number[1]) <= 230 else None
    return _numbers().get(text)
