"""Neighbour shells of a crystal and cutoffs between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import shortest_supercell_vector
from phonoscreen.force_constants.clusters import neighbour_pairs

SHELL_ANGSTROM = 0.02
"""Distances closer than this count as one neighbour shell."""


@dataclass
class Cutoff:
    """A cutoff between two neighbour shells.

    Parameters
    ----------
    value_angstrom : the cutoff
    shell : number of neighbour shells inside
    to_shell_angstrom : distance of the cutoff to the nearest shell
    """

    value_angstrom: float
    shell: int
    to_shell_angstrom: float


def neighbour_shells(crystal: Crystal, cutoff_angstrom: float) -> NDArray:
    """Distances at which the crystal has neighbours, ascending, angstrom."""
    distances = numpy.sort(neighbour_pairs(crystal, cutoff_angstrom)[3])
    distances = distances[distances > SHELL_ANGSTROM]
    return distances[numpy.diff(distances, prepend=0.0) > SHELL_ANGSTROM]


def choose_cutoff(crystal: Crystal, repetitions: Sequence[int], cutoff_max_angstrom: float) -> Cutoff:
    """Cutoff in the middle of the widest gap between neighbour shells among the last 15 % below the maximum.

    Both the maximum and half the shortest supercell vector bound the shells inside.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    cutoff_max_angstrom : the study's largest third-order cutoff

    Returns
    -------
    Cutoff

    Raises
    ------
    StudyError
        If not even the nearest neighbours lie inside.
    """
    half = 0.5 * shortest_supercell_vector(crystal.cell, repetitions)
    limit = min(cutoff_max_angstrom, half - SHELL_ANGSTROM)
    shells = neighbour_shells(crystal, 1.5 * max(limit, 1.0) + 3.0)
    inside = numpy.flatnonzero(shells < limit)
    if not len(inside):
        raise StudyError(
            f"the nearest neighbours ({shells[0] if len(shells) else numpy.nan:.2f} angstrom) lie beyond the largest "
            f"third-order cutoff {cutoff_max_angstrom:.2f} or half the supercell {half:.2f} angstrom",
            fix="raise --third-cutoff (force_constants.third_cutoff_angstrom in a study), or use a larger supercell "
            "(supercell.min_length_angstrom)",
            blame="settings",
        )
    gaps = numpy.diff(shells)
    near = inside[shells[inside] >= 0.85 * limit]
    near = near if len(near) else inside[-1:]
    return _after_shell(shells, int(near[::-1][gaps[near[::-1]].argmax()]) + 1, half)


def cutoff_near(crystal: Crystal, repetitions: Sequence[int], wanted_angstrom: float) -> Cutoff:
    """Cutoff in the gap between neighbour shells that a length falls into, or in a wider one close by.

    Other gaps count where their middle is within 6 % of the length. A length beyond half the supercell is a maximum
    (see ``choose_cutoff``).

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    wanted_angstrom : the length

    Returns
    -------
    Cutoff

    Raises
    ------
    StudyError
        If not even the nearest neighbours lie inside.
    """
    half = 0.5 * shortest_supercell_vector(crystal.cell, repetitions)
    shells = neighbour_shells(crystal, 1.5 * wanted_angstrom + 3.0)
    middles, gaps = 0.5 * (shells[1:] + shells[:-1]), numpy.diff(shells)
    near = numpy.abs(middles - wanted_angstrom) <= 0.06 * wanted_angstrom
    near |= (shells[:-1] < wanted_angstrom) & (wanted_angstrom <= shells[1:])
    chosen = numpy.where(near, gaps, 0.0).argmax() + 1
    if shells[chosen - 1] >= half - SHELL_ANGSTROM or not near.any():
        return choose_cutoff(crystal, repetitions, wanted_angstrom)
    return _after_shell(shells, int(chosen), half)


def cutoff_of_shells(crystal: Crystal, repetitions: Sequence[int], n_shells: int) -> Cutoff:
    """Cutoff in the middle between two neighbour shells.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    n_shells : number of neighbour shells inside

    Returns
    -------
    Cutoff

    Raises
    ------
    StudyError
        If the last of these shells does not lie inside half the supercell.
    """
    half = 0.5 * shortest_supercell_vector(crystal.cell, repetitions)
    shells = neighbour_shells(crystal, 2 * half + 3.0)
    fitting = int((shells < half - SHELL_ANGSTROM).sum())
    if not 1 <= n_shells <= fitting:
        raise StudyError(
            f"{n_shells} neighbour shells do not fit into half the supercell ({half:.2f} angstrom), {fitting} do",
            fix=f"use 1 to {fitting} shells (--third-shells, force_constants.third_shells in a study), or a supercell "
            f"of at least {2 * shells[min(max(n_shells, 1), len(shells)) - 1]:.2f} angstrom",
            blame="settings",
        )
    return _after_shell(shells, n_shells, half)


def _after_shell(shells, n_shells, half):
    """Cutoff in the middle of the gap behind a shell, at most half the supercell."""
    last, following = shells[n_shells - 1], shells[n_shells]
    value = min(0.5 * (last + following), half)
    return Cutoff(float(value), n_shells, float(min(value - last, following - value)))


def check_cutoff(crystal: Crystal, repetitions: Sequence[int], cutoff_angstrom: float) -> None:
    """Refuse a cutoff that falls on a neighbour shell or reaches half the supercell.

    Raises
    ------
    StudyError
        Naming the nearest gaps, or the supercell that would serve.
    """
    shortest = shortest_supercell_vector(crystal.cell, repetitions)
    if cutoff_angstrom > 0.5 * shortest:
        raise StudyError(
            f"cutoff {cutoff_angstrom:.2f} angstrom exceeds half the supercell ({0.5 * shortest:.2f} angstrom): "
            "an atom would be counted as its own image's neighbour",
            fix=f"use a supercell of at least {2 * cutoff_angstrom:.2f} angstrom (supercell.min_length_angstrom in a "
            "study), or a shorter cutoff: --second-cutoff, --third-cutoff, --fourth-cutoff "
            "(force_constants.second_cutoff_angstrom and so on)",
            blame="settings",
        )
    shells = neighbour_shells(crystal, cutoff_angstrom + 4.0)
    near = shells[numpy.abs(shells - cutoff_angstrom) < SHELL_ANGSTROM]
    if len(near):
        middles = 0.5 * (shells[1:] + shells[:-1])
        below, above = middles[middles < near[0]][-1:], middles[middles > near[0]][:1]
        fitting = [x for x in (*below, *above) if x <= 0.5 * shortest]
        choices = " or ".join(f"{x:.3f} angstrom" for x in fitting) or "in a larger supercell"
        raise StudyError(
            f"cutoff {cutoff_angstrom:.3f} angstrom falls on the neighbour shell at {near[0]:.3f} angstrom",
            fix=f"use the middle of a gap, {choices}, as --second-cutoff or --fourth-cutoff "
            "(force_constants.second_cutoff_angstrom, force_constants.fourth_cutoff_angstrom in a study)",
            blame="settings",
        )
