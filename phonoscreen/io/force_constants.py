"""Force constants as ShengBTE reads them: FORCE_CONSTANTS_2ND (phonopy's text format) and FORCE_CONSTANTS_3RD.

Formats: W. Li, J. Carrete, N. A. Katcho, N. Mingo, Comput. Phys. Commun. 185, 1747 (2014), and the manual of
ShengBTE. In FORCE_CONSTANTS_2ND the supercell's atoms are counted with the first lattice direction fastest and the
primitive cell's atoms slowest; values in eV/angstrom^2 and eV/angstrom^3.
"""

import lzma
import os

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.constants import SecondOrder, ThirdOrder
from phonoscreen.lattice.supercell import cell_index, supercell_cells, translation_table


def phonopy_order(n_atoms, repetitions):
    """Index in this project's supercell of each atom of phonopy's and ShengBTE's supercell.

    Returns
    -------
    (n_supercell_atoms,) integers
    """
    n0, n1, n2 = repetitions
    cells = supercell_cells((n2, n1, n0))[:, ::-1]
    return (cell_index(cells, repetitions)[None, :] * n_atoms + numpy.arange(n_atoms)[:, None]).ravel()


def full_second_order(second_order):
    """Force constants between all atoms of the supercell.

    Returns
    -------
    (n_supercell_atoms, n_supercell_atoms, 3, 3), eV/angstrom^2
    """
    values, repetitions = second_order.values, second_order.repetitions
    n_atoms, n_super = values.shape[:2]
    table = translation_table(n_atoms, repetitions)
    full = numpy.empty((n_super, n_super, 3, 3))
    for m, moved in enumerate(table):
        full[m * n_atoms : (m + 1) * n_atoms][:, moved] = values
    return full


def write_second_order(second_order, path):
    """Write FORCE_CONSTANTS_2ND (also phonopy's FORCE_CONSTANTS).

    Parameters
    ----------
    second_order : ``SecondOrder``
    path : text file
    """
    order = phonopy_order(second_order.values.shape[0], second_order.repetitions)
    full = full_second_order(second_order)[order][:, order]
    n = len(full)
    block = "%4d%4d\n" + ("%22.15f%22.15f%22.15f\n" * 3)
    pairs = numpy.stack(numpy.meshgrid(numpy.arange(1, n + 1), numpy.arange(1, n + 1), indexing="ij"), -1)
    rows = numpy.concatenate([pairs.reshape(-1, 2), full.reshape(-1, 9)], axis=1)
    with _replacing(path) as stream:
        stream.write(f"{n:4d}{n:4d}\n")
        for some in numpy.array_split(rows, max(1, len(rows) // 10000)):
            stream.write((block * len(some)) % tuple(some.ravel()))


def read_second_order(path, n_atoms, repetitions):
    """Read FORCE_CONSTANTS_2ND, whole or only the rows of the primitive cell's atoms, also compressed with xz.

    Parameters
    ----------
    path : text file
    n_atoms : atoms of the primitive cell
    repetitions : (3,) integers of the supercell

    Returns
    -------
    SecondOrder

    Raises
    ------
    StudyError
        If the file is for another supercell, incomplete, or holds values that are not finite.
    """
    lines = _lines(path)
    header = [int(word) for word in lines[0].split()]
    n_super = n_atoms * int(numpy.prod(repetitions))
    if header[-1] != n_super:
        raise StudyError(
            f"{path} is for {header[-1]} atoms, the supercell {tuple(repetitions)} of {n_atoms} has {n_super}",
            fix="give the repetitions that the file was made with",
        )
    words = numpy.array(" ".join(lines[1:]).split(), dtype=float)
    if words.size != header[0] * n_super * 11:
        raise StudyError(f"{path} holds {words.size} numbers, not {header[0] * n_super * 11}", fix="the file is cut")
    words = words.reshape(-1, 11)
    order = phonopy_order(n_atoms, repetitions)
    row, column = order[words[:, 0].astype(int) - 1], order[words[:, 1].astype(int) - 1]
    values = numpy.full((n_atoms, n_super, 3, 3), numpy.nan)
    if header[0] == n_super:
        keep = row < n_atoms
    else:  # compact: phonopy lists each primitive atom once, perhaps not the one in cell (0, 0, 0)
        keep = numpy.ones(len(row), bool)
        cells = supercell_cells(repetitions)
        column = cell_index(cells[column // n_atoms] - cells[row // n_atoms], repetitions) * n_atoms + column % n_atoms
        row = row % n_atoms
    values[row[keep], column[keep]] = words[keep, 2:].reshape(-1, 3, 3)
    if not numpy.isfinite(values).all():
        raise StudyError(f"{path} lacks pairs of atoms or holds values that are not numbers", fix="write it again")
    return SecondOrder(repetitions=tuple(int(n) for n in repetitions), values=values)


def write_third_order(third_order, cell, path):
    """Write FORCE_CONSTANTS_3RD.

    Parameters
    ----------
    third_order : ``ThirdOrder``
    cell : (3, 3) lattice vectors of the primitive cell as rows, angstrom
    path : text file
    """
    n = len(third_order.atoms)
    elements = "".join(f"{a:2d}{b:3d}{c:3d}%20.10E\n" for a in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2, 3))
    block = "\n%5d\n" + "%20.12f%20.12f%20.12f\n" * 2 + "%6d%6d%6d\n" + elements
    rows = numpy.concatenate(
        [
            numpy.arange(1, n + 1)[:, None],
            (third_order.cells @ numpy.asarray(cell)).reshape(n, 6),
            third_order.atoms + 1,
            third_order.values.reshape(n, 27),
        ],
        axis=1,
    )
    with _replacing(path) as stream:
        stream.write(f"{n:5d}\n")
        for some in numpy.array_split(rows, max(1, n // 2000)):
            stream.write((block * len(some)) % tuple(some.ravel()))


def read_third_order(path, cell):
    """Read FORCE_CONSTANTS_3RD.

    Parameters
    ----------
    path : text file, perhaps compressed with xz
    cell : (3, 3) lattice vectors of the primitive cell as rows, angstrom

    Returns
    -------
    ThirdOrder

    Raises
    ------
    StudyError
        If the file is cut, or a vector in it is not a lattice vector of the cell.
    """
    words = " ".join(_lines(path)).split()
    n = int(words[0])
    if len(words) != 1 + n * (1 + 6 + 3 + 27 * 4):
        raise StudyError(f"{path} holds {len(words)} numbers, not {1 + n * 118}", fix="the file is cut")
    table = numpy.array(words[1:], dtype=float).reshape(n, 118)
    exact = table[:, 1:7].reshape(n, 2, 3) @ numpy.linalg.inv(cell)
    cells = numpy.rint(exact).astype(int)
    if not (numpy.abs(exact - cells) < 1e-2).all():
        raise StudyError(f"{path} holds vectors that are not lattice vectors of the cell", fix="give the file's cell")
    elements = table[:, 10:].reshape(n, 27, 4)
    index = elements[:, :, :3].astype(int) - 1
    values = numpy.full((n, 3, 3, 3), numpy.nan)
    values[numpy.arange(n)[:, None], index[:, :, 0], index[:, :, 1], index[:, :, 2]] = elements[:, :, 3]
    if not numpy.isfinite(values).all():
        raise StudyError(f"{path} lacks elements or holds values that are not numbers", fix="write it again")
    return ThirdOrder(atoms=table[:, 7:10].astype(int) - 1, cells=cells, values=values)


def _lines(path):
    opener = lzma.open if str(path).endswith(".xz") else open
    with opener(path, "rt") as stream:
        return stream.read().splitlines()


class _replacing:
    """A text file that appears under its name only when complete."""

    def __init__(self, path):
        self.path, self.partial = str(path), f"{path}.partial"

    def __enter__(self):
        self.stream = open(self.partial, "w")
        return self.stream

    def __exit__(self, kind, *_):
        self.stream.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            os.unlink(self.partial)
