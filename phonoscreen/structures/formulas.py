"""Formulas as chemists write them: the one place where a composition becomes text."""

import math
from collections import Counter
from functools import cache, reduce

from ase.data import chemical_symbols
from pymatgen.core.periodic_table import Element

ALKALI_METALS = (3, 11, 19, 37, 55, 87)
_DEUTERIUM_FROM_U = 1.9


def formula_of(numbers, masses=None):
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
    return "".join(f"{symbols[z]}{n if (n := counts[z] // divisor) > 1 else ''}" for z in ordered)


@cache
def _electronegativity(number):
    return float(Element.from_Z(number).data.get("X") or 10.0)  # elements without a value last
