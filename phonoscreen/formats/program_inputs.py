"""Input files of other programs, whose text says more than ASE's readers take: what they drop or misread is looked for.

Quantum ESPRESSO (``espresso-in``), ABINIT (``abinit-in``), SHELX and AIRSS (``res``), Materials Studio (``xsd``) and
FHI-aims (``aims``). Each check gets the text and returns that which ASE is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ase.data import atomic_masses, atomic_numbers

from phonoscreen.audit.errors import StudyError

_MASS = 5e-3  # relative; masses of Quantum ESPRESSO are written with three digits
_FIX = "write the crystal as CIF, POSCAR or extended XYZ"
_FIX_MASS = "give an isotope as extended XYZ with a column masses:R:1, else the natural mass"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_COORDINATE = r"[-+\d.eEdD/*()^]+"

_SIGNS = {
    "espresso-in": r"^\s*&system\b",
    "abinit-in": r"^\s*(?:znucl|typat)\b",
    "aims": r"^\s*(?:lattice_vector|atom(?:_frac)?)\s+[-+.\d]",
}
"""Lines that tell an input file by its content: the name ``.in`` is that of many programs."""

_ABINIT_DROPPED = {
    "scalecart": "1", "amu": "", "charge": "0", "cellcharge": "0", "spinat": "0", "nimage": "1", "natrd": "",
    "nspden": "1 2", "nspinor": "1", "spgroup": "0 1", "brvltt": "0", "xyzfile": "", "structure": "",
}  # fmt: skip
"""Variables of ABINIT that change the crystal and that ASE does not read, with the values that change nothing."""


def kind_by_content(head: str) -> str | None:
    """Return ASE's name of the kind of an input file by its beginning, or None where that does not tell."""
    return next((kind for kind, sign in _SIGNS.items() if re.search(sign, head, re.M | re.I)), None)


def checked_input(kind: str, text: str) -> str:
    """Return the text that ASE's reader may be given.

    Parameters
    ----------
    kind : ASE's name of the format
    text : of the file

    Raises
    ------
    StudyError
        If the text says what ASE drops or misreads.
    """
    check = _CHECKS.get(kind)
    return text if check is None else check(text)


def _espresso(text):
    """Return the text without comments; refuse magnetism, charges and masses, which ASE drops, and surplus atoms."""
    bare = re.sub(r"[!#].*", "", text)
    values = {name.lower(): value for name, value in
              re.findall(rf"(starting_magnetization\s*\(\d+\)|tot_\w+|nat)\s*=\s*({_NUMBER})", bare, re.I)}  # fmt: skip
    for name, value in values.items():
        if "magnetization" in name and _float(value):
            raise StudyError("a magnetic calculation: all calculations here are non-magnetic", fix=_FIX)
    if re.search(r"noncolin\s*=\s*\.t", bare, re.I):
        raise StudyError("a magnetic calculation: all calculations here are non-magnetic", fix=_FIX)
    if _float(values.get("tot_charge", "0")):
        raise StudyError(f"a charge of {values['tot_charge']} e: all calculations here are of neutral crystals",
                         fix="remove tot_charge")  # fmt: skip
    listed = re.search(rf"^\s*ATOMIC_POSITIONS.*\n((?:[ \t]*[A-Za-z]\w*(?:[ \t]+{_COORDINATE}){{3}}.*\n?)*)", bare,
                       re.M | re.I)  # fmt: skip
    count = len(listed[1].strip().splitlines()) if listed else 0
    if count > _float(values.get("nat", "inf")):
        raise StudyError(f"{count} positions are listed, nat is {values['nat']}", fix="correct nat, or the list")
    _check_espresso_masses(bare)
    return bare


def _check_espresso_masses(text):
    species = re.search(r"^\s*ATOMIC_SPECIES[^\n]*\n((?:\s*[A-Za-z]\S*\s+[\d.]+\S*\s+\S+[ \t]*\n)+)", text, re.M)
    for line in species[1].split("\n") if species else ():
        label, mass = (line.split() + ["", ""])[:2]
        symbol = re.sub(r"[^A-Za-z].*", "", label).capitalize()
        if symbol in atomic_numbers and abs(_float(mass) / atomic_masses[atomic_numbers[symbol]] - 1) > _MASS:
            raise StudyError(f"a mass of {mass} u for {label}", fix=_FIX_MASS)


def _abinit(text):
    """Return the text without comments, with every value written out; refuse what ASE drops, or takes in other units.

    ASE knows no comments after ``!``, no repeated values (``acell 3*10.2``) but those of ``typat``, no fractions, and
    takes ``xcart`` in bohr whatever unit stands behind it.
    """
    words = re.sub(r"[!#].*", "", text).lower().replace("=", " ").split()
    words = [one for word in words for one in _written_out(word)]
    for name, harmless in _ABINIT_DROPPED.items():
        if name in words and not _all_among(words[words.index(name) + 1 :], harmless):
            raise StudyError(f"the variable {name} changes the crystal and is not read here", fix=_FIX)
    sets = [word for word in words if re.fullmatch(r"(acell|rprim|angdeg|xred|xcart|typat|znucl)[\d:+*?]+", word)]
    if sets:
        raise StudyError(f"several data sets ({sets[0]})", fix="give the input of one crystal")
    if "xcart" in words:
        after = next((w for w in words[words.index("xcart") + 1 :] if not re.fullmatch(_NUMBER, w)), "")
        if after.startswith("ang"):
            words = ["xangst" if word == "xcart" else word for word in words]
    return " ".join(words) + "\n"


def _written_out(word):
    """Return the words that ``3*0.5``, ``1/3`` or ``1.0d0`` stand for."""
    found = re.fullmatch(rf"(\d{{1,4}})\*({_NUMBER})", word)
    count, value = (int(found[1]), found[2]) if found else (1, word)
    ratio = re.fullmatch(rf"({_NUMBER})/({_NUMBER})", value)
    if ratio and _float(ratio[2]):
        value = repr(_float(ratio[1]) / _float(ratio[2]))
    elif re.fullmatch(_NUMBER, value):
        value = value.replace("d", "e")
    return [value] * count


def _all_among(words, harmless):
    """Whether all numbers at the beginning of words are among those listed."""
    allowed = [_float(word) for word in harmless.split()]
    for word in words:
        if not re.fullmatch(_NUMBER, word):
            break
        if _float(word) not in allowed:
            return False
    return bool(allowed)


def _shelx(text):
    """Refuse atoms that symmetry multiplies, partial occupancies, spins, and a file that is cut: ASE sees none of them.

    AIRSS and CASTEP write all atoms of the cell, ``LATT -1``, and the spin in the seventh column.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    names = [line[0].upper() for line in lines]
    if "END" not in names:
        raise StudyError("no line END: the file is cut", fix="give the whole file")
    lattice = [line[1] for line in lines if line[0].upper() == "LATT" and len(line) > 1]
    if lattice != ["-1"] or "SYMM" in names:
        raise StudyError("symmetry makes further atoms (LATT, SYMM of SHELX), which is not done here",
                         fix="write all atoms of the cell with LATT -1, or give a CIF")  # fmt: skip
    begin = names.index("SFAC") + 1 if "SFAC" in names else 0
    for line in lines[begin : names.index("END")]:
        if len(line) > 5 and _float(line[5]) not in (1.0, 11.0):
            raise StudyError(f"a site is occupied by {line[5]} of an atom", fix="give an ordered crystal")
        if len(line) > 6 and _float(line[6]):
            raise StudyError(f"a seventh column ({line[6]}): the spin of AIRSS, or a displacement parameter of SHELX",
                             fix="remove it if the crystal may be treated as non-magnetic")  # fmt: skip
    return text


def _materials_studio(text):
    """Refuse atoms that symmetry multiplies: ASE reads the asymmetric unit alone."""
    group = re.search(r'GroupName="([^"]*)"', text)
    if group and group[1].replace(" ", "").upper() != "P1":
        raise StudyError(f"symmetry {group[1]} makes further atoms, which is not done here",
                         fix="make the structure P1 before it is written, or give a CIF")  # fmt: skip
    return text


_CHECKS: dict[str, Callable[[str], str]] = {
    "espresso-in": _espresso, "abinit-in": _abinit, "res": _shelx, "xsd": _materials_studio,
}  # fmt: skip
CHECKED = tuple(_CHECKS)
BY_NAME = ("res",)
"""Formats whose reader opens the file itself."""


def _float(word):
    try:
        return float(word.lower().replace("d", "e"))
    except ValueError:
        return float("nan")
