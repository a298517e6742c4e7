"""ALAMODE's DFSET: displacements and forces in atomic Rydberg units.

T. Tadano, Y. Gohda, S. Tsuneyuki, J. Phys.: Condens. Matter 26, 225402 (2014). Six columns: displacement in bohr and
force in Ry/bohr of every atom, in the order of the perfect supercell that the file was made with; the supercell itself
stands elsewhere.
"""

from pathlib import Path

import numpy
from ase import Atoms
from scipy import constants

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.compressed import read_text
from phonoscreen.formats.frames import Frame

BOHR_ANGSTROM = constants.value("Bohr radius") / constants.angstrom
RYDBERG_EV = constants.value("Rydberg constant times hc in eV")


def read_dfset(path: str | Path, supercell: Atoms) -> list[Frame]:
    """Read a DFSET file.

    Parameters
    ----------
    path : text file, also compressed
    supercell : the perfect supercell, atoms in the file's order

    Returns
    -------
    list of Frame

    Raises
    ------
    StudyError
        If the file is damaged or for another number of atoms.
    """
    n_atoms, blocks = len(supercell), []
    rows: list = []
    for line in read_text(path).splitlines():
        line = line.strip()
        if line.startswith("#"):
            if rows:
                blocks.append(rows)
            rows = []
        elif line:
            rows.append(line)
    blocks = [*blocks, rows] if rows else blocks
    if len(blocks) == 1:  # no comments between the supercells
        blocks = [blocks[0][i : i + n_atoms] for i in range(0, len(blocks[0]), n_atoms)]
    frames = []
    for number, block in enumerate(blocks):
        where = f"supercell {number} of {path}"
        if len(block) != n_atoms:
            raise StudyError(
                f"{where} has {len(block)} atoms, the perfect supercell {n_atoms}",
                fix="give the perfect supercell of the file with --supercell, as a file (SPOSCAR) or its repetitions",
            )
        table = numeric_table(block, 6, where)
        atoms = supercell.copy()
        atoms.positions += table[:, :3] * BOHR_ANGSTROM
        with numpy.errstate(over="ignore"):
            forces = table[:, 3:] * RYDBERG_EV / BOHR_ANGSTROM
        frames.append(Frame(atoms, forces, where))
    if not frames:
        raise StudyError(f"{path} holds no displacements and forces", fix="give ALAMODE's DFSET")
    return frames


def numeric_table(lines: list[str], columns: int, where: str) -> numpy.ndarray:
    """Numbers of lines of text.

    Parameters
    ----------
    lines : one row each
    columns : numbers in every row
    where : name of these lines, for messages

    Returns
    -------
    (n_lines, columns)

    Raises
    ------
    StudyError
        If a row has another number of columns, or values that are not finite.
    """
    words = [line.replace(",", " ").split() for line in lines]
    wrong = next((i for i, row in enumerate(words) if len(row) != columns), None)
    if wrong is not None:
        raise StudyError(
            f"{where}: row {wrong + 1} has {len(words[wrong])} columns, not {columns}", fix="the file is cut"
        )
    try:
        table = numpy.array(words, dtype=float).reshape(-1, columns)
    except ValueError as error:
        raise StudyError(f"{where} holds words that are no numbers: {error}", fix="write the file again") from None
    if not numpy.isfinite(table).all():
        raise StudyError(f"{where} holds values that are not finite numbers", fix="calculate this supercell again")
    return table
