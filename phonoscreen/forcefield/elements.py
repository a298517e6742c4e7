"""The elements a force model knows and the numbers that tell them apart."""

import numpy

from phonoscreen.audit.errors import StudyError

# symbol, atomic number, period, group, Pauling electronegativity, covalent radius in angstrom.
# Electronegativities: Pauling scale (CRC Handbook of Chemistry and Physics); radii: Cordero et al.,
# Dalton Trans. 2832 (2008). Z = 1-83 without noble gases, Ce-Lu and Tc: the 63 elements of the study.
_TABLE = """
H   1 1  1 2.20 0.31
Li  3 2  1 0.98 1.28
Be  4 2  2 1.57 0.96
B   5 2 13 2.04 0.84
C   6 2 14 2.55 0.76
N   7 2 15 3.04 0.71
O   8 2 16 3.44 0.66
F   9 2 17 3.98 0.57
Na 11 3  1 0.93 1.66
Mg 12 3  2 1.31 1.41
Al 13 3 13 1.61 1.21
Si 14 3 14 1.90 1.11
P  15 3 15 2.19 1.07
S  16 3 16 2.58 1.05
Cl 17 3 17 3.16 1.02
K  19 4  1 0.82 2.03
Ca 20 4  2 1.00 1.76
Sc 21 4  3 1.36 1.70
Ti 22 4  4 1.54 1.60
V  23 4  5 1.63 1.53
Cr 24 4  6 1.66 1.39
Mn 25 4  7 1.55 1.39
Fe 26 4  8 1.83 1.32
Co 27 4  9 1.88 1.26
Ni 28 4 10 1.91 1.24
Cu 29 4 11 1.90 1.32
Zn 30 4 12 1.65 1.22
Ga 31 4 13 1.81 1.22
Ge 32 4 14 2.01 1.20
As 33 4 15 2.18 1.19
Se 34 4 16 2.55 1.20
Br 35 4 17 2.96 1.20
Rb 37 5  1 0.82 2.20
Sr 38 5  2 0.95 1.95
Y  39 5  3 1.22 1.90
Zr 40 5  4 1.33 1.75
Nb 41 5  5 1.60 1.64
Mo 42 5  6 2.16 1.54
Ru 44 5  8 2.20 1.46
Rh 45 5  9 2.28 1.42
Pd 46 5 10 2.20 1.39
Ag 47 5 11 1.93 1.45
Cd 48 5 12 1.69 1.44
In 49 5 13 1.78 1.42
Sn 50 5 14 1.96 1.39
Sb 51 5 15 2.05 1.39
Te 52 5 16 2.10 1.38
I  53 5 17 2.66 1.39
Cs 55 6  1 0.79 2.44
Ba 56 6  2 0.89 2.15
La 57 6  3 1.10 2.07
Hf 72 6  4 1.30 1.75
Ta 73 6  5 1.50 1.70
W  74 6  6 2.36 1.62
Re 75 6  7 1.90 1.51
Os 76 6  8 2.20 1.44
Ir 77 6  9 2.20 1.41
Pt 78 6 10 2.28 1.36
Au 79 6 11 2.54 1.36
Hg 80 6 12 2.00 1.32
Tl 81 6 13 1.62 1.45
Pb 82 6 14 2.33 1.46
Bi 83 6 15 2.02 1.48
"""

SYMBOLS = {int(line.split()[1]): line.split()[0] for line in _TABLE.split("\n") if line}
ATTRIBUTES = ("presence", "period", "group", "electronegativity", "covalent_radius")


def _attributes():
    table = numpy.full((max(SYMBOLS) + 1, len(ATTRIBUTES)), numpy.nan)
    for line in filter(None, _TABLE.split("\n")):
        number, period, group, electronegativity, radius = map(float, line.split()[1:])
        table[int(number)] = 1.0, period / 7, group / 18, electronegativity / 4, radius / 2.5
    return table


_ATTRIBUTES = _attributes()


def element_attributes(numbers):
    """Return the numbers that stand for each element: (1, period/7, group/18, Pauling/4, covalent radius/2.5 A).

    Parameters
    ----------
    numbers : (n,) atomic numbers

    Returns
    -------
    (n, 5) dimensionless, order of ``ATTRIBUTES``

    Raises
    ------
    StudyError
        If an element is not one of the 63.
    """
    numbers = numpy.asarray(numbers, dtype=int)
    unknown = sorted(set(numbers.ravel().tolist()) - set(SYMBOLS))
    if unknown:
        raise StudyError(
            f"the force models do not know the elements with atomic numbers {unknown}",
            where="element_attributes",
            fix="remove these structures with filter.elements; known are Z = 1-83 without noble gases, Ce-Lu and Tc",
        )
    return _ATTRIBUTES[numbers]


def element_radii_angstrom(numbers):
    """Return the covalent radii of elements, (n,) angstrom."""
    return 2.5 * element_attributes(numbers)[..., ATTRIBUTES.index("covalent_radius")]
