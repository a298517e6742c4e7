"""Force constants to and from phono3py and phonopy objects and files.

A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import ThirdOrder
from phonoscreen.crystal.supercell import cell_index
from phonoscreen.formats.born import phonopy_crystal
from phonoscreen.formats.force_constants import phonopy_order
from phonoscreen.phonons.dynamical_matrix import LatticeSum

if TYPE_CHECKING:
    from phono3py import Phono3py
    from phonopy.structure.cells import Primitive

    from phonoscreen.crystal.constants import Crystal, SecondOrder


def to_phono3py(crystal: Crystal, second: SecondOrder, third: ThirdOrder) -> Phono3py:
    """Return a ``phono3py.Phono3py`` object that holds these force constants.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``; triplets are folded into the supercell of the second order

    Returns
    -------
    phono3py.Phono3py with compact ``fc2`` and ``fc3``
    """
    from phono3py import Phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    repetitions, n = second.repetitions, len(crystal.numbers)
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions,
                        masses=crystal.masses)  # fmt: skip
    program = Phono3py(cell, numpy.diag(repetitions), primitive_matrix=numpy.eye(3), log_level=0)
    order = phonopy_order(n, repetitions)
    program.fc2 = numpy.ascontiguousarray(second.values[:, order])
    total = n * int(numpy.prod(repetitions))
    place = numpy.argsort(order)
    j, k = (place[cell_index(third.cells[:, x], repetitions) * n + third.atoms[:, x + 1]] for x in (0, 1))
    fc3 = numpy.zeros((n, total, total, 3, 3, 3))
    numpy.add.at(fc3, (third.atoms[:, 0], j, k), third.values)
    program.fc3 = fc3
    return program


def from_phonopy(primitive: Primitive, fc2: NDArray) -> tuple[Crystal, LatticeSum]:
    """Return crystal and second-order constants of a ``phonopy.structure.cells.Primitive`` with ``fc2``.

    Parameters
    ----------
    primitive : the object's ``primitive`` (``phonon_primitive`` of phono3py)
    fc2 : (n_atoms or n_supercell_atoms, n_supercell_atoms, 3, 3), eV/angstrom^2

    Returns
    -------
    Crystal, LatticeSum
    """
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    n, n_super = len(primitive), fc2.shape[1]
    first, second, cells, share = _images(primitive)
    rows = numpy.arange(n) if fc2.shape[0] == n else numpy.asarray(primitive.p2s_map)
    source = primitive.p2p_map
    atoms = numpy.array([source[primitive.s2p_map[k]] for k in second])
    unique, slot = numpy.unique(cells, axis=0, return_inverse=True)
    values, shares = numpy.zeros((len(unique), n, n, 3, 3)), numpy.zeros((len(unique), n, n))
    numpy.add.at(values, (slot.ravel(), first, atoms), fc2[rows[first], second] * share[:, None, None])
    numpy.add.at(shares, (slot.ravel(), first, atoms), share * n / n_super)
    supercell = numpy.rint(numpy.linalg.inv(primitive.primitive_matrix)).astype(int)
    return phonopy_crystal(primitive), LatticeSum(unique, values, shares, get_commensurate_points(supercell))


def from_phono3py(program: Phono3py) -> tuple[Crystal, LatticeSum, ThirdOrder | None]:
    """Return crystal and force constants of a ``phono3py.Phono3py`` object with ``fc2`` and, perhaps, ``fc3``.

    Triplets whose atoms have several equally short images are shared among all pairs of images, seen from each of the
    three atoms in turn and averaged, as phono3py does by default.

    Returns
    -------
    Crystal, LatticeSum, ThirdOrder or None

    Raises
    ------
    StudyError
        If the object holds no second-order force constants.
    """
    if program.fc2 is None:
        raise StudyError("the phono3py object holds no second-order force constants",
                         fix="load them, or call produce_fc2 first")  # fmt: skip
    crystal, second = from_phonopy(program.phonon_primitive, program.fc2)
    if program.fc3 is None:
        return crystal, second, None
    primitive, fc3 = program.primitive, program.fc3
    n = len(primitive)
    rows = numpy.arange(n) if fc3.shape[0] == n else numpy.asarray(primitive.p2s_map)
    first, other, cells, share = _images(primitive)
    kinds = numpy.array([primitive.p2p_map[primitive.s2p_map[k]] for k in other])
    atoms, vectors, values = [], [], []
    for i in range(n):
        mine = numpy.flatnonzero(first == i)
        weight = share[mine][:, None] * share[mine][None, :]
        blocks = fc3[rows[i]][numpy.ix_(other[mine], other[mine])] * weight[:, :, None, None, None]
        j, k = numpy.nonzero(numpy.abs(blocks).max(axis=(2, 3, 4)) > 0)
        atoms.append(numpy.stack([numpy.full(len(j), i), kinds[mine[j]], kinds[mine[k]]], 1))
        vectors.append(numpy.stack([cells[mine[j]], cells[mine[k]]], 1))
        values.append(blocks[j, k])
    return crystal, second, _over_origins(ThirdOrder(*(numpy.concatenate(x) for x in (atoms, vectors, values))))


def _over_origins(third):
    """Average of the same constants with the images of the triplets seen from the first, second and third atom."""
    atoms, cells, values = [], [], []
    places = numpy.concatenate([numpy.zeros((len(third.atoms), 1, 3), int), third.cells], axis=1)
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        atoms.append(third.atoms[:, order])
        cells.append(places[:, order][:, 1:] - places[:, order][:, :1])
        values.append(third.values.transpose(0, *(axis + 1 for axis in order)) / 3)
    keys = numpy.concatenate([numpy.concatenate(atoms), numpy.concatenate(cells).reshape(-1, 6)], axis=1)
    unique, slot = numpy.unique(keys, axis=0, return_inverse=True)
    total = numpy.zeros((len(unique), 3, 3, 3))
    numpy.add.at(total, slot.ravel(), numpy.concatenate(values))
    return ThirdOrder(unique[:, :3], unique[:, 3:].reshape(-1, 2, 3), total)


def _images(primitive):
    """Return first atom, supercell atom, lattice vector and share of every shortest image of every pair."""
    vectors, counts = primitive.get_smallest_vectors()
    positions, n_super = primitive.scaled_positions, len(counts)
    kinds = [primitive.p2p_map[s] for s in primitive.s2p_map]
    first, second, cells, share = [], [], [], []
    for k in range(n_super):
        for i in range(len(primitive)):
            count, start = counts[k, i]
            lattice = vectors[start : start + count] - positions[kinds[k]] + positions[i]
            first += [i] * count
            second += [k] * count
            cells.append(numpy.rint(lattice).astype(int))
            share += [1.0 / count] * count
    return numpy.array(first), numpy.array(second), numpy.concatenate(cells), numpy.array(share)
