"""The elements a force model knows and the numbers that tell them apart."""

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

# symbol, atomic number, period, group, Pauling electronegativity, covalent radius, first ionisation energy, electron
# affinity, atomic radius, van der Waals radius, Mendeleev number; angstrom and eV. Z = 1-83 without noble gases, Ce-Lu
# and Tc: the 63 elements of the study. Electronegativities: Pauling scale (CRC Handbook of Chemistry and Physics);
# covalent radii: Cordero et al., Dalton Trans. 2832 (2008); ionisation energies: NIST; atomic radii: Slater, J. Chem.
# Phys. 41, 3199 (1964); Mendeleev numbers: Pettifor, Solid State Commun. 51, 31 (1984);
# the last five columns as pymatgen tabulates them.
_TABLE = """
H   1 1  1 2.20 0.31 13.598  0.754 0.25 1.10 103
Li  3 2  1 0.98 1.28  5.392  0.618 1.45 1.82  12
Be  4 2  2 1.57 0.96  9.323 -0.520 1.05 1.53  77
B   5 2 13 2.04 0.84  8.298  0.280 0.85 1.92  86
C   6 2 14 2.55 0.76 11.260  1.262 0.70 1.70  95
N   7 2 15 3.04 0.71 14.534 -0.070 0.65 1.55 100
O   8 2 16 3.44 0.66 13.618  1.461 0.60 1.52 101
F   9 2 17 3.98 0.57 17.423  3.401 0.50 1.47 102
Na 11 3  1 0.93 1.66  5.139  0.548 1.80 2.27  11
Mg 12 3  2 1.31 1.41  7.646 -0.420 1.50 1.73  73
Al 13 3 13 1.61 1.21  5.986  0.433 1.25 1.84  80
Si 14 3 14 1.90 1.11  8.152  1.390 1.10 2.10  85
P  15 3 15 2.19 1.07 10.487  0.747 1.00 1.80  90
S  16 3 16 2.58 1.05 10.360  2.077 1.00 1.80  94
Cl 17 3 17 3.16 1.02 12.968  3.613 1.00 1.75  99
K  19 4  1 0.82 2.03  4.341  0.501 2.20 2.75  10
Ca 20 4  2 1.00 1.76  6.113  0.025 1.80 2.31  16
Sc 21 4  3 1.36 1.70  6.561  0.179 1.60 2.15  19
Ti 22 4  4 1.54 1.60  6.828  0.076 1.40 2.11  51
V  23 4  5 1.63 1.53  6.746  0.528 1.35 2.07  54
Cr 24 4  6 1.66 1.39  6.767  0.676 1.40 2.06  57
Mn 25 4  7 1.55 1.39  7.434 -0.520 1.40 2.05  60
Fe 26 4  8 1.83 1.32  7.902  0.153 1.40 2.04  61
Co 27 4  9 1.88 1.26  7.881  0.662 1.35 2.00  64
Ni 28 4 10 1.91 1.24  7.640  1.157 1.35 1.97  67
Cu 29 4 11 1.90 1.32  7.726  1.236 1.35 1.96  72
Zn 30 4 12 1.65 1.22  9.394 -0.620 1.35 2.01  76
Ga 31 4 13 1.81 1.22  5.999  0.301 1.30 1.87  81
Ge 32 4 14 2.01 1.20  7.899  1.233 1.25 2.11  84
As 33 4 15 2.18 1.19  9.789  0.804 1.15 1.85  89
Se 34 4 16 2.55 1.20  9.752  2.021 1.15 1.90  93
Br 35 4 17 2.96 1.20 11.814  3.364 1.15 1.85  98
Rb 37 5  1 0.82 2.20  4.177  0.486 2.35 3.03   9
Sr 38 5  2 0.95 1.95  5.695  0.052 2.00 2.49  15
Y  39 5  3 1.22 1.90  6.217  0.311 1.80 2.32  25
Zr 40 5  4 1.33 1.75  6.634  0.433 1.55 2.23  49
Nb 41 5  5 1.60 1.64  6.759  0.917 1.45 2.18  53
Mo 42 5  6 2.16 1.54  7.092  0.747 1.45 2.17  56
Ru 44 5  8 2.20 1.46  7.361  1.046 1.30 2.13  62
Rh 45 5  9 2.28 1.42  7.459  1.143 1.35 2.10  65
Pd 46 5 10 2.20 1.39  8.337  0.562 1.40 2.10  69
Ag 47 5 11 1.93 1.45  7.576  1.304 1.60 2.11  71
Cd 48 5 12 1.69 1.44  8.994 -0.720 1.55 2.18  75
In 49 5 13 1.78 1.42  5.786  0.384 1.55 1.93  79
Sn 50 5 14 1.96 1.39  7.344  1.112 1.45 2.17  83
Sb 51 5 15 2.05 1.39  8.608  1.047 1.45 2.06  88
Te 52 5 16 2.10 1.38  9.010  1.971 1.40 2.06  92
I  53 5 17 2.66 1.39 10.451  3.059 1.40 1.98  97
Cs 55 6  1 0.79 2.44  3.894  0.472 2.60 3.43   8
Ba 56 6  2 0.89 2.15  5.212  0.145 2.15 2.68  14
La 57 6  3 1.10 2.07  5.577  0.558 1.95 2.43  33
Hf 72 6  4 1.30 1.75  6.825  0.178 1.55 2.23  50
Ta 73 6  5 1.50 1.70  7.550  0.329 1.45 2.22  52
W  74 6  6 2.36 1.62  7.864  0.817 1.35 2.18  55
Re 75 6  7 1.90 1.51  7.834  0.060 1.35 2.16  58
Os 76 6  8 2.20 1.44  8.438  1.078 1.30 2.16  63
Ir 77 6  9 2.20 1.41  8.967  1.564 1.35 2.13  66
Pt 78 6 10 2.28 1.36  8.959  2.125 1.35 2.13  68
Au 79 6 11 2.54 1.36  9.226  2.309 1.35 2.14  70
Hg 80 6 12 2.00 1.32 10.438 -0.520 1.50 2.23  74
Tl 81 6 13 1.62 1.45  6.108  0.320 1.90 1.96  78
Pb 82 6 14 2.33 1.46  7.417  0.357 1.80 2.02  82
Bi 83 6 15 2.02 1.48  7.286  0.942 1.60 2.07  87
"""

_ROWS = {int(line.split()[1]): line.split() for line in _TABLE.split("\n") if line}
SYMBOLS = {number: row[0] for number, row in _ROWS.items()}
ATTRIBUTES = ("presence", "period", "group", "electronegativity", "covalent_radius")
N_DESCRIPTORS = 14


def _tables():
    attributes = numpy.full((max(SYMBOLS) + 1, len(ATTRIBUTES)), numpy.nan)
    descriptors = numpy.full((max(SYMBOLS) + 1, N_DESCRIPTORS), numpy.nan)
    for number, row in _ROWS.items():
        period, group, electronegativity, radius, *others = map(float, row[2:])
        attributes[number] = 1.0, period / 7, group / 18, electronegativity / 4, radius / 2.5
        p_electrons = max(group - 12, 0)
        d_electrons = min(max(group - 2, 0), 10) if period >= 4 else 0
        angle = 2 * numpy.pi * group / 18  # noble-gas neighbours meet: group 17 is next to group 1
        descriptors[number] = (
            period, group, electronegativity, radius, *others, p_electrons, d_electrons, group <= 2,
            numpy.cos(angle), numpy.sin(angle),
        )  # fmt: skip
    known = sorted(SYMBOLS)
    return attributes, (descriptors - descriptors[known].mean(axis=0)) / descriptors[known].std(axis=0)


_ATTRIBUTES, _DESCRIPTORS = _tables()


def element_attributes(numbers: ArrayLike) -> NDArray:
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
    return _ATTRIBUTES[_known(numbers)]


def element_radii_angstrom(numbers: ArrayLike) -> NDArray:
    """Return the covalent radii of elements, (n,) angstrom."""
    return 2.5 * element_attributes(numbers)[..., ATTRIBUTES.index("covalent_radius")]


def element_descriptors(numbers: ArrayLike) -> NDArray:
    """Return what distinguishes elements, each number with mean 0 and variance 1 over the 63 elements.

    Period, group, Pauling electronegativity, covalent radius, first ionisation energy, electron affinity, atomic and
    van der Waals radius, Mendeleev number, p and d electrons, whether it is an s element, the group as an angle.

    Returns
    -------
    (n, 14) dimensionless

    Raises
    ------
    StudyError
        If an element is not one of the 63.
    """
    return _DESCRIPTORS[_known(numbers)]


def _known(numbers):
    numbers = numpy.asarray(numbers, dtype=int)
    unknown = sorted(set(numbers.ravel().tolist()) - set(SYMBOLS))
    if unknown:
        raise StudyError(
            f"the force models do not know the elements with atomic numbers {unknown}",
            where="elements",
            fix="remove these structures with filter.elements; known are Z = 1-83 without noble gases, Ce-Lu and Tc",
        )
    return numbers
