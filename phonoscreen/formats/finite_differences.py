"""Second- and third-order force constants from pair displacements by finite differences: phono3py's own.

A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023). It completes the
displacements by symmetry, solves for the rows of the displaced atoms, and makes the result symmetric with symfc's
projector. Nothing is fitted, so no cutoff and no sum rule beyond translation enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder, full_second_order
from phonoscreen.crystal.matching import SupercellSites
from phonoscreen.crystal.supercell import cell_index, translation_table
from phonoscreen.force_constants.finite_displacements import UNEXPLAINED, UNEXPLAINED_LARGEST, force_constants
from phonoscreen.force_constants.stiffness import UNITS_OF_FORCES, check_stiffness
from phonoscreen.formats.phono3py import from_phono3py

if TYPE_CHECKING:
    from phono3py import Phono3py

    from phonoscreen.formats.displacements import DisplacedSupercells

SMALL = 0.05
"""Forces of a supercell below this share of the mean of all may be noise."""


@dataclass
class FiniteDifferences:
    """Force constants by finite differences.

    Parameters
    ----------
    second : ``SecondOrder``
    third : ``ThirdOrder``, or None
    quality : scalars for a report, units in the names
    """

    second: SecondOrder
    third: ThirdOrder | None
    quality: dict


def by_phono3py(data: DisplacedSupercells, third: bool = True) -> FiniteDifferences:
    """Second and third order from phono3py's pair displacements.

    Parameters
    ----------
    data : ``DisplacedSupercells`` with the folder they come from
    third : also the third order

    Returns
    -------
    FiniteDifferences for the crystal and supercell of the second order; the error of the forces is that of the
    supercells which the second order comes from

    Raises
    ------
    StudyError
        If the displacements do not determine the force constants.
    """
    from phonoscreen.formats.phono3py_constants import build_phono3py, calculate_constants

    assert data.folder is not None  # pairs are read from a folder or file of phono3py
    program = build_phono3py(data.folder, data.symmetry_tolerance_angstrom)
    calculate_constants(program, str(data.folder.file.path), third=third)
    return judged_by_forces(program, data)


def judged_by_forces(program: Phono3py, data: DisplacedSupercells) -> FiniteDifferences:
    """Force constants of a ``phono3py.Phono3py`` object, and how well they describe the forces that they come from.

    Parameters
    ----------
    program : with ``fc2`` and, perhaps, ``fc3``
    data : displacements and forces of single atoms and pairs

    Raises
    ------
    StudyError
        If forces drive the atoms away from their sites, or those of a supercell are not explained.
    """
    judged = data.second_order or data
    second, third = from_phono3py_program(program, judged.crystal, judged.repetitions)
    own = numpy.einsum("iixx->i", second.values[:, : len(judged.crystal.numbers)]) / 3
    if (own <= 0).any():
        raise StudyError(
            "displaced atoms are pushed further away instead of back",
            fix="check the sign of the forces, and that they are listed in the order of the atoms",
        )
    check_stiffness(judged.crystal, own, "the forces", UNITS_OF_FORCES,
                    "give forces in eV/angstrom and displacements in angstrom")  # fmt: skip
    name = "FORCES_FC3" if judged is data else "FORCES_FC2"
    error = _explained(second, third if judged is data else None, judged, name)
    if judged is not data and third is not None:
        check_forces_of_third_order(in_cell_of(third, judged.crystal, data.crystal), data)
    rms = float(numpy.sqrt((judged.forces**2).mean()))
    return FiniteDifferences(second, third, {
        "method": "finite differences (phono3py)",
        "n_supercells": len(data.displacements),
        "displacement_max_angstrom": float(numpy.linalg.norm(data.displacements, axis=2).max()),
        "force_rms_ev_per_angstrom": rms,
        "force_error_ev_per_angstrom": error,
        "force_error_relative": error / rms,
    })  # fmt: skip


def check_forces_of_third_order(third: ThirdOrder, data: DisplacedSupercells) -> None:
    """Refuse forces in the supercells of the third order that are not those of their displacements.

    The second order of these supercells is that of the single displacements among them.

    Parameters
    ----------
    third : ``ThirdOrder`` of the data's crystal
    data : displacements and forces of single atoms and pairs
    """
    alone = (numpy.abs(data.displacements).max(axis=2) > 0).sum(axis=1) == 1
    harmonic = force_constants(data.crystal, data.repetitions, data.displacements[alone], data.forces[alone])
    _explained(harmonic, third, data, "FORCES_FC3")


def _explained(second, third, data, name):
    """Root mean square of the forces that constants leave unexplained; refuse a supercell whose forces are others."""
    kinds = (len(data.forces), -1, len(data.crystal.numbers), 3)
    misfits = (data.forces - forces_of_constants(second, third, data.displacements)).reshape(kinds)
    error = float(numpy.sqrt((misfits**2).mean()))
    misfits = (misfits - misfits.mean(axis=(0, 1))).reshape(data.forces.shape)  # of the undisplaced crystal
    sizes, errors = (numpy.sqrt((x**2).mean(axis=(1, 2))) for x in (data.forces, misfits))
    largest, worst = (numpy.abs(x).max(axis=(1, 2)) for x in (data.forces, misfits))
    # displacements that cancel leave noise alone, which is nothing beside the forces of the other supercells
    sizes, largest = (numpy.maximum(x, SMALL * x.mean()) for x in (sizes, largest))
    share = errors / numpy.maximum(sizes, 1e-300)
    wrong = numpy.flatnonzero((share > UNEXPLAINED) & (worst > UNEXPLAINED_LARGEST * largest))
    if len(wrong):
        s = int(wrong[share[wrong].argmax()])
        raise StudyError(
            f"symmetric force constants leave {100 * share[s]:.0f} % of the forces in supercell {s + 1} of "
            f"{len(share)} unexplained, {100 * worst[s] / largest[s]:.0f} % of the largest (more than "
            f"{100 * UNEXPLAINED:.0f} % in {len(wrong)} of them): they are not the forces of these displacements",
            fix=f"compare this supercell's forces with the output that they come from, and the order of the atoms and "
            f"supercells in {name} or the YAML file with the displacements",
        )  # fmt: skip
    return error


def from_phono3py_program(
    program: Phono3py, crystal: Crystal, repetitions: tuple
) -> tuple[SecondOrder, ThirdOrder | None]:
    """Second and third order of a ``phono3py.Phono3py`` object for another primitive cell of the same crystal.

    Parameters
    ----------
    program : with ``fc2`` and ``fc3``
    crystal, repetitions : the cell, and the supercell of the second order, that they are wanted for
    """
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    theirs, _, third = from_phono3py(program)
    supercell, values = program.phonon_supercell, program.fc2
    if len(values) < len(supercell):
        values = compact_fc_to_full_fc(program.phonon_primitive, values)
    order, _ = SupercellSites(crystal, repetitions).displacements(
        supercell.cell, supercell.positions, supercell.numbers
    )
    rows = order[: len(crystal.numbers)]
    second = SecondOrder(tuple(int(n) for n in repetitions), numpy.ascontiguousarray(values[rows][:, order]))
    third = None if third is None else in_cell_of(third, theirs, crystal)
    return _finite(second), third


def in_cell_of(third: ThirdOrder, crystal: Crystal, other: Crystal) -> ThirdOrder:
    """The same third-order constants, counted in another primitive cell of the same crystal.

    Parameters
    ----------
    third : ``ThirdOrder`` of ``crystal``
    crystal, other : primitive cells, in the same orientation; the origin may differ by a translation

    Raises
    ------
    StudyError
        If the cells are of different crystals.
    """
    if crystal is other:
        return third
    places = crystal.scaled_positions @ crystal.cell
    order, moves = SupercellSites(other, (1, 1, 1)).displacements(crystal.cell, places, crystal.numbers, "the cell")
    if numpy.linalg.norm(moves, axis=1).max() > 0.1:
        raise StudyError("the force constants belong to another crystal", fix="give the crystal they were made for")
    kind = numpy.argsort(order)  # atom of the other cell that each atom is
    change = crystal.cell @ numpy.linalg.inv(other.cell)
    away = places @ numpy.linalg.inv(other.cell) - other.scaled_positions[kind]
    away -= away[0]
    home = numpy.rint(away).astype(int)  # lattice vector, in the other cell's, by which each atom is off its namesake
    vectors = numpy.rint(third.cells @ change).astype(int)
    cells = vectors + home[third.atoms[:, 1:]] - home[third.atoms[:, :1]]
    return ThirdOrder(kind[third.atoms], cells, third.values)


def forces_of_constants(second: SecondOrder, third: ThirdOrder | None, displacements: NDArray) -> NDArray:
    """Forces that force constants give for displacements of a few atoms.

    Parameters
    ----------
    second : ``SecondOrder``
    third : ``ThirdOrder`` of the same primitive cell, folded into the same supercell, or None
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom

    Returns
    -------
    (n_supercells, n_supercell_atoms, 3), eV/angstrom
    """
    full, n_atoms = full_second_order(second), second.values.shape[0]
    folded = None if third is None else _folded(third, second.repetitions, n_atoms)
    seen_from = translation_table(n_atoms, second.repetitions)
    forces = numpy.empty(displacements.shape)
    for number, moves in enumerate(displacements):
        moved = numpy.flatnonzero(numpy.abs(moves).max(axis=1) > 0)
        forces[number] = -numpy.einsum("abxy,by->ax", full[:, moved], moves[moved])
        if folded is None:
            continue
        for a in moved:  # first of the triplet: its lattice translation carries the other two
            images = seen_from[a // n_atoms]
            away = numpy.argsort(images)
            for b in moved:
                tensor = folded[a % n_atoms, away[b]]
                forces[number, images] -= 0.5 * numpy.einsum("kxyz,x,y->kz", tensor, moves[a], moves[b])
    return forces


def _folded(third, repetitions, n_atoms):
    """Third-order constants as (n_atoms, n_supercell_atoms, n_supercell_atoms, 3, 3, 3)."""
    n_super = n_atoms * int(numpy.prod(repetitions))
    sites = cell_index(third.cells, repetitions) * n_atoms + third.atoms[:, 1:]
    folded = numpy.zeros((n_atoms, n_super, n_super, 3, 3, 3))
    numpy.add.at(folded, (third.atoms[:, 0], sites[:, 0], sites[:, 1]), third.values)
    return folded


def _finite(second: SecondOrder) -> SecondOrder:
    if not numpy.isfinite(second.values).all():
        raise StudyError("the force constants are not finite", fix="check displacements and forces")
    return second
