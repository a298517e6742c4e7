"""What is wrong with the input of a fit, and how well a fit describes it."""

from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

UNEXPLAINED = 0.9
"""Relative force error above which forces and displacements cannot belong together."""

OUTLIER = 6.0
"""Error of one atom's force in one supercell, over the median of all its equivalents, that no distribution explains."""

OUTLIER_MEAN = 3.0
"""The same for the mean over supercells of one atom, and over the atoms of one supercell."""


ROUNDING_OF_DISPLACEMENTS = 2e-3
"""Displacements and differences below this fraction of the largest displacement are rounding of the input."""

LARGE_DISPLACEMENT_ANGSTROM = 0.08
"""Root mean square displacement, that of thermal motion, above which single forces may stand out by anharmonicity."""

LARGE_ERROR = 0.1
"""Relative force error above which a fit is warned about."""

LARGE_CONDITION = 1e4
"""Condition number of the fit matrix above which rounding of the input may decide force constants."""


def check_input(basis: Any, displacements: ArrayLike, forces: NDArray) -> None:
    """Refuse input that no fit could use: that of ``check_supercells``, and the same supercell twice.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom
    forces : (..., n_supercells, n_supercell_atoms, 3), eV/angstrom

    Raises
    ------
    StudyError
    """
    displacements = numpy.asarray(displacements)
    check_supercells(basis.n_supercell_atoms, displacements, forces)
    twice = _first_pair_alike(displacements)
    if twice:
        raise StudyError(
            f"the same displaced supercell is given twice (supercells {twice[0]} and {twice[1]})",
            fix="give each supercell once",
        )


def check_supercells(n_supercell_atoms: int, displacements: NDArray, forces: NDArray) -> None:
    """Refuse wrong shapes, values that are not finite, and supercells without displacement.

    Parameters
    ----------
    n_supercell_atoms : atoms of the supercell
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom
    forces : (..., n_supercells, n_supercell_atoms, 3), eV/angstrom

    Raises
    ------
    StudyError
    """
    displacements, forces = numpy.asarray(displacements), numpy.asarray(forces)
    if displacements.ndim != 3 or displacements.shape[1:] != (n_supercell_atoms, 3) or not len(displacements):
        raise StudyError(
            f"displacements have the shape {displacements.shape}, the supercell asks for (n, {n_supercell_atoms}, 3)",
            fix="give supercells of the crystal and repetitions that the basis was made for",
        )
    if forces.shape[-3:] != displacements.shape:
        raise StudyError(
            f"forces have the shape {forces.shape}, displacements {displacements.shape}",
            fix="give one force for every displacement",
        )
    for name, array in (("displacement", displacements), ("force", forces)):
        if not numpy.isfinite(array).all():
            raise StudyError(
                f"{int((~numpy.isfinite(array)).sum())} {name} components are not finite numbers",
                fix="calculate these supercells again",
            )
    if not forces.any():
        raise StudyError("all forces vanish", fix="check the force calculation")
    still = numpy.flatnonzero(~is_displaced(displacements).any(axis=1))
    if len(still):
        raise StudyError(
            f"nothing is displaced in supercells {still.tolist()}",
            fix="leave the undisplaced supercell out; its forces are the residual forces",
        )


def is_displaced(displacements: NDArray) -> NDArray:
    """Whether each atom is displaced: by more than a small fraction of the largest displacement of all supercells.

    Files round positions, so an atom at rest has a small displacement too; and no displacement that is meant is that
    much smaller than the others.

    Parameters
    ----------
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom

    Returns
    -------
    (n_supercells, n_supercell_atoms) booleans
    """
    lengths = numpy.linalg.norm(displacements, axis=2)
    return lengths > ROUNDING_OF_DISPLACEMENTS * lengths.max(initial=0.0)


def _first_pair_alike(displacements):
    """Two supercells whose displacements agree up to rounding, or None."""
    flat = displacements.reshape(len(displacements), -1)
    limit = ROUNDING_OF_DISPLACEMENTS * numpy.abs(flat).max()
    order = numpy.argsort(flat.sum(axis=1), kind="stable")
    sums = flat.sum(axis=1)[order]
    for position, one in enumerate(order):  # supercells that agree have nearly the same sum of components
        for other in order[position + 1 : numpy.searchsorted(sums, sums[position] + limit * flat.shape[1], "right")]:
            if numpy.abs(flat[one] - flat[other]).max() <= limit:
                return sorted((int(one), int(other)))
    return None


def check_explained(
    basis: Any, displacements: NDArray, forces: NDArray, misfits: NDArray, held_out_relative: float
) -> list[str]:
    """Refuse a fit whose forces cannot belong to its displacements.

    An order of atoms that differs between the two, or a supercell of another calculation, leaves errors as large as the
    forces themselves: on all atoms, on all atoms of one kind, on single atoms, or in single supercells. Errors of a
    force model are spread alike over the equivalent atoms and do not look so. Single atoms and supercells are compared
    only where most atoms are displaced: else equivalent atoms do not feel equal forces.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    displacements, forces, misfits : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom
    held_out_relative : relative force error on held-out supercells, or NaN

    Returns
    -------
    list of warnings: single forces that stand out among displacements so large that anharmonicity may explain them

    Raises
    ------
    StudyError
        Naming the atoms or supercells.
    """
    fix = "check that displacements and forces list the same atoms in the same order and the same cell"
    if basis.orders[0].clusters.repetitions is None:
        fix += (
            ", or take all pairs of the supercell or a longer cutoff in the second order: --second-cutoff "
            "(force_constants.second_cutoff_angstrom in a study)"
        )
    overall = numpy.sqrt((misfits**2).mean() / (forces**2).mean())
    if numpy.fmax(overall, held_out_relative) > UNEXPLAINED:
        worst = numpy.fmax(overall, held_out_relative)
        raise StudyError(
            f"the fit explains nothing of supercells it has not seen (relative force error {worst:.2f})", fix=fix
        )
    if is_displaced(displacements).mean() < 0.5:
        return []
    by_kind = (len(forces), -1, basis.n_atoms)
    error, size = (numpy.square(x).sum(axis=2).reshape(by_kind) for x in (misfits, forces))
    size = numpy.maximum(size.mean(axis=(0, 1)), 1e-4 * size.mean())  # below a hundredth of the rest, forces are noise
    kinds = numpy.flatnonzero(error.mean(axis=(0, 1)) > UNEXPLAINED**2 * size)
    if len(kinds):
        raise StudyError(f"the fit explains nothing of the forces on atoms {kinds.tolist()} of the cell", fix=fix)
    single = _standing_out(error, (0, 1), OUTLIER, size)
    of_atoms = _standing_out(error.mean(axis=0), 0, OUTLIER_MEAN, size)
    of_supercells = _standing_out(error.mean(axis=1), 0, OUTLIER_MEAN, size)
    if not (single.any() or of_atoms.any() or of_supercells.any()):
        return []
    where = []
    if of_atoms.any():
        cell, kind = numpy.nonzero(of_atoms)
        where.append(f"on atoms {(cell * basis.n_atoms + kind)[:8].tolist()}")
    if of_supercells.any():
        where.append(f"in supercells {numpy.flatnonzero(of_supercells.any(axis=1))[:8].tolist()}")
    if not where:
        supercell, cell, kind = numpy.nonzero(single)
        where.append(f"on atoms {numpy.unique(cell * basis.n_atoms + kind)[:8].tolist()} in supercells "
                     f"{numpy.unique(supercell)[:8].tolist()}")  # fmt: skip
    what = (
        f"forces {' and '.join(where)} stand out from those on all equivalent atoms: the fit explains nothing of them"
    )
    large = numpy.sqrt((displacements**2).sum(axis=2).mean()) > LARGE_DISPLACEMENT_ANGSTROM
    if large and not of_atoms.any() and not of_supercells.any():
        return [f"{what}; displacements this large may explain it, atoms in another order too"]
    raise StudyError(what, fix=fix + ", and that these calculations converged")


def doubts(quality: dict[str, Any], n_orders: int) -> list[str]:
    """Warnings about a fit that is usable but not good, with numbers and a hint.

    Parameters
    ----------
    quality : values of the fit's record
    n_orders : orders of the force constants in the fit

    Returns
    -------
    list of sentences
    """
    found = []
    error = numpy.fmax(quality["force_error_relative"], quality["force_error_relative_held_out"])
    if error > LARGE_ERROR:
        hints = ["smaller displacements"]
        if n_orders < 3:
            hints.insert(0, "the fourth order (--fourth-cutoff, force_constants.fourth_cutoff_angstrom in a study)"
                         if n_orders == 2 else "the third order")  # fmt: skip
        found.append(
            f"the force constants leave {100 * error:.3g} % of the forces unexplained at displacements of "
            f"{quality['displacement_rms_angstrom']:.3g} angstrom; {' or '.join(hints)} would lower that"
        )
    if quality["condition_number"] > LARGE_CONDITION:
        found.append(
            f"the displacements hardly tell some force constants apart (condition number "
            f"{quality['condition_number']:.2g}); more supercells with independent random displacements would"
        )
    return found


def _standing_out(error, axes, factor, size):
    """Squared errors that exceed both the median of their equivalents by a factor and the size of the forces."""
    return (error > factor**2 * numpy.median(error, axis=axes)) & (error > UNEXPLAINED**2 * size)


def sum_rule_residuals(basis: Any, rotational: Any, parameters: NDArray) -> dict[str, float]:
    """Residuals of all sum rules, each relative to the largest term that enters it.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    rotational : ``RotationalSumRules``
    parameters : (n_free,)

    Returns
    -------
    dict of numbers without unit
    """
    own = list(zip(basis.orders, basis.split(parameters)))
    born_huang, huang = rotational.residuals(parameters)
    return {
        "acoustic_residual_max": max(order.acoustic_residual(values) for order, values in own),
        "symmetry_residual_max": max(order.symmetry_residual for order, _ in own),
        "born_huang_residual": born_huang,
        "huang_residual": huang,
    }
