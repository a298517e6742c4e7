"""Supercells in which a single atom is displaced: second-order force constants by finite differences and symmetry.

Programs for finite displacements give only what symmetry cannot: few directions for few atoms. Each displaced atom's
row of force constants follows from all images of its displacements under its site symmetry, solved by least squares
as in phonopy (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev. Lett. 78, 4063 (1997); A. Togo, L. Chaput, T. Tadano,
I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023)). The force constants are the symmetric ones closest to these
rows, what phonopy's projector gives. Averages over the space group, over the exchange of the two atoms and over rigid
translations commute, so that they follow without a linear problem. For a cutoff or for sum rules that no average gives,
the same rows come as forces for unit displacements, weighted with the number of equivalent atoms, to be fitted.
"""

from collections.abc import Sequence
from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder
from phonoscreen.crystal.supercell import cell_index, supercell_cells, translation_table
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.judgement import check_supercells

REST = 0.02
"""Displacement of an atom at rest, over that of the displaced one, which rounding of a file may leave."""

UNEXPLAINED, UNEXPLAINED_LARGEST = 0.25, 0.07
"""Share of the forces that no right assignment leaves in their root mean square and beside the largest one. Noise of
DFT may be a large share of small forces (CsCaH3: 0.17, but 0.05 of the largest; 250 compounds of phonondb: 0.02 and
0.02, three have 0.09 or more), atoms in another order leave 0.29 to 1 and 0.09 to 1 (NaCl, two atoms exchanged: 0.32
and 0.16)."""

SPAN = 5e-3
"""Smallest singular value of the unit displacements, over the largest, at which they still span space."""


def is_single(displacements: ArrayLike) -> bool:
    """Whether every supercell has exactly one displaced atom; the others may be at rest up to rounding.

    Parameters
    ----------
    displacements : (n_supercells, n_supercell_atoms, 3)

    Returns
    -------
    bool

    Raises
    ------
    StudyError
        If in every supercell one atom stands out, but others move too much for rounding and too little for a second
        displaced atom.
    """
    lengths = numpy.sort(numpy.linalg.norm(displacements, axis=2), axis=1)
    if lengths.shape[1] < 2:
        return bool((lengths > 0).all())
    if not (lengths[:, -1] > 0).all():
        return False
    rest = (lengths[:, -2] / lengths[:, -1]).max()
    if REST < rest < 5 * REST:
        raise StudyError(
            f"in every supercell one atom is displaced, but others move by up to {100 * rest:.1f} % of it: too much "
            "for rounding of positions, too little for displacements",
            fix="give positions with more digits, or the displacements themselves",
        )
    return bool(rest <= REST)


def finite_differences(
    crystal: Crystal, repetitions: Sequence[int], displacements: NDArray, forces: NDArray
) -> tuple[SecondOrder, dict[str, Any]]:
    """Second-order force constants by finite differences, and how well they describe the forces.

    Parameters
    ----------
    crystal, repetitions, displacements, forces : as for ``complete_by_symmetry``

    Returns
    -------
    second : ``SecondOrder``
    quality : scalars for a report, units in the names

    Raises
    ------
    StudyError
        If the displacements do not determine all force constants, or the forces cannot belong to them.
    """
    check_supercells(len(crystal.numbers) * int(numpy.prod(repetitions)), displacements, forces)
    second = force_constants(crystal, repetitions, displacements, forces)
    moved = numpy.linalg.norm(displacements, axis=2).argmax(axis=1)
    seen, n_atoms = translation_table(len(crystal.numbers), repetitions), len(crystal.numbers)
    expected = numpy.empty_like(forces)
    for atom, push, force in zip(moved, displacements[numpy.arange(len(moved)), moved], expected):
        force[seen[atom // n_atoms]] = -push @ second.values[atom % n_atoms]
    misfits = forces - expected
    by_kind = misfits.reshape(len(forces), -1, n_atoms, 3)
    residual = by_kind.mean(axis=(0, 1))  # of the undisplaced crystal, which opposite displacements cancel
    rms, error = (float(numpy.sqrt((x**2).mean())) for x in (forces, by_kind - residual))
    largest = float(numpy.abs(by_kind - residual).max() / max(numpy.abs(forces).max(), 1e-300))
    if not error <= UNEXPLAINED * rms and not largest <= UNEXPLAINED_LARGEST:
        raise StudyError(
            f"symmetric force constants leave {100 * error / max(rms, 1e-300):.0f} % of the forces unexplained, "
            f"{100 * largest:.0f} % of the largest: displacements and forces do not list the same atoms",
            fix="give the cell that was displaced, with its atoms in the same order and the same orientation",
        )
    return second, {
        "method": "finite differences",
        "n_supercells": len(forces),
        "displacement_max_angstrom": float(numpy.linalg.norm(displacements, axis=2).max()),
        "force_rms_ev_per_angstrom": rms,
        "force_error_ev_per_angstrom": error,
        "force_error_relative": error / rms,
        "residual_force_max_ev_per_angstrom": float(numpy.abs(residual).max()),
    }


def force_constants(
    crystal: Crystal, repetitions: Sequence[int], displacements: NDArray, forces: NDArray
) -> SecondOrder:
    """Second-order force constants of supercells with one displaced atom each.

    Parameters
    ----------
    crystal, repetitions, displacements, forces : as for ``complete_by_symmetry``

    Returns
    -------
    SecondOrder

    Raises
    ------
    StudyError
        If the images of an atom's displacements do not span space, or an atom has no displaced equivalent.
    """
    symmetry = find_symmetry(crystal, repetitions)
    n_atoms, n_super = len(crystal.numbers), displacements.shape[1]
    cells = supercell_cells(repetitions)
    sums, counts = numpy.zeros((n_atoms, n_super, 3, 3)), numpy.zeros(n_atoms)
    for _, home, rows in _rows(symmetry, repetitions, n_atoms, displacements, forces):
        row = -rows.transpose(1, 0, 2)  # Phi_{home x, a y} = - force on a along y per displacement along x
        for g, images in enumerate(symmetry.atoms):
            target = int(images[home % n_atoms])
            _, moved = _map_onto(symmetry, cells, repetitions, g, home, target)
            turn = symmetry.cartesian[g]
            sums[target, moved] += turn @ row @ turn.T
            counts[target] += 1
    values = sums / counts[:, None, None, None]
    by_cell = values.reshape(n_atoms, len(cells), n_atoms, 3, 3)
    opposite = cell_index(-cells, repetitions)
    by_cell = 0.5 * (by_cell + by_cell[:, opposite].transpose(2, 1, 0, 4, 3))
    # no force when the crystal moves rigidly: rows and columns lose their mean
    mean = by_cell.sum(axis=(1, 2)) / n_super
    by_cell = by_cell - mean[:, None, None] - mean.transpose(0, 2, 1)[None, None] + mean.mean(axis=0)
    return SecondOrder(tuple(int(n) for n in repetitions), by_cell.reshape(values.shape))


def complete_by_symmetry(
    crystal: Crystal, repetitions: Sequence[int], displacements: NDArray, forces: NDArray
) -> tuple[NDArray, NDArray]:
    """Unit displacements of every displaced atom along the three axes, and their harmonic forces.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    displacements : (n_supercells, n_supercell_atoms, 3), one displaced atom in each, angstrom
    forces : (n_supercells, n_supercell_atoms, 3), eV/angstrom

    Returns
    -------
    displacements : (3 n_displaced_atoms, n_supercell_atoms, 3): a length of sqrt(number of equivalent atoms)
    forces : the same shape

    Raises
    ------
    StudyError
        If the images of an atom's displacements do not span space, or an atom has no displaced equivalent.
    """
    symmetry = find_symmetry(crystal, repetitions)
    n_atoms, n_super = len(crystal.numbers), displacements.shape[1]
    all_moves, all_forces = [], []
    for n_equivalent, home, rows in _rows(symmetry, repetitions, n_atoms, displacements, forces):
        weight = numpy.sqrt(n_equivalent)
        unit = numpy.zeros((3, n_super, 3))
        unit[numpy.arange(3), home, numpy.arange(3)] = weight
        all_moves.append(unit)
        all_forces.append(weight * rows)
    return numpy.concatenate(all_moves), numpy.concatenate(all_forces)


def _rows(symmetry, repetitions, n_atoms, displacements, forces):
    """For each set of equivalent atoms their number, one of them that is displaced, and the forces of its row."""
    moved = numpy.linalg.norm(displacements, axis=2).argmax(axis=1)
    orbits = symmetry.atoms.min(axis=0)  # equivalent atoms share the lowest index among their images
    missing = set(range(n_atoms)) - set(numpy.flatnonzero(numpy.isin(orbits, orbits[moved % n_atoms])))
    if missing:
        raise StudyError(
            f"atoms {sorted(missing)} of the cell and their equivalents are never displaced",
            fix="displace one atom of each symmetry-inequivalent set",
        )
    for orbit in numpy.unique(orbits):
        sets = numpy.flatnonzero(orbits[moved % n_atoms] == orbit)
        home = int(moved[sets[0]])
        rows = _row(symmetry, repetitions, home, moved[sets], displacements[sets], forces[sets])
        yield int((orbits == orbit).sum()), home, rows


def _row(symmetry, repetitions, home, moved, displacements, forces):
    """Forces on all atoms for a unit displacement of one atom along each axis: (3, n_supercell_atoms, 3)."""
    cells, n_atoms = supercell_cells(repetitions), symmetry.atoms.shape[1]
    all_pushes, all_answers = [], []
    for atom, push, answer in zip(moved, displacements[numpy.arange(len(moved)), moved], forces):
        for g in numpy.flatnonzero(symmetry.atoms[:, atom % n_atoms] == home % n_atoms):
            turn, images = _map_onto(symmetry, cells, repetitions, g, atom, home)
            all_pushes.append(turn @ push)
            turned = numpy.empty_like(answer)
            turned[images] = answer @ turn.T
            all_answers.append(turned)
    pushes, answers = numpy.array(all_pushes), numpy.array(all_answers)
    strength = numpy.linalg.svd(pushes / numpy.linalg.norm(pushes, axis=1).max(), compute_uv=False)
    if len(strength) < 3 or strength[2] < SPAN * strength[0]:
        shown = ", ".join(f"{value:.2g}" for value in strength)
        raise StudyError(
            f"the displacements of atom {home} and their images under symmetry do not span all directions (singular "
            f"values {shown})",
            fix="displace it along further directions",
        )
    return numpy.tensordot(numpy.linalg.pinv(pushes), answers, axes=1)


def _map_onto(symmetry, cells, repetitions, g, atom, home):
    """Cartesian rotation and map of all supercell atoms by the operation that takes one atom to another."""
    n_atoms = symmetry.atoms.shape[1]
    rotation = symmetry.rotations[g]
    shift = cells[home // n_atoms] - rotation @ cells[atom // n_atoms] - symmetry.cells[g, atom % n_atoms]
    moved = (cells @ rotation.T)[:, None] + symmetry.cells[g][None] + shift
    return symmetry.cartesian[g], (cell_index(moved, repetitions) * n_atoms + symmetry.atoms[g]).ravel()
