"""Whether force constants from a file belong to the crystal beside them: its space group must leave them unchanged.

Files of force constants name atoms by number alone. With another order of atoms, another choice of lattice vectors or
another orientation every number is still finite and every sum rule still holds, but operations of the space group then
take the constants of one pair or triplet to those of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.supercell import supercell_cells
from phonoscreen.crystal.symmetry import CrystalSymmetry, find_symmetry
from phonoscreen.phonons.dynamical_matrix import LatticeSum

LARGEST_CHANGE = 0.1
"""Above the noise of constants that nobody made symmetric, below an exchange of atoms (0.4 to 1.5 was measured)."""


def check_invariance(crystal: Crystal, second: SecondOrder | LatticeSum, third: ThirdOrder | None) -> str:
    """Refuse force constants that the crystal's space group changes.

    Only operations that keep the supercell of the second order are asked for. A few of them generate all others.

    Parameters
    ----------
    crystal : ``Crystal``
    second : ``SecondOrder`` or ``LatticeSum``
    third : ``ThirdOrder``, or None

    Returns
    -------
    sentence with the space group and the largest change

    Raises
    ------
    StudyError
        If an operation changes the constants of an order by more than ``LARGEST_CHANGE`` of their root mean square.
    """
    repetitions = second.repetitions if isinstance(second, SecondOrder) else (1, 1, 1)
    symmetry = find_symmetry(crystal, repetitions)
    kept = list(range(len(symmetry.rotations)))
    if isinstance(second, LatticeSum):
        kept = [g for g in kept if _keeps(second.commensurate, symmetry.rotations[g])]
    chosen = generators(symmetry, kept)
    tables = {"second": _of_second(second)} | ({} if third is None else {"third": _of_third(third)})
    changes = {name: max((_change(table, symmetry, g) for g in chosen), default=0.0) for name, table in tables.items()}
    for name, change in changes.items():
        if change > LARGEST_CHANGE:
            raise StudyError(
                f"the space group of the crystal, {symmetry.space_group.symbol}, changes the {name}-order force "
                f"constants by {100 * change:.0f} % of their root mean square: they are not for this order of atoms, "
                "these lattice vectors or these positions", where="transport",
                fix="give atoms and lattice vectors as they were where the force constants were made (CONTROL: "
                "lattvec, types and positions)",
            )  # fmt: skip
    worst = max(changes.values())
    return f"{symmetry.space_group.symbol} changes the force constants by {100 * worst:.2g} %"


def generators(symmetry: CrystalSymmetry, kept: Sequence[int]) -> list[int]:
    """Indices of a few operations whose products are all of ``kept``, which form a group."""
    operations = {g: _Operation(symmetry.rotations[g], symmetry.atoms[g]) for g in kept}
    n = len(symmetry.atoms[0])
    found, chosen = {_Operation(numpy.eye(3, dtype=int), numpy.arange(n)).key: None}, []
    reached = [_Operation(numpy.eye(3, dtype=int), numpy.arange(n))]
    for g, operation in operations.items():
        if operation.key in found:
            continue
        chosen.append(g)
        new = list(reached)
        while new:
            products = [operations[h].after(one) for one in new for h in chosen]
            new = list({one.key: one for one in products if one.key not in found}.values())
            found |= {one.key: None for one in new}
            reached += new
    return chosen


@dataclass
class _Operation:
    """A rotation with its permutation of the atoms, which stand for an operation up to lattice translations."""

    rotation: NDArray
    atoms: NDArray

    @property
    def key(self) -> bytes:
        return self.rotation.astype(int).tobytes() + self.atoms.astype(int).tobytes()

    def after(self, first: "_Operation") -> "_Operation":
        return _Operation(self.rotation @ first.rotation, self.atoms[first.atoms])


@dataclass
class _Table:
    """Force constants of one order as rows.

    Parameters
    ----------
    atoms : (n, order) indices into the primitive cell
    cells : (n, order, 3) integer lattice vectors, the first 0
    values : (n, 3, ..., 3) with ``order`` directions
    period : (3,) integers modulo which lattice vectors count, or None
    """

    atoms: NDArray
    cells: NDArray
    values: NDArray
    period: Sequence[int] | None = None


def _of_second(second):
    if isinstance(second, LatticeSum):
        where = numpy.argwhere(numpy.abs(second.values).max(axis=(3, 4)) > 0)
        cells = second.cells[where[:, 0]]
        return _Table(where[:, 1:], _from_zero(cells[:, None]), second.values[tuple(where.T)])
    n, total = second.values.shape[:2]
    i, k = (index.ravel() for index in numpy.indices((n, total)))
    cells = supercell_cells(second.repetitions)[k // n]
    return _Table(numpy.stack([i, k % n], 1), _from_zero(cells[:, None]), second.values.reshape(-1, 3, 3),
                  second.repetitions)  # fmt: skip


def _of_third(third):
    return _Table(third.atoms, _from_zero(third.cells), third.values)


def _from_zero(cells):
    return numpy.concatenate([numpy.zeros((len(cells), 1, 3), int), cells], axis=1)


def _keeps(commensurate, rotation):
    """Whether a rotation takes the wave vectors of a supercell to themselves."""
    sets = [{tuple(row) for row in numpy.rint((q - numpy.floor(q + 1e-6)) * 1e5).astype(int).tolist()}
            for q in (commensurate, commensurate @ rotation)]  # fmt: skip
    return sets[0] == sets[1]


def _change(table, symmetry, g):
    """Change of the constants under one operation, root mean square, in terms of that of the constants."""
    order = table.atoms.shape[1]
    cells = table.cells @ symmetry.rotations[g].T + symmetry.cells[g][table.atoms]
    cells, turned = cells - cells[:, :1], table.values
    for axis in range(1, order + 1):
        turned = numpy.moveaxis(numpy.tensordot(turned, symmetry.cartesian[g], (axis, 1)), -1, axis)
    atoms = numpy.concatenate([table.atoms, symmetry.atoms[g][table.atoms]])
    cells = numpy.concatenate([table.cells, cells])[:, 1:].reshape(len(atoms), -1)
    if table.period is not None:
        cells = numpy.mod(cells, numpy.tile(table.period, order - 1))
    keys = numpy.concatenate([atoms, cells], axis=1)
    low = keys.min(axis=0)
    _, place = numpy.unique(numpy.ravel_multi_index(tuple((keys - low).T), keys.max(axis=0) - low + 1),
                            return_inverse=True)  # fmt: skip
    sums = numpy.zeros((place.max() + 1, 3**order))
    numpy.add.at(sums, place.ravel(), numpy.concatenate([table.values, -turned]).reshape(-1, 3**order))
    return float(numpy.linalg.norm(sums) / max(float(numpy.linalg.norm(table.values)), 1e-300))
