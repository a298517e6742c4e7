"""TDEP's input: ``infile.positions``, ``infile.forces``, ``infile.meta``, ``infile.stat``, ``infile.ssposcar``.

O. Hellman, I. A. Abrikosov, S. I. Simak, Phys. Rev. B 84, 180301 (2011); F. Knoop et al., J. Open Source Softw. 9,
6150 (2024). Positions are fractions of the supercell's vectors, forces are in eV/angstrom, one row for each atom, step
after step, atoms in the order of ``infile.ssposcar``.
"""

from pathlib import Path

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.alamode import numeric_table
from phonoscreen.formats.compressed import find, read_text
from phonoscreen.formats.frames import Frame, read_atoms

FILES = ("infile.ssposcar", "infile.positions", "infile.forces")


def is_tdep(folder: str | Path) -> bool:
    """Whether a folder holds TDEP's positions and forces."""
    return find(folder, "infile.positions") is not None and find(folder, "infile.forces") is not None


def read_tdep(folder: str | Path) -> list[Frame]:
    """Read a folder of TDEP's input.

    Parameters
    ----------
    folder : with ``infile.ssposcar``, ``infile.positions`` and ``infile.forces``; ``infile.meta`` and ``infile.stat``
        are compared with these where they are there

    Returns
    -------
    list of Frame

    Raises
    ------
    StudyError
        If a file is missing or damaged, or they do not belong together.
    """
    folder = Path(folder)
    paths = {name: path for name in FILES if (path := find(folder, name)) is not None}
    missing = [name for name in FILES if name not in paths]
    if missing:
        raise StudyError(f"{folder} lacks {', '.join(missing)}", fix="put TDEP's infiles into one folder")
    perfect = read_atoms(paths["infile.ssposcar"])[0]
    n_atoms = len(perfect)
    if not n_atoms or abs(numpy.linalg.det(perfect.cell.array)) < 1e-3:
        raise StudyError(f"{paths['infile.ssposcar']} holds no crystal: no atoms, or no cell", fix="write it again")
    positions, forces = (_rows(paths[name]) for name in FILES[1:])
    if len(positions) != len(forces) or len(positions) % n_atoms:
        raise StudyError(
            f"{folder}: {len(positions)} rows of positions, {len(forces)} of forces, {n_atoms} atoms in the supercell",
            fix="give the files of one run; each step has one row for each atom",
        )
    n_steps = len(positions) // n_atoms
    _check_counts(folder, n_atoms, n_steps)
    if numpy.abs(positions).max(initial=0) > 1e3:
        raise StudyError(f"{paths['infile.positions']} holds no fractional coordinates", fix="write it again")
    frames = []
    for step in range(n_steps):
        rows = slice(step * n_atoms, (step + 1) * n_atoms)
        atoms = Atoms(perfect.numbers, cell=perfect.cell, scaled_positions=positions[rows], pbc=True)
        frames.append(Frame(atoms, forces[rows], f"step {step + 1} of {folder}"))
    return frames


def _rows(path: Path) -> numpy.ndarray:
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return numeric_table(lines, 3, str(path))


def _check_counts(folder: Path, n_atoms: int, n_steps: int) -> None:
    """Numbers of atoms and steps as ``infile.meta`` and ``infile.stat`` have them."""
    meta = find(folder, "infile.meta")
    if meta is not None:
        lines = [line.split() for line in read_text(meta).splitlines() if line.strip()]
        try:
            told = int(lines[0][0]), int(lines[1][0])
        except (ValueError, IndexError):
            raise StudyError(
                f"{meta} does not begin with the numbers of atoms and steps", fix="write it again"
            ) from None
        if told != (n_atoms, n_steps):
            raise StudyError(
                f"{meta} tells of {told[0]} atoms and {told[1]} steps, the files hold {n_atoms} and {n_steps}",
                fix="give the files of one run",
            )
    stat = find(folder, "infile.stat")
    if stat is not None:
        rows = sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in read_text(stat).splitlines())
        if rows != n_steps:
            raise StudyError(f"{stat} has {rows} rows, the files hold {n_steps} steps", fix="give the files of one run")
