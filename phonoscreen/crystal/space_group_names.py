"""Hermann-Mauguin symbols in every spelling: old, long, compact, in capitals, with brackets or bars over digits."""

import re
import unicodedata
from functools import cache
from typing import Any

import spglib

_RENAMED = {"abm2": "aem2", "aba2": "aea2", "cmca": "cmce", "cmma": "cmme", "ccca": "ccce"}
"""Symbols before and after 1992 (P. M. de Wolff et al., Acta Cryst. A 48, 727 (1992)), the same axes."""

LONGEST = 60
"""No symbol has more characters."""


def standard_symbol(text: str) -> str | None:
    """Return the short symbol, such as ``Fm-3m``, that a text means in the standard setting; None where it means none.

    Cubic symbols of the editions before 1952 to 1983 lack the bar: ``Fm3m`` is ``Fm-3m``. No symbol of today is
    written so, because ``3`` after a mirror or glide plane stands in cubic groups with an inversion alone.

    Parameters
    ----------
    text : without the choice of origin or axes
    """
    return _standard().get(_key(text))


def _key(text):
    """Return the one spelling under which a symbol is looked up."""
    text = unicodedata.normalize("NFKD", text[:LONGEST]).replace("\u2212", "-").replace("\u2013", "-")
    text = re.sub("([0-9])[\u0304\u0305]", r"-\1", text)  # a bar over the digit before it
    text = re.sub(r"\\?bar\s*\{?\s*([0-9])", r"-\1", text)  # \bar{3}, {bar 3}
    text = re.sub(r"[\s_$~{}\\]", "", text).lower()
    text = re.sub(r"([2346])\(([1-5])\)", r"\1\2", text)
    text = _RENAMED.get(text, text)
    return re.sub(r"^([pfi][mnacd])3(?=$|[mncd]$)", r"\1-3", text)


@cache
def _standard():
    """Return {key: short symbol} of the first setting of every space group in spglib's tables."""
    found: dict[str, str] = {}
    for hall in range(530, 0, -1):
        kind: Any = spglib.get_spacegroup_type(hall)
        before: Any = spglib.get_spacegroup_type(hall - 1) if hall > 1 else None
        if before is None or before.number != kind.number:
            short = kind.international_short.replace("_", "")
            for symbol in (kind.international_short, kind.international.split("=")[0], kind.international_full):
                found[_key(symbol)] = short
    return found
