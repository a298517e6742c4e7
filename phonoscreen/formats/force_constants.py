"""Force constants as ShengBTE reads them: FORCE_CONSTANTS_2ND (phonopy's text format) and FORCE_CONSTANTS_3RD.

Formats: W. Li, J. Carrete, N. A. Katcho, N. Mingo, Comput. Phys. Commun. 185, 1747 (2014), and the manual of
ShengBTE. In FORCE_CONSTANTS_2ND the supercell's atoms are counted with the first lattice direction fastest and the
primitive cell's atoms slowest; values in eV/angstrom^2 and eV/angstrom^3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import SecondOrder, ThirdOrder, full_second_order
from phonoscreen.crystal.supercell import cell_index, supercell_cells
from phonoscreen.formats.number_files import check_magnitude, line_of, read_ascii, read_numbers

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_CELL = 1000
"""Lattice vectors beyond this many cells are no neighbours."""

LARGEST_STRAIN = 1e-3
"""Largest difference of the cell from the lattice vectors in a file: some ten times the rounding of either."""


def phonopy_order(n_atoms: int, repetitions: Sequence[int]) -> NDArray:
    """Index in this project's supercell of each atom of phonopy's and ShengBTE's supercell.

    Returns
    -------
    (n_supercell_atoms,) integers
    """
    n0, n1, n2 = repetitions
    cells = supercell_cells((n2, n1, n0))[:, ::-1]
    return (cell_index(cells, repetitions)[None, :] * n_atoms + numpy.arange(n_atoms)[:, None]).ravel()


def write_second_order(second_order: SecondOrder, path: str | Path) -> None:
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
    with written_whole(path) as partial, partial.open("w") as stream:
        stream.write(f"{n:4d}{n:4d}\n")
        for some in numpy.array_split(rows, max(1, len(rows) // 10000)):
            stream.write((block * len(some)) % tuple(some.ravel()))


def read_second_order(path: str | Path, n_atoms: int, repetitions: Sequence[int]) -> SecondOrder:
    """Read FORCE_CONSTANTS_2ND, whole or only the rows of the primitive cell's atoms, also compressed with xz or gzip.

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
    numbers, text = read_numbers(path)
    header = _counts(path, text)
    n_super = n_atoms * math.prod(int(n) for n in repetitions)
    if header[-1] != n_super:
        raise StudyError(
            f"{path} is for {header[-1]} atoms, the supercell {tuple(repetitions)} of {n_atoms} has {n_super}",
            fix="give the repetitions that the file was made with (scell of CONTROL, --supercell)",
        )
    if header[0] not in (n_atoms, n_super):
        raise StudyError(f"{path} holds rows of {header[0]} atoms; the cell has {n_atoms}, the supercell {n_super}",
                         where=f"{path}, line 1", fix="write the file again")  # fmt: skip
    _check_length(path, text, numbers.size - len(header), header[0] * n_super * 11)
    table = numbers[len(header) :].reshape(-1, 11)
    places = _indices(path, text, table[:, :2], n_super, len(header), 11, "atom")
    check_magnitude(path, table[:, 2:], "eV/angstrom^2")
    order = phonopy_order(n_atoms, repetitions)
    row, column = order[places[:, 0]], order[places[:, 1]]
    keep = row < n_atoms
    if header[0] != n_super:  # compact: phonopy lists each primitive atom once, perhaps not the one in cell (0, 0, 0)
        keep = numpy.ones(len(row), bool)
        cells = supercell_cells(repetitions)
        column = cell_index(cells[column // n_atoms] - cells[row // n_atoms], repetitions) * n_atoms + column % n_atoms
        row = row % n_atoms
    values = numpy.full((n_atoms, n_super, 3, 3), numpy.nan)
    values[row[keep], column[keep]] = table[keep, 2:].reshape(-1, 3, 3)
    if numpy.isnan(values).any():
        one, other = numpy.argwhere(numpy.isnan(values))[0, :2]
        raise StudyError(f"{path} lacks the pair of atoms {one + 1} and {other + 1} and lists another pair twice",
                         fix="write it again")  # fmt: skip
    return SecondOrder(repetitions=tuple(int(n) for n in repetitions), values=values)


def write_third_order(third_order: ThirdOrder, cell: ArrayLike, path: str | Path) -> None:
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
    with written_whole(path) as partial, partial.open("w") as stream:
        stream.write(f"{n:5d}\n")
        for some in numpy.array_split(rows, max(1, n // 2000)):
            stream.write((block * len(some)) % tuple(some.ravel()))


def exchange_asymmetry(second: SecondOrder) -> float:
    """Largest change of a second-order constant when its two atoms are exchanged, in terms of the largest constant.

    It is numerical noise for the supercell that the constants were made in, and large for others of the same size.

    Parameters
    ----------
    second : SecondOrder
    """
    cells, n_atoms = supercell_cells(second.repetitions), len(second.values)
    opposite = cell_index(-cells, second.repetitions)
    blocks = second.values.reshape(n_atoms, len(cells), n_atoms, 3, 3)
    change = blocks - blocks[:, opposite].transpose(2, 1, 0, 4, 3)
    return float(numpy.abs(change).max() / max(numpy.abs(second.values).max(), 1e-300))


def read_third_order(path: str | Path, cell: NDArray, n_atoms: int | None = None) -> ThirdOrder:
    """Read FORCE_CONSTANTS_3RD.

    Parameters
    ----------
    path : text file, perhaps compressed with xz or gzip
    cell : (3, 3) lattice vectors of the primitive cell as rows, angstrom
    n_atoms : atoms of the primitive cell, if known: triplets of others are refused

    Returns
    -------
    ThirdOrder

    Raises
    ------
    StudyError
        If the file is cut, holds values that are not finite, or lattice vectors that are not those of the cell.
    """
    numbers, text = read_numbers(path)
    n = _counts(path, text)[0]
    _check_length(path, text, numbers.size - 1, n * 118)
    table = numbers[1:].reshape(n, 118)
    if not numpy.array_equal(table[:, 0], numpy.arange(1, n + 1)):
        wrong = int(numpy.flatnonzero(table[:, 0] != numpy.arange(1, n + 1))[0])
        raise StudyError(f"block {wrong + 1} is numbered {table[wrong, 0]:g}", where=_at(path, text, 1 + wrong * 118),
                         fix="list every block once, counted from 1")  # fmt: skip
    exact = table[:, 1:7].reshape(n, 2, 3) @ numpy.linalg.inv(cell)
    cells = numpy.rint(exact)
    far = (numpy.abs(exact - cells) > 1e-2) | (numpy.abs(cells) > LARGEST_CELL)
    if far.any():
        wrong = int(numpy.argwhere(far)[0, 0])
        raise StudyError(f"{path}: block {wrong + 1} holds a vector that is not a lattice vector of the cell",
                         where=_at(path, text, 2 + wrong * 118),
                         fix="give the cell that the file was made for (lattvec and lfactor of CONTROL)")  # fmt: skip
    _check_cell(path, table[:, 1:7].reshape(-1, 3), cells.reshape(-1, 3), cell)
    atoms = _indices(path, text, table[:, 7:10], n_atoms or 10**6, 8, 118, "atom")
    _, first, of = numpy.unique(numpy.hstack([atoms, cells.reshape(n, 6)]), axis=0, return_index=True,
                                return_inverse=True)  # fmt: skip
    if len(first) < n:
        wrong = int(numpy.flatnonzero(first[of.ravel()] != numpy.arange(n))[0])
        raise StudyError(f"{path}: block {wrong + 1} is of the triplet of block {first[of.ravel()[wrong]] + 1}",
                         where=_at(path, text, 1 + wrong * 118), fix="list every triplet once")  # fmt: skip
    elements = table[:, 10:].reshape(n, 27, 4)
    index = _indices(path, text, elements[:, :, :3].reshape(n * 27, 3), 3, 11, 4, "direction").reshape(n, 27, 3)
    check_magnitude(path, elements[:, :, 3], "eV/angstrom^3")
    values = numpy.full((n, 3, 3, 3), numpy.nan)
    values[numpy.arange(n)[:, None], index[:, :, 0], index[:, :, 1], index[:, :, 2]] = elements[:, :, 3]
    if numpy.isnan(values).any():
        wrong = int(numpy.argwhere(numpy.isnan(values))[0, 0])
        raise StudyError(f"{path}: block {wrong + 1} lists an element twice and lacks another",
                         where=_at(path, text, 1 + wrong * 118), fix="write it again")  # fmt: skip
    return ThirdOrder(atoms=atoms, cells=cells.astype(int), values=values)


def _check_cell(path, vectors, cells, cell):
    """Refuse a cell that is not the one whose lattice vectors a file holds, up to the rounding of both."""
    change = numpy.linalg.lstsq(cells, vectors - cells @ cell, rcond=None)[0]
    strain = numpy.linalg.norm(numpy.linalg.inv(cell) @ change, ord=2)
    if strain > LARGEST_STRAIN:
        own, given = ([f"{length:.5g}" for length in numpy.linalg.norm(x, axis=1)] for x in (cell + change, cell))
        raise StudyError(
            f"{path} holds multiples of lattice vectors that differ from those of the cell by {100 * strain:.2g} %: "
            f"lengths {', '.join(own)} A, in the cell {', '.join(given)} A", where="transport",
            fix="give the cell that the file was made for (lattvec and lfactor of CONTROL), with five digits or more",
        )  # fmt: skip


def read_header(path: str | Path) -> list[int]:
    """Return the one or two counts of the first line: rows (if given) and atoms of the supercell, or triplets."""
    return _counts(path, read_ascii(path))


def _counts(path, text):
    words = next((line for line in text.splitlines() if line.strip()), "").split()
    if not 1 <= len(words) <= 2 or not all(word.isdigit() and len(word) < 10 and int(word) > 0 for word in words):
        raise StudyError(f"{path} does not begin with the number of atoms or of blocks", where=f"{path}, line 1",
                         fix="give the file as phonopy, thirdorder or ShengBTE writes it")  # fmt: skip
    return [int(word) for word in words]


def _check_length(path, text, found, expected):
    if found != expected:
        how = "the file is cut" if found < expected else "something was added to the file"
        raise StudyError(f"{path} holds {found} numbers after its first line, not {expected}: {how}",
                         where=f"{path}, line {len(text.splitlines())}", fix="write it or copy it again")  # fmt: skip


def _indices(path, text, values, largest, start, stride, what):
    """Whole numbers from 1 to ``largest`` as indices from 0, or a refusal that names the line."""
    wrong = (values < 1) | (values > largest) | (values != numpy.rint(values))
    if wrong.any():
        row, column = numpy.argwhere(wrong)[0]
        if stride == 4:  # one of 27 elements of a block, between which stand ten other numbers
            start += row // 27 * 10
        raise StudyError(f"{what} {values[row, column]:g}: there are {what}s 1 to {largest}",
                         where=_at(path, text, start + row * stride + column), fix="write the file again")  # fmt: skip
    return values.astype(int) - 1


def _at(path, text, index):
    return f"{path}, line {line_of(text, index)}"
