"""Formulas as chemists write them: the one place where a composition becomes text, and text a composition."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, reduce

from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula
from pymatgen.core.periodic_table import Element

from phonoscreen.audit.errors import StudyError

ALKALI_METALS = (3, 11, 19, 37, 55, 87)
_DEUTERIUM_FROM_U = 1.9


def formula_of(numbers: Iterable[int], masses: Mapping[int, float] | None = None) -> str:
    """Return the reduced formula, the electropositive elements first: NaCl, Li3Sb, MgAl2O4, Cs2KIrCl6.

    Elements stand in the order of rising electronegativity on Pauling's scale, as pymatgen tabulates it. The alkali
    metals, whose values hardly differ, stand among themselves in the order of falling count, then of atomic number, as
    the literature has them: NaKAs, Li2NaSb, Cs2NaYCl6. Hydrogen with the mass of deuterium is D.

    Parameters
    ----------
    numbers : atomic numbers of the atoms of a cell
    masses : dict from atomic number to mass (u) of elements whose masses are not the natural ones, or None

    Returns
    -------
    str
    """
    counts = Counter(int(z) for z in numbers)
    divisor = reduce(math.gcd, counts.values())
    ordered = sorted(counts, key=lambda z: (_electronegativity(z), z))
    places = [n for n, z in enumerate(ordered) if z in ALKALI_METALS]
    metals = sorted((ordered[n] for n in places), key=lambda z: (-counts[z], z))
    for place, z in zip(places, metals):
        ordered[place] = z
    symbols = {z: chemical_symbols[z] for z in counts}
    if (masses or {}).get(1, 0) > _DEUTERIUM_FROM_U:
        symbols[1] = "D"
    return str(Formula.from_dict({symbols[z]: counts[z] // divisor for z in ordered}))


LENGTH_MAX = 1000
"""Characters of a formula: the elements of the periodic table, each with a count, take 700."""


def composition(formula: str) -> dict[str, int]:
    """Return the counts of a formula by element.

    Raises
    ------
    StudyError
        If the text is no formula.
    """
    try:
        if len(formula) > LENGTH_MAX:
            raise ValueError("brackets in brackets without end")
        return Formula(formula).count()
    except ValueError as error:
        raise StudyError(f"{formula[:60]!r} is not a formula", fix="write it like NaYCs2Cl6") from error


def composition_key(formula: str) -> frozenset[tuple[str, int]]:
    """Return the composition of a formula to compare compounds by, whatever the order of the elements.

    Raises
    ------
    StudyError
        If the text is no formula.
    """
    return frozenset(composition(formula).items())


def parse_formula(formula: str) -> list[tuple[str, int]]:
    """Return ``[(symbol, count), …]`` in the order written.

    Raises
    ------
    StudyError
        If the text is no formula of known elements.
    """
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    if "".join(symbol + count for symbol, count in parts) != formula or not parts:
        raise StudyError(f"{formula!r} is not a formula", fix="write it like NaYCs2Cl6")
    unknown = [symbol for symbol, _ in parts if symbol not in atomic_numbers]
    if unknown:
        raise StudyError(f"{formula!r} holds unknown elements {unknown}", fix="write it like NaYCs2Cl6")
    if any(len(count) > 4 for _, count in parts):
        raise StudyError(f"{formula!r} is of no crystal", fix="write the reduced formula, like NaYCs2Cl6")
    return [(symbol, int(count or 1)) for symbol, count in parts]


@cache
def _electronegativity(number):
    return float(Element.from_Z(number).data.get("X") or 10.0)  # elements without a value last
