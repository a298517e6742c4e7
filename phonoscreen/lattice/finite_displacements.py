"""Supercells in which a single atom is displaced, completed by symmetry to unit displacements along all axes.

Programs for finite displacements give only what symmetry cannot: few directions for few atoms. Each displaced atom's
row of force constants follows from all images of its displacements under its site symmetry, solved by least squares
as in phonopy (K. Parlinski, Z. Q. Li, Y. Kawazoe, Phys. Rev. Lett. 78, 4063 (1997); A. Togo, L. Chaput, T. Tadano,
I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023)). Returned are the forces of these rows for unit displacements,
weighted with the number of equivalent atoms, so that a least-squares fit to them is the symmetric set of force
constants closest to the rows: what phonopy's projector gives.
"""

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.supercell import cell_index, supercell_cells
from phonoscreen.lattice.symmetry import find_symmetry


def is_single(displacements):
    """Whether every supercell has exactly one displaced atom."""
    return bool(((numpy.abs(displacements) > 1e-8).any(axis=2).sum(axis=1) == 1).all())


def complete_by_symmetry(crystal, repetitions, displacements, forces):
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
    moved = numpy.abs(displacements).max(axis=2).argmax(axis=1)
    orbits = symmetry.atoms.min(axis=0)  # equivalent atoms share the lowest index among their images
    missing = set(range(n_atoms)) - set(numpy.flatnonzero(numpy.isin(orbits, orbits[moved % n_atoms])))
    if missing:
        raise StudyError(
            f"atoms {sorted(missing)} of the cell and their equivalents are never displaced",
            fix="displace one atom of each symmetry-inequivalent set",
        )
    all_moves, all_forces = [], []
    for orbit in numpy.unique(orbits):
        sets = numpy.flatnonzero(orbits[moved % n_atoms] == orbit)
        home = moved[sets[0]]
        weight = numpy.sqrt((orbits == orbit).sum())
        rows = _row(symmetry, repetitions, home, moved[sets], displacements[sets], forces[sets])
        unit = numpy.zeros((3, n_super, 3))
        unit[numpy.arange(3), home, numpy.arange(3)] = weight
        all_moves.append(unit)
        all_forces.append(weight * rows)
    return numpy.concatenate(all_moves), numpy.concatenate(all_forces)


def _row(symmetry, repetitions, home, moved, displacements, forces):
    """Forces on all atoms for a unit displacement of one atom along each axis: (3, n_supercell_atoms, 3)."""
    pushes, answers = [], []
    for atom, push, answer in zip(moved, displacements[numpy.arange(len(moved)), moved], forces):
        for turn, images in _operations_onto(symmetry, repetitions, atom, home):
            pushes.append(turn @ push)
            turned = numpy.empty_like(answer)
            turned[images] = answer @ turn.T
            answers.append(turned)
    pushes, answers = numpy.array(pushes), numpy.array(answers)
    if numpy.linalg.matrix_rank(pushes, tol=1e-6 * numpy.abs(pushes).max()) < 3:
        raise StudyError(
            f"the displacements of atom {home} and their images under symmetry do not span all directions",
            fix="displace it along further directions",
        )
    return numpy.tensordot(numpy.linalg.pinv(pushes), answers, axes=1)


def _operations_onto(symmetry, repetitions, atom, home):
    """Operations of the supercell that take one atom to another: Cartesian rotations and maps of all atoms."""
    n_atoms = symmetry.atoms.shape[1]
    cells = supercell_cells(repetitions)
    cell, kind = cells[atom // n_atoms], atom % n_atoms
    target, target_kind = cells[home // n_atoms], home % n_atoms
    for g in numpy.flatnonzero(symmetry.atoms[:, kind] == target_kind):
        rotation = symmetry.rotations[g]
        shift = target - rotation @ cell - symmetry.cells[g, kind]
        moved = (cells @ rotation.T)[:, None] + symmetry.cells[g][None] + shift
        yield symmetry.cartesian[g], (cell_index(moved, repetitions) * n_atoms + symmetry.atoms[g]).ravel()
