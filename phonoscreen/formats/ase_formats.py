"""Files of other kinds than CIF, POSCAR and extended XYZ, by ASE, where its reader guesses nothing.

Its readers of simulation programs take the number of an atom's type for its atomic number (LAMMPS, GPUMD), those of
biology the first letters of a name for an element; neither is a crystal of known elements.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import ase.io
from ase.io.formats import UnknownFileTypeError, filetype

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import first_text, read_text
from phonoscreen.formats.program_inputs import BY_NAME, CHECKED, checked_input, kind_by_content

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

FORMATS = (
    "abinit-in", "abinit-out", "aims", "aims-output", "bundletrajectory", "castep-castep", "castep-cell", "castep-md",
    "cfg", "cp2k-restart", "crystal", "cube", "db", "dftb", "elk", "espresso-in", "espresso-out", "exciting", "gen",
    "gpaw-out", "gpw", "json", "magres", "octopus-in", "onetep-in", "res", "rmc6f", "siesta-xv", "struct",
    "struct_out", "traj", "v-sim", "vasp", "vasp-out", "vasp-xdatcar", "vasp-xml", "xsd", "xsf", "yaml",
)  # fmt: skip
"""Formats in which elements, cell and positions are written, as ASE names them. NWChem's input is none of them: ASE's
reader waits forever at the end of a file that is cut."""

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
        named = filetype(str(path))
    except UnknownFileTypeError:
        named = None
    told = kind_by_content(first_text(path))  # ASE takes any file named .in for one of FHI-aims
    kind = told if named in (None, "aims") or (told and named in CHECKED) else named
    if kind is None:
        raise StudyError("the format is not known", where=str(path), fix=_FIX)
    if kind not in FORMATS:
        raise StudyError(
            f"the format {kind} does not name the elements, or is not read here", where=str(path), fix=_FIX
        )
    text = checked_input(kind, read_text(path)) if kind in CHECKED else ""
    source = str(path) if kind in BY_NAME or not text else io.StringIO(text)
    for number, atoms in enumerate(ase.io.iread(source, index=":", format=kind, do_not_split_by_at_sign=True)):
        yield str(number), atoms
