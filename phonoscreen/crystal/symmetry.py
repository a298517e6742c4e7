"""Space group of a crystal: exact geometry, and operations as integer maps of its atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy
import spglib
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal

PHONOPY_TOLERANCE_ANGSTROM = 1e-5
"""phonopy's ``symprec``: the tolerance for its files, and for crystals that are symmetrised."""

TOLERANCE_ANGSTROM = 1e-3
"""Tolerance for crystals of other files, which may be rounded to four decimals."""


ENTRIES = numpy.array([0.0, 1.0, -1.0, 0.5, -0.5, numpy.sqrt(0.75), -numpy.sqrt(0.75)])
"""Matrix elements of the crystallographic operations when rotation axes lie along x, y, z or the diagonals."""


@dataclass
class SpaceGroup:
    """Space group of a crystal and what it rests on.

    Parameters
    ----------
    symbol : international, short
    number : 1 to 230
    tolerance_angstrom : largest distance between an atom and its image
    """

    symbol: str
    number: int
    tolerance_angstrom: float


@dataclass
class CrystalSymmetry:
    """Operations of the space group.

    Operation ``g`` takes atom ``i`` of cell ``c`` to atom ``atoms[g, i]`` of cell ``rotations[g] @ c + cells[g, i]``.

    Parameters
    ----------
    rotations : (n_operations, 3, 3) integers, on fractional coordinates
    cartesian : (n_operations, 3, 3) the same rotations on Cartesian vectors
    atoms : (n_operations, n_atoms) integers
    cells : (n_operations, n_atoms, 3) integers
    space_group : ``SpaceGroup`` of the crystal, of which a supercell may keep only some operations
    """

    rotations: numpy.ndarray
    cartesian: numpy.ndarray
    atoms: numpy.ndarray
    cells: numpy.ndarray
    space_group: SpaceGroup


def find_symmetry(
    crystal: Crystal, repetitions: Sequence[int] = (1, 1, 1), tolerance_angstrom: float = PHONOPY_TOLERANCE_ANGSTROM
) -> CrystalSymmetry:
    """Operations of the crystal that also map the supercell onto itself, in a canonical order.

    Parameters
    ----------
    crystal : ``Crystal``, symmetrised; a cell that is not primitive has pure translations among its operations
    repetitions : (3,) integers of the supercell
    tolerance_angstrom : spglib's ``symprec``; small, because the crystal is exact (see ``symmetrise``)

    Returns
    -------
    CrystalSymmetry

    Raises
    ------
    StudyError
        If spglib finds no symmetry or an operation does not map the atoms onto each other.
    """
    cell = numpy.asarray(crystal.cell, float)
    found = find_dataset(crystal, tolerance_angstrom)
    rotations, translations = found.rotations.astype(int), found.translations
    n = numpy.array(repetitions)
    folded = rotations * n[None, None, :]
    fits = (folded % n[None, :, None] == 0).all(axis=(1, 2))
    rotations, translations = rotations[fits], translations[fits]
    atoms, cells = images_of_atoms(crystal, rotations, translations, tolerance_angstrom)
    cartesian = _cartesian(cell, rotations)
    content = numpy.concatenate([rotations.reshape(len(rotations), -1), atoms, cells.reshape(len(atoms), -1)], axis=1)
    order = numpy.lexsort(content.T[::-1])
    group = SpaceGroup(found.international, int(found.number), float(tolerance_angstrom))
    return CrystalSymmetry(rotations[order], cartesian[order], atoms[order], cells[order], group)


def symmetrise(crystal: Crystal, tolerance_angstrom: float) -> Crystal:
    """Crystal whose cell and positions obey its space group exactly, in the orientation and at the origin given.

    Files round coordinates, and what is built on rounded geometry takes the rounding for physics: images at equal
    distances differ, conditions that symmetry fulfils look independent. The metric of the cell and the positions are
    averaged over all operations that spglib finds. The cell is strained without turning, except that rotation axes
    which lie along x, y, z up to rounding come to lie there exactly.

    Parameters
    ----------
    crystal : ``Crystal``
    tolerance_angstrom : spglib's ``symprec``

    Returns
    -------
    Crystal, the same atoms in the same order

    Raises
    ------
    StudyError
        If spglib finds no symmetry or an operation does not map the atoms onto each other.
    """
    cell, tau = numpy.asarray(crystal.cell, float), numpy.asarray(crystal.scaled_positions, float)
    found = find_dataset(crystal, tolerance_angstrom)
    rotations, translations = found.rotations.astype(int), found.translations
    atoms, cells = images_of_atoms(crystal, rotations, translations, tolerance_angstrom)
    inverse = numpy.linalg.inv(cell)
    metric = (rotations.transpose(0, 2, 1) @ (cell @ cell.T) @ rotations).mean(axis=0)
    values, vectors = numpy.linalg.eigh(inverse @ metric @ inverse.T)
    strained = cell @ (vectors * numpy.sqrt(values)) @ vectors.T
    strained = strained @ _upright(_cartesian(strained, rotations), tolerance_angstrom / numpy.abs(cell).max()).T
    back = numpy.rint(numpy.linalg.inv(rotations))
    step = tau[atoms] + cells - translations[:, None]
    positions = numpy.einsum("gxy,giy->ix", back, step) / len(rotations)
    return Crystal(strained, positions, crystal.numbers, crystal.masses)


def space_group(crystal: Crystal, tolerance_angstrom: float) -> SpaceGroup:
    """``SpaceGroup`` of a crystal."""
    found = find_dataset(crystal, tolerance_angstrom)
    return SpaceGroup(found.international, int(found.number), float(tolerance_angstrom))


def higher_space_group(
    crystal: Crystal,
    tolerance_angstrom: float,
    factors: Sequence[float] = (10.0, 100.0, 1000.0),
    largest_angstrom: float = 0.02,
) -> SpaceGroup | None:
    """The space group that a crystal would have at a larger tolerance, where that is a higher one.

    Noise of coordinates beyond the tolerance shows so: symmetry comes back as soon as the tolerance covers it.

    Parameters
    ----------
    crystal : ``Crystal``
    tolerance_angstrom : the tolerance in use
    factors : larger tolerances tried, in units of it
    largest_angstrom : no tolerance above this is tried; larger distances are those of a real distortion

    Returns
    -------
    SpaceGroup or None
    """
    n_operations = len(find_dataset(crystal, tolerance_angstrom).rotations)
    for factor in factors:
        larger = factor * tolerance_angstrom
        if larger > largest_angstrom:
            break
        try:
            found = find_dataset(crystal, larger)
        except StudyError:
            break
        if len(found.rotations) > n_operations:
            return SpaceGroup(found.international, int(found.number), larger)
    return None


def search_symmetry(crystal: Crystal, tolerance_angstrom: float) -> tuple[Any, str]:
    """Return spglib's symmetry dataset of a crystal, or None and why; the last results are remembered.

    The types of atoms in the dataset (``std_types``) count the sorted distinct ``crystal.numbers`` from 0.
    """
    shape, length = _shape(crystal)
    known = _KNOWN.pop(shape, {})
    found, reason = _known_dataset(known, crystal, length, tolerance_angstrom), ""
    if found is None:
        kinds = numpy.unique(crystal.numbers, return_inverse=True)[1].astype(numpy.intc)
        cell, positions = numpy.array(crystal.cell, float), numpy.array(crystal.scaled_positions, float)
        found, reason = _search(cell.tobytes(), positions.tobytes(), kinds.tobytes(), float(tolerance_angstrom))
        if found is not None:
            known[tolerance_angstrom / length] = length, found
    if known:
        _KNOWN[shape] = known  # at the end: those not asked for longest are forgotten first
        while len(_KNOWN) > HELD:
            _KNOWN.pop(next(iter(_KNOWN)))
    return found, reason


HELD = 1024
_KNOWN: dict[bytes, dict[float, tuple]] = {}
"""By shape: cube root of the volume and dataset, by the tolerance over that length."""


@lru_cache(maxsize=32)
def _search(cell, positions, kinds, tolerance_angstrom):
    arrays: Any = (
        numpy.frombuffer(cell).reshape(3, 3), numpy.frombuffer(positions).reshape(-1, 3),
        numpy.frombuffer(kinds, numpy.intc),
    )  # fmt: skip
    try:
        return spglib.get_symmetry_dataset(arrays, symprec=tolerance_angstrom), ""
    except spglib.SpglibError as error:
        return None, str(error)


def _shape(crystal):
    """Return a key that crystals share which differ by rounding, size and elements alone, and their length."""
    length = crystal.volume ** (1 / 3) or 1.0
    kinds = numpy.unique(crystal.numbers, return_inverse=True)[1].astype(numpy.uint8)
    positions = numpy.round(crystal.scaled_positions, 9)
    cell = numpy.round(crystal.cell / length, 9) + 0.0
    return cell.tobytes() + (positions - numpy.floor(positions) + 0.0).tobytes() + kinds.tobytes(), length


def _known_dataset(known, crystal, length, tolerance_angstrom):
    """Return a dataset found before with at least this tolerance whose operations hold, or None.

    The operations within a tolerance are among those within a larger one; where all of the latter hold, they are the
    same. A search takes 5 to 40 ms, the stages ask for the same crystal with several tolerances, and compounds of one
    structure type without free coordinates differ in size alone.
    """
    for relative, (own, found) in known.items():
        if relative * (1 + 1e-9) >= tolerance_angstrom / length:
            try:
                images_of_atoms(crystal, found.rotations, found.translations, tolerance_angstrom / 100)
            except StudyError:
                continue
            sizes = {name: getattr(found, name) * (length / own) for name in ("std_lattice", "primitive_lattice")}
            return found if length == own else replace(found, **sizes)
    return None


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


SAME_MASS = 1e-4
"""Masses that differ by less, relative, differ by their digits."""


def images_of_atoms(
    crystal: Crystal, rotations: NDArray, translations: NDArray, tolerance_angstrom: float
) -> tuple[NDArray, NDArray]:
    """Atom and cell that each operation takes each atom to: (n_operations, n_atoms), (n_operations, n_atoms, 3)."""
    cell, tau = numpy.asarray(crystal.cell, float), numpy.asarray(crystal.scaled_positions, float)
    atoms = numpy.empty((len(rotations), len(tau)), int)
    cells = numpy.empty((len(rotations), len(tau), 3), int)
    other = crystal.numbers[:, None] != crystal.numbers[None, :]
    worst, together = 0.0, max(1, IMAGES_TOGETHER // len(tau) ** 2)
    for begin in range(0, len(rotations), together):
        some = slice(begin, begin + together)
        step = tau @ rotations[some].transpose(0, 2, 1) + translations[some, None]
        step = step[:, :, None] - tau
        whole = numpy.rint(step)
        distance = numpy.linalg.norm((step - whole) @ cell, axis=-1)
        distance[:, other] = numpy.inf
        nearest = distance.argmin(axis=2, keepdims=True)
        atoms[some] = nearest[..., 0]
        cells[some] = numpy.take_along_axis(whole, nearest[..., None], axis=2)[:, :, 0]
        worst = max(worst, float(distance.min(axis=2).max()))
    if worst > 10 * tolerance_angstrom or (numpy.sort(atoms, axis=1) != numpy.arange(len(tau))).any():
        raise StudyError(
            f"a space-group operation misses an atom by {worst:.2g} angstrom, tolerance {tolerance_angstrom:g}",
            fix="give coordinates with more digits, or change --symmetry-tolerance "
            "(filter.symmetry_tolerance_angstrom in a study)",
        )
    return atoms, cells


IMAGES_TOGETHER = 2**18
"""Pairs of atoms, of some operations, whose distances are computed together."""


def _cartesian(cell: NDArray, rotations: NDArray) -> NDArray:
    """Rotations on Cartesian vectors: the nearest orthogonal matrices, exact in ``ENTRIES`` where they are close."""
    left, _, right = numpy.linalg.svd(cell.T @ rotations @ numpy.linalg.inv(cell.T))
    nearest = left @ right
    simple = _simple(nearest)
    return numpy.where(numpy.abs(nearest - simple) < 1e-11, simple, nearest)


def _simple(matrices: NDArray) -> NDArray:
    """Nearest of ``ENTRIES`` to each element."""
    return ENTRIES[numpy.abs(matrices[..., None] - ENTRIES).argmin(axis=-1)]


def _upright(cartesian: NDArray, tilt: float) -> NDArray:
    """Rotation of the crystal by no more than a tilt after which all operations have the entries of the upright group.

    A rounded cell is tilted by its rounding. Elements that should vanish are then as small as the rounding, and whether
    they count would be a question of luck. The identity where the crystal stands in a general direction.
    """
    upright = _simple(cartesian)
    if numpy.abs(cartesian - upright).max() > 4 * tilt:
        return numpy.eye(3)
    left, _, right = numpy.linalg.svd(numpy.einsum("gxy,gzy->xz", upright, cartesian))
    return left @ right
