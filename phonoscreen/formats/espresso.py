"""Second-order force constants of Quantum ESPRESSO: the file that q2r.x writes, ShengBTE's espresso.ifc2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy
from ase.data import atomic_numbers, chemical_symbols
from scipy import constants

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import SecondOrder
from phonoscreen.formats.force_constants import LARGEST_STRAIN
from phonoscreen.formats.number_files import check_magnitude, read_ascii

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.crystal.constants import Crystal

RYDBERG_PER_BOHR2 = (
    constants.value("Rydberg constant times hc in eV") / (constants.value("Bohr radius") / constants.angstrom) ** 2
)
BOHR_ANGSTROM = constants.value("Bohr radius") / constants.angstrom

_CUBIC = {1: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], 2: [[-0.5, 0, 0.5], [0, 0.5, 0.5], [-0.5, 0.5, 0]],
          3: [[0.5, 0.5, 0.5], [-0.5, 0.5, 0.5], [-0.5, -0.5, 0.5]]}  # fmt: skip
"""Lattice vectors over celldm(1) where the file names a cubic lattice (ibrav) and does not list them."""

LARGEST_SHIFT_ANGSTROM = 0.02
"""Largest distance of an atom of CONTROL from its place in the file, the origin apart."""


def read_espresso(path: str | Path, n_atoms: int, repetitions: Iterable[int]) -> tuple[SecondOrder, float]:
    """Read the interatomic force constants that q2r.x of Quantum ESPRESSO writes.

    The header's cell, positions, masses and charges are skipped: CONTROL gives them, as ShengBTE expects, and
    ``check_espresso_crystal`` compares them. The acoustic sum rule is imposed on the atoms' own constants.

    Parameters
    ----------
    path : text file, perhaps compressed with xz or gzip
    n_atoms : atoms of the cell
    repetitions : (3,) grid of the file

    Returns
    -------
    SecondOrder, and celldm(1) in angstrom

    Raises
    ------
    StudyError
        If the file is for another cell or grid, is cut, or holds values that are not finite.
    """
    lines = read_ascii(path).splitlines()
    try:
        head = lines[0].split()
        n_types, n_file, ibrav = (int(word) for word in head[:3])
        alat = float(head[3]) * BOHR_ANGSTROM
        if min(n_types, n_file) < 1 or not 0.1 < alat < 1e4:
            raise ValueError(f"{n_types} kinds of atoms, {n_file} atoms, celldm(1) {head[3]}")
        at = 1 + (3 if ibrav == 0 else 0) + n_types + n_file
        polar = lines[at].split()[0].strip(".").upper().startswith("T")
        at += 1 + (3 + 4 * n_file if polar else 0)
        grid = tuple(int(word) for word in lines[at].split()[:3])
    except (IndexError, ValueError) as error:
        raise StudyError(f"{path} is not a force-constant file of q2r.x: {error}", where="transport",
                         fix="write it again with q2r.x") from None  # fmt: skip
    if n_file != n_atoms or grid != tuple(repetitions):
        raise StudyError(
            f"{path} holds {n_file} atoms on grid {grid}, CONTROL {n_atoms} atoms and scell {tuple(repetitions)}",
            where="transport", fix="make natoms and scell of CONTROL those of the file",
        )  # fmt: skip
    total = int(numpy.prod(grid))
    table = _table(path, lines, at + 1, n_atoms, total)
    i, j, a, b = table[:, :4].astype(int).T - 1
    entries = table[:, 4:].reshape(len(table), total, 4)
    # the file counts the lattice vector of the first atom, SecondOrder that of the second
    cells = numpy.mod(1 - entries[:, :, :3].astype(int), grid)
    index = numpy.ravel_multi_index(tuple(numpy.moveaxis(cells, 2, 0)), grid) * n_atoms + b[:, None]
    values = numpy.full((n_atoms, total * n_atoms, 3, 3), numpy.nan)
    values[a[:, None], index, i[:, None], j[:, None]] = entries[:, :, 3] * RYDBERG_PER_BOHR2
    if numpy.isnan(values).any():
        raise StudyError(f"{path} lists an element twice and lacks another", where="transport",
                         fix="write it again with q2r.x")  # fmt: skip
    own = numpy.arange(n_atoms)
    values[own, own] -= values.sum(axis=1)
    return SecondOrder(grid, values), alat


def check_espresso_crystal(path: str | Path, crystal: Crystal) -> None:
    """Refuse a crystal that is not the one in the header of a file that ``read_espresso`` accepts.

    Lattice vectors are compared where the file lists them or names a cubic lattice, elements where their names are
    chemical symbols.

    Parameters
    ----------
    path : text file, perhaps compressed
    crystal : ``Crystal``, its atoms as many as the file's

    Raises
    ------
    StudyError
        If lattice vectors, places or elements differ.
    """
    lines, n = read_ascii(path).splitlines(), len(crystal.numbers)
    n_types, ibrav = int(lines[0].split()[0]), int(lines[0].split()[2])
    alat, at = float(lines[0].split()[3]) * BOHR_ANGSTROM, 1 + (3 if ibrav == 0 else 0)
    fix = "make lfactor, lattvec, types and positions of CONTROL those of the file"
    try:
        listed = (
            [[float(word) for word in line.split()[:3]] for line in lines[1:4]] if ibrav == 0 else _CUBIC.get(ibrav)
        )
        names = [line.split("'")[1].strip() for line in lines[at : at + n_types]]
        rows = numpy.array([line.split()[:5] for line in lines[at + n_types : at + n_types + n]], float)
        kinds = [names[int(row[1]) - 1] for row in rows]
    except (IndexError, ValueError) as error:
        raise StudyError(f"the header of {path} cannot be read: {error}", where="transport",
                         fix="write it again with q2r.x") from None  # fmt: skip
    if listed is not None:
        own = alat * numpy.array(listed, float)
        strain = numpy.linalg.norm(numpy.linalg.inv(crystal.cell) @ own - numpy.eye(3), ord=2)
        if own.shape != (3, 3) or strain > LARGEST_STRAIN:
            raise StudyError(f"the lattice vectors of {path} differ from those of CONTROL by {100 * strain:.2g} %",
                             where="transport", fix=fix)  # fmt: skip
    places = alat * rows[:, 2:5] @ numpy.linalg.inv(crystal.cell) - crystal.scaled_positions
    shift = places - places[0]
    distance = numpy.linalg.norm((shift - numpy.rint(shift)) @ crystal.cell, axis=1)
    other = [name.capitalize() in atomic_numbers and atomic_numbers[name.capitalize()] != number
             for name, number in zip(kinds, crystal.numbers.tolist(), strict=True)]  # fmt: skip
    for k in range(n):
        if distance[k] > LARGEST_SHIFT_ANGSTROM or other[k]:
            raise StudyError(
                f"atom {k + 1} of {path} is {kinds[k]} at {' '.join(f'{x:.4f}' for x in rows[k, 2:5])} (units of "
                f"celldm(1)), that of CONTROL is {chemical_symbols[crystal.numbers[k]]}, {distance[k]:.2f} A away",
                where="transport", fix=fix,
            )  # fmt: skip


def _table(path, lines, start, n_atoms, total):
    """The numbers after the header as rows of one pair and pair of directions, checked."""
    expected = 9 * n_atoms**2 * (4 + 4 * total)
    words = " ".join(lines[start:]).replace("D", "E").split()
    if len(words) < expected:
        raise StudyError(f"{path} is cut: {len(words)} of {expected} numbers", where="transport", fix="copy it again")
    try:
        table = numpy.array(words[:expected], float).reshape(-1, 4 + 4 * total)
    except ValueError as error:
        raise StudyError(f"{path} holds a word that is not a number after line {start}: {error}", where="transport",
                         fix="write it again with q2r.x") from None  # fmt: skip
    limits = [3, 3, n_atoms, n_atoms]
    heads, cells = table[:, :4], table[:, 4:].reshape(-1, 4)[:, :3]
    if not (numpy.isin(heads, numpy.arange(1, max(limits) + 1)).all() and (heads <= limits).all()
            and (numpy.mod(cells, 1) == 0).all() and (cells >= 1).all() and (cells <= 1e6).all()):  # fmt: skip
        raise StudyError(f"{path} holds indices of directions, atoms or cells that do not exist", where="transport",
                         fix="write it again with q2r.x")  # fmt: skip
    check_magnitude(path, table.reshape(-1, 4)[:, 3], "Ry/bohr^2")
    return table
