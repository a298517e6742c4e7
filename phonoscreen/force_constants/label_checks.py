"""What forces on displaced supercells give away about mistakes in them, before anything is fitted or trained.

Sign and size of all forces together show in the self force constants; a supercell that differs from the others shows in
what the others say about it; see ``phonoscreen.force_constants.harmonic_model``.
"""

from collections.abc import Sequence

import numpy
from ase.units import Bohr
from numpy.typing import ArrayLike

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.harmonic_model import (
    MOST_FREE,
    HarmonicModel,
    crude_self_constants,
    negative_share,
)
from phonoscreen.force_constants.stiffness import UNITS_OF_FORCES, check_stiffness
from phonoscreen.force_constants.swapped_atoms import check_swaps

UNBOUND, UNBOUND_ELEMENT = 0.65, 0.99
"""Share of negative eigenvalues in the sum of all magnitudes that no crystal reaches: at most 0.53 in the compounds of
phonondb, also in unstable ones, 0.98 in its elements."""

ROUND_ANGSTROM = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)
"""Lengths of displacements that programs and people choose."""


def check_labels(
    crystal: Crystal,
    displacements: ArrayLike,
    forces: ArrayLike,
    matrix: FitMatrix,
    residual_forces: ArrayLike | None = None,
    names: Sequence[object] | None = None,
) -> None:
    """Refuse forces that show a mistake in sign, unit, order of atoms or completeness.

    Values that are not finite and shapes that do not fit are left to ``phonoscreen.force_constants.judgement``.

    Parameters
    ----------
    crystal : ``Crystal``, primitive
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom
    matrix : ``FitMatrix`` of ``second_order_basis``
    residual_forces : (n_supercell_atoms, 3) of the undisplaced supercell, eV/angstrom, or None
    names : (n_supercells,) what messages call the supercells; by default their places in the arrays

    Raises
    ------
    StudyError
        Naming the suspicion, the numbers that show it, and the remedy.
    """
    displacements, forces = numpy.asarray(displacements, float), numpy.asarray(forces, float)
    if displacements.shape != forces.shape or not (
        numpy.isfinite(displacements).all() and numpy.isfinite(forces).all()
    ):
        return
    if not (displacements.any() and forces.any()):
        return
    names = range(len(forces)) if names is None else names
    _check_amplitude(displacements)
    _check_missing(displacements, forces, names)
    if residual_forces is not None:
        _check_residual(residual_forces, forces)
        forces = forces - residual_forces
    model = None
    if matrix.basis.n_free <= MOST_FREE:
        model = HarmonicModel(matrix, crystal, displacements, forces)
    if model is None or not model.determined:
        own, opposed = crude_self_constants(len(crystal.numbers), displacements, forces)
        _check_sign(opposed > 0.2)
        return _check_size(crystal, own)
    check_swaps(model, numpy.tile(crystal.numbers, forces.shape[1] // len(crystal.numbers)), names)
    _check_scales(model, names)
    if model.explained:  # else the fit says that forces and displacements do not belong together
        second = model.second_order()
        share, element = negative_share(second), len(set(crystal.numbers.tolist())) == 1
        _check_sign(share > (UNBOUND_ELEMENT if element else UNBOUND), f", {100 * share:.0f} % of their harmonic part")
        own = numpy.array([numpy.trace(second.values[i, i]) / 3 for i in range(len(second.values))])
        _check_size(crystal, own)


def _check_residual(residual_forces, forces):
    residual, size = _rms(residual_forces), _rms(forces)
    if residual > 0.5 * size:
        raise StudyError(
            f"the undisplaced supercell feels {residual:.3f} eV/angstrom (root mean square), the displaced ones "
            f"{size:.3f}: its output is not that of the undisplaced supercell, or the crystal is far from equilibrium",
            fix="calculate the undisplaced supercell again, or relax the crystal first",
        )


def _check_amplitude(displacements):
    """Displacements of one length that is round in angstrom only after division by 1.8897."""
    lengths = numpy.linalg.norm(displacements, axis=2)
    lengths = lengths[lengths > 1e-8]
    if not len(lengths) or numpy.ptp(lengths) > 2e-3 * lengths.mean():
        return
    length, chosen = lengths.mean(), numpy.array(ROUND_ANGSTROM)
    if (numpy.abs(length / chosen - 1) < 2e-3).any():
        return
    near = chosen[numpy.abs(length * Bohr / chosen - 1) < 5e-4]
    if len(near):
        raise StudyError(
            f"every displacement is {length:.5f} angstrom long, which is {near[0]:g} angstrom in units of bohr: the "
            "displacements look as if they were in bohr",
            fix="give displacements in angstrom (multiply by 0.529177)",
        )


def _check_missing(displacements, forces, names):
    """Atoms without force, and forces that do not sum to zero."""
    size = numpy.sqrt(numpy.square(forces).mean(axis=(1, 2)))
    if (numpy.abs(displacements) > 1e-8).any(axis=2).mean() > 0.5:
        zero = (forces == 0).all(axis=2)
        if len(forces) > 1:  # or held in one direction, in every supercell
            zero |= (forces == 0).all(axis=0).any(axis=1)
        lacking = numpy.flatnonzero(zero.any(axis=1) & (size > 0))
        if len(lacking):
            atoms = numpy.flatnonzero(zero[lacking[0]])[:8].tolist()
            raise StudyError(
                f"supercell {names[lacking[0]]}: the forces on atoms {atoms} are exactly zero although all atoms move: "
                "they look as if they had been held fixed",
                fix="calculate it without constraints",
            )
    drift = numpy.linalg.norm(forces.mean(axis=1), axis=1)
    wrong = numpy.flatnonzero(drift > 0.15 * numpy.sqrt(3) * size)
    if len(wrong):
        s = wrong[0]
        raise StudyError(
            f"supercell {names[s]}: the forces sum to {drift[s]:.4f} eV/angstrom per atom instead of zero, their root "
            f"mean square is {size[s]:.4f}: some are missing or belong to another calculation",
            fix="compare the forces with the output of the program that calculated them",
        )


def _check_scales(model, names):
    """The factor that brings one supercell's forces in line with the others: -1, or that of a unit."""
    gains, factors = [], []
    for s, (force, residual) in enumerate(zip(model.forces, model.residuals)):
        f, r = force.ravel(), residual.ravel()
        answer = model.hat(s).T @ f
        own = f @ f - answer @ answer  # what of its forces the others could contradict
        told = own > 1e-6 * (f @ f)
        gains.append((f @ r) ** 2 / own if told else 0.0)
        factors.append(1 - (f @ r) / own if told else 1.0)
    s = int(numpy.argmax(gains))
    left = numpy.square(model.residuals).sum() - gains[s]
    if len(gains) < 2 or abs(factors[s] - 1) < 0.3 or gains[s] * len(gains) < 10 * left:
        return
    what, fix = "it looks as if it belonged to another calculation", "calculate it again"
    if abs(factors[s] + 1) < 0.4:
        what, fix = "its forces look as if their sign were flipped", "reverse their sign, or calculate it again"
    for unit, value in UNITS_OF_FORCES.items():
        if factors[s] > 0 and abs(numpy.log(factors[s] / value)) < 0.3:
            what, fix = f"its forces look {unit}", "give forces in eV/angstrom and displacements in angstrom"
    before, after = _rms(model.residuals), float(numpy.sqrt(left / model.forces.size))
    raise StudyError(
        f"supercell {names[s]}: {what} (the other supercells say {factors[s]:.3g} times its forces, which would lower "
        f"the misfit of all from {before:.4f} to {after:.4f} eV/angstrom)",
        fix=fix,
    )


def _check_sign(flipped, share=""):
    if flipped:
        raise StudyError(
            f"the forces drive the displaced atoms away from their sites{share}: they look as if their sign were "
            "flipped",
            fix="give forces, not gradients of the energy: reverse the sign of all",
        )


def _check_size(crystal, self_constants):
    check_stiffness(crystal, self_constants, "the forces", UNITS_OF_FORCES,
                    "give forces in eV/angstrom and displacements in angstrom")  # fmt: skip


def _rms(values):
    return float(numpy.sqrt(numpy.square(values).mean()))
