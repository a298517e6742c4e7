"""Files of other kinds than CIF, POSCAR and extended XYZ, by ASE, where its reader guesses nothing.

Its readers of simulation programs take the number of an atom's type for its atomic number (LAMMPS, GPUMD), those of
biology the first letters of a name for an element; neither is a crystal of known elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import ase.io
from ase.data import atomic_masses, atomic_numbers
from ase.io.formats import UnknownFileTypeError, filetype

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

FORMATS = (
    "abinit-in", "abinit-out", "aims", "aims-output", "bundletrajectory", "castep-castep", "castep-cell", "castep-md",
    "cfg", "cp2k-restart", "crystal", "cube", "db", "dftb", "elk", "espresso-in", "espresso-out", "exciting", "gen",
    "gpaw-out", "gpw", "json", "magres", "nwchem-in", "octopus-in", "onetep-in", "res", "rmc6f", "siesta-xv", "struct",
    "struct_out", "traj", "v-sim", "vasp", "vasp-out", "vasp-xdatcar", "vasp-xml", "xsd", "xsf", "yaml",
)  # fmt: skip
"""Formats in which elements, cell and positions are written, as ASE names them."""

_MASS = 5e-3  # relative; masses of Quantum ESPRESSO are written with three digits
_FIX = "write the crystal as CIF, POSCAR or extended XYZ"


def foreign_structures(path: str | Path, atoms_max: int) -> Iterator[tuple[str, Atoms]]:
    """Yield the place of every structure of a file, from 0, and its atoms.

    Parameters
    ----------
    path : file
    atoms_max : of no use here; the signature is that of the other readers

    Raises
    ------
    StudyError
        If the format is not one of ``FORMATS``, or the file says what ASE drops.
    """
    try:
        kind = filetype(str(path))
    except UnknownFileTypeError as error:
        raise StudyError("the format is not known", where=str(path), fix=_FIX) from error
    if kind not in FORMATS:
        raise StudyError(
            f"the format {kind} does not name the elements, or is not read here", where=str(path), fix=_FIX
        )
    if kind == "espresso-in":
        _check_espresso(path)
    for number, atoms in enumerate(ase.io.iread(str(path), index=":", format=kind)):
        yield str(number), atoms


def _check_espresso(path):
    """Refuse magnetism and masses of an input of Quantum ESPRESSO, which ASE drops."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        text = re.sub(r"[!#].*", "", stream.read())
    moments = re.findall(r"starting_magnetization\s*\(\d+\)\s*=\s*([-+\d.]+)", text, re.I)
    if any(float(value.strip("+-.") or 0) for value in moments) or re.search(r"noncolin\s*=\s*\.t", text, re.I):
        raise StudyError("a magnetic calculation: all calculations here are non-magnetic", where=str(path), fix=_FIX)
    species = re.search(r"^\s*ATOMIC_SPECIES[^\n]*\n((?:\s*[A-Za-z]\S*\s+[\d.]+\S*\s+\S+[ \t]*\n)+)", text, re.M)
    for line in species[1].split("\n") if species else ():
        label, mass = (line.split() + ["", ""])[:2]
        symbol = re.sub(r"[^A-Za-z].*", "", label).capitalize()
        if symbol in atomic_numbers and abs(float(mass) / atomic_masses[atomic_numbers[symbol]] - 1) > _MASS:
            raise StudyError(
                f"a mass of {mass} u for {label}", where=str(path),
                fix="give an isotope as extended XYZ with a column masses:R:1, else the natural mass",
            )  # fmt: skip
