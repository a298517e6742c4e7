"""The search for the space group of a crystal: spglib's, and what it found before for crystals of the same make.

A search takes 5 to 40 ms. The stages ask for the same crystal several times, with several tolerances, and crystals of
one structure type differ in size and free coordinates alone: their operations are the same, and so is their setting.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numba
import numpy
import spglib
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal

SHAPES_HELD, OF_A_SHAPE_HELD = 1024, 8
SAME_MASS = 1e-4
"""Masses that differ by less, relative, differ by their digits."""
EXACT_ANGSTROM = 1e-10
"""Operations that hold this well are those of a crystal that was made symmetric, not of rounded coordinates."""
WIDE = 0.01
"""Rotations of a lattice that are tried change its vectors by less than this share of the longest."""


@dataclass
class Known:
    """A crystal that spglib has seen.

    Parameters
    ----------
    crystal : ``Crystal``
    tolerance_angstrom : of the search
    atoms : (n_operations, n_atoms) of ``images_of_atoms``
    exact : whether the operations hold exactly
    dataset : what spglib found
    """

    crystal: Crystal
    tolerance_angstrom: float
    atoms: NDArray
    exact: bool
    dataset: spglib.SpglibDataset


_KNOWN: dict[bytes, list[Known]] = {}
"""By the shape of the cell and the kinds of the atoms; those not asked for longest are forgotten first."""


def find_dataset(crystal: Crystal, tolerance_angstrom: float) -> spglib.SpglibDataset:
    """spglib's symmetry dataset of a crystal, or a refusal."""
    found, reason = search_symmetry(crystal, tolerance_angstrom)
    if found is None:
        message = f"spglib finds no space group{reason and ': '}{reason}"
        raise StudyError(
            f"{message} within {tolerance_angstrom:g} angstrom",
            fix="check the cell for atoms that sit on each other, or change --symmetry-tolerance "
            "(filter.symmetry_tolerance_angstrom in a study)",
        )
    _check_masses(crystal, numpy.asarray(found.equivalent_atoms))
    return found


def _check_masses(crystal, representative):
    """Refuse atoms that symmetry exchanges and that have different masses: the vibrations lack that symmetry."""
    masses = numpy.asarray(crystal.masses, float)
    wrong = numpy.flatnonzero(numpy.abs(masses / masses[representative] - 1) > SAME_MASS)
    if len(wrong):
        one, other = int(representative[wrong[0]]), int(wrong[0])
        raise StudyError(
            f"atoms {one + 1} and {other + 1} are equivalent by symmetry and have masses of {masses[one]:g} and "
            f"{masses[other]:g} u: the symmetry used is that of the elements",
            fix="give equivalent atoms one mass, for example the mean",
        )


def search_symmetry(crystal: Crystal, tolerance_angstrom: float) -> tuple[Any, str]:
    """Return spglib's symmetry dataset of a crystal, or None and why; the last results are remembered.

    The types of atoms in the dataset (``std_types``) count the sorted distinct ``crystal.numbers`` from 0. Its letters
    of Wyckoff positions may be those of another crystal with the same operations.
    """
    kinds = numpy.unique(crystal.numbers, return_inverse=True)[1].astype(numpy.intc)
    cell, positions = numpy.array(crystal.cell, float), numpy.array(crystal.scaled_positions, float)
    return _search(cell.tobytes(), positions.tobytes(), kinds.tobytes(), float(tolerance_angstrom))


@lru_cache(maxsize=64)
def _search(cell, positions, kinds, tolerance_angstrom):
    kinds = numpy.frombuffer(kinds, numpy.intc)
    cell, positions = numpy.frombuffer(cell).reshape(3, 3), numpy.frombuffer(positions).reshape(-1, 3)
    crystal = Crystal(cell, positions, kinds, numpy.ones(len(kinds)))
    shape = (numpy.round(cell / (crystal.volume ** (1 / 3) or 1.0), 9) + 0.0).tobytes() + kinds.tobytes()
    held = _KNOWN.pop(shape, [])
    _KNOWN[shape] = held
    while len(_KNOWN) > SHAPES_HELD:
        _KNOWN.pop(next(iter(_KNOWN)))
    for known in held:
        if (found := _of_the_same_make(known, crystal, tolerance_angstrom)) is not None:
            return found, ""
    try:
        found = spglib.get_symmetry_dataset((cell, positions, kinds), symprec=tolerance_angstrom)
    except spglib.SpglibError as error:
        return None, str(error)
    if found is None:
        return None, ""
    atoms, exact = _images(crystal, found, tolerance_angstrom), _images(crystal, found, EXACT_ANGSTROM) is not None
    if atoms is None:  # whoever needs the images is told why
        return found, ""
    held.insert(0, Known(crystal, tolerance_angstrom, atoms, exact, found))
    del held[OF_A_SHAPE_HELD:]
    return found, ""


def _of_the_same_make(known, crystal, tolerance_angstrom):
    """Return the dataset of a crystal whose operations are those of a known one, or None.

    The two cells have the same shape. Where the atoms stand at the same places, operations within a tolerance are among
    those within a larger one, and where all of the latter hold, they are the same. Where the atoms have moved, the
    operations must hold exactly, and be all that hold within the tolerance.
    """
    moves = crystal.scaled_positions - known.crystal.scaled_positions
    moves = moves - numpy.rint(moves)
    growth = (crystal.volume / known.crystal.volume) ** (1 / 3)
    unmoved = numpy.abs(moves).max() < 1e-9 and growth * known.tolerance_angstrom * (1 + 1e-9) >= tolerance_angstrom
    if not (unmoved or known.exact):
        return None
    found = known.dataset
    atoms = _images(crystal, found, tolerance_angstrom / 100 if unmoved else EXACT_ANGSTROM)
    if atoms is None or (atoms != known.atoms).any():
        return None
    if not (unmoved or count_operations(crystal, tolerance_angstrom) == len(atoms)):
        return None
    changed = {name: getattr(found, name) * growth for name in ("std_lattice", "primitive_lattice")}
    if not unmoved:
        one = numpy.unique(found.mapping_to_primitive, return_index=True)[1][found.std_mapping_to_primitive]
        changed["std_positions"] = found.std_positions + (moves @ found.transformation_matrix.T)[one]
    return replace(found, **changed)


def _images(crystal, dataset, tolerance_angstrom):
    """Return what atoms the operations of a dataset take the atoms to, or None where they miss one."""
    try:
        return images_of_atoms(crystal, dataset.rotations, dataset.translations, tolerance_angstrom)[0]
    except StudyError:
        return None


def count_operations(crystal: Crystal, tolerance_angstrom: float) -> int:
    """Number of space-group operations of a crystal within a tolerance, or 0 where a search is left to spglib.

    Every rotation of the lattice with every translation that takes an atom of the rarest kind to one of its like is
    tried. Tolerances are wide: what spglib finds is always counted. The lattice vectors must be reduced, and the
    tolerance small beside them.
    """
    if 2 * tolerance_angstrom > WIDE * numpy.linalg.norm(crystal.cell, axis=1).max():
        return 0
    rotations = _lattice_rotations((crystal.cell / crystal.volume ** (1 / 3)).round(9).tobytes())
    _, kinds, counts = numpy.unique(crystal.numbers, return_inverse=True, return_counts=True)
    rare = numpy.flatnonzero(kinds == counts.argmin())
    return _count(crystal.cell, crystal.scaled_positions, kinds, rotations, rare, 2 * tolerance_angstrom)


@numba.njit(cache=True)
def _count(cell, positions, kinds, rotations, rare, reach):
    """Count the operations that take every atom to one of its kind."""
    total, step = 0, numpy.empty(3)
    for g in range(len(rotations)):
        for place in rare:
            step[:] = positions[place] - _turned(rotations[g], positions[rare[0]])
            holds = True
            for atom in range(len(positions)):
                image = _turned(rotations[g], positions[atom]) + step
                if _nearest(cell, positions, kinds, atom, image, reach)[2] > reach:
                    holds = False
                    break
            total += holds
    return total


@numba.njit(cache=True)
def _turned(rotation, place):
    """Return a rotation times a place: faster than the general product for three components."""
    found = numpy.empty(3)
    for k in range(3):
        found[k] = rotation[k, 0] * place[0] + rotation[k, 1] * place[1] + rotation[k, 2] * place[2]
    return found


@numba.njit(cache=True)
def _nearest(cell, positions, kinds, atom, image, reach):
    """Return the nearest atom of the kind of one atom to its image, the cell it is in, and the distance.

    The first one within reach is taken.
    """
    nearest, cells, closest = 0, (0.0, 0.0, 0.0), numpy.inf
    for other in range(len(positions)):
        if kinds[other] != kinds[atom]:
            continue
        a, b, c = image[0] - positions[other, 0], image[1] - positions[other, 1], image[2] - positions[other, 2]
        whole = numpy.rint(a), numpy.rint(b), numpy.rint(c)
        a, b, c = a - whole[0], b - whole[1], c - whole[2]
        x = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
        y = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
        z = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
        distance = math.sqrt(x * x + y * y + z * z)
        if distance < closest:
            nearest, cells, closest = other, whole, distance
            if distance < reach:
                break
    return nearest, cells, closest


@lru_cache(maxsize=256)
def _lattice_rotations(cell):
    """Return the rotations of a lattice on fractional coordinates, (n, 3, 3); none unless it is reduced.

    Those of reduced vectors have no elements but 0, 1 and -1: they take each vector to a sum of some of them.
    """
    cell = numpy.frombuffer(cell).reshape(3, 3)
    wide = WIDE * numpy.linalg.norm(cell, axis=1).max()
    sums = numpy.indices((3, 3, 3)).reshape(3, -1).T - 1
    lengths, own = numpy.linalg.norm(sums @ cell, axis=1), numpy.linalg.norm(cell, axis=1)
    if (lengths < (numpy.abs(sums) * own).max(axis=1) - 1e-6).any():
        return numpy.empty((0, 3, 3))
    choices = [numpy.flatnonzero(numpy.abs(lengths - length) < wide) for length in own]
    images = sums[numpy.stack(numpy.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, 3)]
    metric = cell @ cell.T
    kept = numpy.abs(images @ metric @ images.transpose(0, 2, 1) - metric).max(axis=(1, 2)) < 2 * wide * own.max()
    return numpy.ascontiguousarray(images[kept].transpose(0, 2, 1), float)


def images_of_atoms(
    crystal: Crystal, rotations: NDArray, translations: NDArray, tolerance_angstrom: float
) -> tuple[NDArray, NDArray]:
    """Atom and cell that each operation takes each atom to: (n_operations, n_atoms), (n_operations, n_atoms, 3)."""
    cell, tau = numpy.asarray(crystal.cell, float), numpy.asarray(crystal.scaled_positions, float)
    atoms, cells, worst = _images_of(cell, tau, crystal.numbers, rotations.astype(float), translations)
    if worst > 10 * tolerance_angstrom or (numpy.sort(atoms, axis=1) != numpy.arange(len(tau))).any():
        raise StudyError(
            f"a space-group operation misses an atom by {worst:.2g} angstrom, tolerance {tolerance_angstrom:g}",
            fix="give coordinates with more digits, or change --symmetry-tolerance "
            "(filter.symmetry_tolerance_angstrom in a study)",
        )
    return atoms, cells


@numba.njit(cache=True)
def _images_of(cell, positions, kinds, rotations, translations):
    """Nearest atoms to all images, their cells, and the largest distance."""
    atoms = numpy.empty((len(rotations), len(positions)), numpy.int64)
    cells, worst = numpy.empty((len(rotations), len(positions), 3), numpy.int64), 0.0
    for g in range(len(rotations)):
        for atom in range(len(positions)):
            image = _turned(rotations[g], positions[atom]) + translations[g]
            atoms[g, atom], whole, distance = _nearest(cell, positions, kinds, atom, image, 0.0)
            cells[g, atom, 0], cells[g, atom, 1], cells[g, atom, 2] = whole
            worst = max(worst, distance)
    return atoms, cells, worst
