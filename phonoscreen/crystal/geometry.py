"""What every geometry must satisfy, and when two geometries are the same crystal."""

from typing import NoReturn

import numpy
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError

CLOSEST_ANGSTROM = 0.7  # below the bond of H2, the shortest there is
LONGEST_ANGSTROM = 1000.0
FARTHEST_ANGSTROM = 1e5  # beyond, rounding would move the atom
# Crystals from compressed hydrogen (about 2) to caesium (115), and frameworks of light atoms (up to about 100).
VOLUME_PER_ATOM_ANGSTROM3 = (1.0, 500.0)
SAME_DISTANCE = 0.02
LARGEST_FORCE = 1e6  # eV/angstrom; two bare nuclei of lead repel each other with 2e5 at the shortest distance


def check_geometry(atoms: Atoms, where: str | None = None) -> None:
    """Refuse atoms that no program should be asked about, before any work is done on them.

    Raises
    ------
    StudyError
        If there are no atoms, coordinates are not finite, a place holds no element, the cell has no volume, one that
        no crystal has, or a lattice vector longer than 1000 angstrom, or two atoms are closer than 0.7 angstrom.
    """

    def refuse(what: str, fix: str = "correct the structure") -> NoReturn:
        raise StudyError(what, where=where, fix=fix, blame="structure")

    if len(atoms) == 0 or not (numpy.isfinite(atoms.positions).all() and numpy.isfinite(atoms.cell.array).all()):
        refuse("no atoms, or coordinates that are not finite")
    if (farthest := float(numpy.abs(atoms.positions).max())) > FARTHEST_ANGSTROM:
        refuse(f"a coordinate of {farthest:.4g} angstrom", "give positions in or near the cell")
    if (atoms.numbers < 1).any():
        refuse("a place without an element (X)", "name the element of every atom")
    lengths = numpy.linalg.norm(atoms.cell.array, axis=1)
    if lengths.min() < 1e-6 or abs(numpy.linalg.det(atoms.cell.array)) < 1e-6 * min(1.0, lengths.prod()):
        refuse("the cell spans no volume", "give three independent lattice vectors")
    if lengths.min() < CLOSEST_ANGSTROM:
        refuse(f"two atoms are {lengths.min():.3g} angstrom apart: a lattice vector is that short", "check its units")
    if lengths.max() > LONGEST_ANGSTROM:
        refuse(f"a lattice vector of {lengths.max():.4g} angstrom", f"give vectors up to {LONGEST_ANGSTROM:g} angstrom")
    volume = abs(numpy.linalg.det(atoms.cell.array)) / len(atoms)
    smallest, largest = VOLUME_PER_ATOM_ANGSTROM3
    if not smallest <= volume <= largest:
        refuse(f"{volume:.3g} cubic angstrom per atom, crystals have {smallest:g} to {largest:g}", "check the units")
    # A reduced cell keeps the search among few images however skewed the vectors are.
    cell, _ = minkowski_reduce(atoms.cell.array)
    if (shortest := numpy.linalg.norm(cell, axis=1).min()) < CLOSEST_ANGSTROM:
        refuse(f"two atoms are {shortest:.3g} angstrom apart: an atom and its image")
    scaled = atoms.positions @ numpy.linalg.inv(cell)
    distances = _short_distances(atoms.numbers, cell, scaled % 1.0)
    if len(distances):
        refuse(f"two atoms are {distances.min():.3f} angstrom apart")


_SMALL_CELL = 40
_NEIGHBOUR_CELLS = numpy.array(list(numpy.ndindex(3, 3, 3))) - 1


def _short_distances(numbers, cell, scaled):
    """Return the distances below ``CLOSEST_ANGSTROM`` of different atoms of a reduced cell.

    In a reduced cell the nearest image is in the home cell or one that touches it, so that a small cell, the most
    common one by far, needs no neighbour list.
    """
    if len(scaled) > _SMALL_CELL:
        atoms = Atoms(numbers=numbers, cell=cell, scaled_positions=scaled, pbc=True)
        return neighbor_list("d", atoms, CLOSEST_ANGSTROM)
    first, second = numpy.triu_indices(len(scaled), 1)
    difference = scaled[first] - scaled[second]
    images = (difference - numpy.rint(difference))[:, None] + _NEIGHBOUR_CELLS
    distances = numpy.linalg.norm(images @ cell, axis=2)
    return distances[distances < CLOSEST_ANGSTROM]


def distance_fingerprint(atoms: Atoms, per_atom: int = 8) -> dict[tuple[int, int], NDArray]:
    """Sorted distances of each pair of elements, in units of the cube root of the volume per atom.

    Parameters
    ----------
    atoms : ase.Atoms, primitive cell
    per_atom : nearest distances kept per atom and partner element

    Returns
    -------
    dict from a pair of atomic numbers to an array; equal for two descriptions of one crystal at any volume
    """
    unit = (atoms.cell.volume / len(atoms)) ** (1 / 3)
    first, second, distances = neighbor_list("ijd", atoms, 3.0 * unit)
    fingerprint = {}
    for one in set(atoms.numbers.tolist()):
        for other in set(atoms.numbers.tolist()):
            chosen = (atoms.numbers[first] == one) & (atoms.numbers[second] == other)
            nearest = numpy.sort(distances[chosen])[: per_atom * int((atoms.numbers == one).sum())]
            fingerprint[one, other] = nearest / unit
    return fingerprint


def same_crystal(one: dict[tuple[int, int], NDArray], other: dict[tuple[int, int], NDArray]) -> bool:
    """Whether two distance fingerprints agree within 2 % of the cube root of the volume per atom."""
    return one.keys() == other.keys() and all(
        len(one[pair]) == len(other[pair]) and numpy.abs(one[pair] - other[pair]).max(initial=0) < SAME_DISTANCE
        for pair in one
    )


def check_forces(forces: NDArray, where: str | None = None) -> None:
    """Refuse forces that no calculation gives.

    Parameters
    ----------
    forces : (…, 3) eV/angstrom
    where : the object, for the message

    Raises
    ------
    StudyError
        If they are not finite, or one is larger than 1e6 eV/angstrom.
    """
    if not numpy.isfinite(forces).all():
        raise StudyError("forces that are not finite numbers", where=where, fix="calculate this supercell again")
    if (largest := numpy.abs(forces).max(initial=0.0)) > LARGEST_FORCE:
        raise StudyError(f"a force of {largest:.3g} eV/angstrom", where=where, fix="check the file and its units")
