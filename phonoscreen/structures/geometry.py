"""What every geometry must satisfy, and when two geometries are the same crystal."""

import numpy
from ase.neighborlist import neighbor_list

from phonoscreen.audit.errors import StudyError

CLOSEST_ANGSTROM = 0.7  # below the bond of H2, the shortest there is
SAME_DISTANCE = 0.02


def check_geometry(atoms, where=None):
    """Refuse atoms that no program should be asked about.

    Raises
    ------
    StudyError
        If there are no atoms, coordinates are not finite, the cell has no volume, or two atoms are closer than
        0.7 angstrom.
    """
    if len(atoms) == 0 or not (numpy.isfinite(atoms.positions).all() and numpy.isfinite(atoms.cell.array).all()):
        raise StudyError("no atoms, or coordinates that are not finite", where=where, fix="correct the structure")
    if abs(numpy.linalg.det(atoms.cell.array)) < 1e-6:
        raise StudyError("the cell spans no volume", where=where, fix="give three independent lattice vectors")
    distances = neighbor_list("d", atoms, CLOSEST_ANGSTROM)
    if len(distances):
        shortest = distances.min()
        raise StudyError(f"two atoms are {shortest:.3f} angstrom apart", where=where, fix="correct the structure")


def distance_fingerprint(atoms, per_atom=8):
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


def same_crystal(one, other):
    """Whether two distance fingerprints agree within 2 % of the cube root of the volume per atom."""
    return one.keys() == other.keys() and all(
        len(one[pair]) == len(other[pair]) and numpy.abs(one[pair] - other[pair]).max(initial=0) < SAME_DISTANCE
        for pair in one
    )
