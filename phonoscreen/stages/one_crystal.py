"""Force constants of one crystal outside a study: which way suits the data, and what the report says."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.rounding import rounded_share
from phonoscreen.crystal.symmetry import higher_space_group, space_group
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.finite_displacements import complete_by_symmetry, finite_differences, is_single
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.judgement import LARGE_ERROR
from phonoscreen.force_constants.label_checks import check_labels
from phonoscreen.force_constants.learning_curve import learning_curve
from phonoscreen.force_constants.settings import FitSettings, OrderSettings
from phonoscreen.formats.finite_differences import by_phono3py, in_cell_of
from phonoscreen.phonons.dipoles import check_charges, dipole_constants

if TYPE_CHECKING:
    from phonoscreen.formats.displacements import DisplacedSupercells


ROUNDED_SHARE = 0.01
"""Share of the forces that their rounding may be without a warning."""


@dataclass
class Choices:
    """What the user asks for.

    Parameters
    ----------
    orders : ``OrderSettings``
    insists_on_third : whether the third-order cutoff is the user's own choice
    method : as in ``FitSettings``, or None: finite differences where single atoms are displaced, else least squares
    in_sequence : as in ``FitSettings``
    rotational_sum_rules : True, False, or None: where the forces allow them, unless single atoms are displaced
    learning_curve : also fit to fewer supercells
    """

    orders: OrderSettings = field(default_factory=OrderSettings)
    insists_on_third: bool = False
    method: str | dict | None = None
    in_sequence: bool = False
    rotational_sum_rules: bool | None = None
    learning_curve: bool = False


@dataclass
class Determined:
    """Force constants of one crystal.

    Parameters
    ----------
    crystal : ``Crystal``, primitive
    second : ``SecondOrder``, the dipole-dipole part included
    third : ``ThirdOrder``, or None
    charges : Born charges and dielectric tensor that obey the symmetry, or None
    report : values by name
    warnings : list of sentences
    third_repetitions : (3,) supercell of the third order's data, where it repeats the crystal's vectors; else None
    """

    crystal: Crystal
    second: SecondOrder
    third: ThirdOrder | None
    charges: tuple | None
    report: dict
    warnings: list
    third_repetitions: tuple | None = None


def determine(data: "DisplacedSupercells", choices: Choices) -> Determined:
    """Force constants from displaced supercells and their forces.

    Parameters
    ----------
    data : ``DisplacedSupercells``
    choices : ``Choices``

    Returns
    -------
    Determined

    Raises
    ------
    StudyError
        For input that no fit can use, forces that displacements do not explain, or choices that the data cannot serve.
    """
    if data.folder is not None and choices.method is None and _only_defaults(choices):
        return _by_pairs(data, choices)
    found = _of_one_supercell(data.distinct() if data.folder is not None else data, choices)
    if data.second_order is None:
        return found
    method = choices.method.get("second") if isinstance(choices.method, dict) else choices.method
    alone = replace(choices, orders=OrderSettings(0.0, second_cutoff_angstrom=choices.orders.second_cutoff_angstrom),
                    insists_on_third=False, learning_curve=False, method=method)  # fmt: skip
    larger = _of_one_supercell(data.second_order, alone)
    third = None if found.third is None else in_cell_of(found.third, found.crystal, larger.crystal)
    report = {**found.report, "repetitions": larger.report["repetitions"],
              "repetitions_third": found.report["repetitions"], "second_order": larger.report}  # fmt: skip
    return replace(larger, third=third, report=report, warnings=found.warnings + larger.warnings,
                   third_repetitions=_same_vectors(data, larger.crystal))  # fmt: skip


def _same_vectors(data, crystal):
    """Repetitions of the data if they count along the vectors of a crystal, else None."""
    return data.repetitions if numpy.allclose(data.crystal.cell, crystal.cell, atol=1e-6) else None


def _only_defaults(choices):
    """Whether nothing is asked for that only a fit can give."""
    orders = choices.orders
    return not (
        choices.insists_on_third or orders.third_shells is not None or orders.second_cutoff_angstrom is not None
        or orders.fourth_cutoff_angstrom is not None or choices.in_sequence or choices.rotational_sum_rules
        or choices.learning_curve
    )  # fmt: skip


def _by_pairs(data, choices):
    """phono3py's finite differences of its pair displacements."""
    judged = data.second_order or data
    found = by_phono3py(data, third=choices.orders.third_cutoff_angstrom != 0)
    report, warnings = _symmetry(judged.crystal, data.symmetry_tolerance_angstrom)
    report |= {"repetitions": " ".join(str(n) for n in judged.repetitions), "rotational_sum_rules": False}
    charges = check_charges(judged.crystal, judged.born, judged.dielectric) if judged.born is not None else None
    warnings += _doubts_of_differences(found.quality)
    for own in filter(None, (data, data.second_order)):
        warnings += _doubts_of_digits(own.forces)
    return Determined(judged.crystal, found.second, found.third, charges, report | found.quality, warnings,
                      _same_vectors(data, judged.crystal))  # fmt: skip


def _of_one_supercell(data, choices):
    """Force constants from the data of one supercell; a refusal names the symmetry that rounding hides, if any does."""
    report, hidden = _symmetry(data.crystal, data.symmetry_tolerance_angstrom)
    try:
        return _found(data, choices, report, list(hidden))
    except StudyError as error:
        if not hidden:
            raise
        fix = "; ".join([*hidden, *filter(None, [error.fix])])
        raise StudyError(error.what, where=error.where, fix=fix, blame=error.blame) from error


def _found(data, choices, report, warnings):
    """Force constants from the data of one supercell, with a report and warnings that are begun already."""
    report["repetitions"] = " ".join(str(n) for n in data.repetitions)
    charges = check_charges(data.crystal, data.born, data.dielectric) if data.born is not None else None
    pairs = build_basis(data.crystal, data.repetitions, (None,))
    check_labels(data.crystal, data.displacements, data.forces, FitMatrix(pairs), data.residual_forces)
    data, repeated = _each_once(data)
    warnings += repeated + _doubts_of_digits(data.forces)
    single = is_single(data.displacements)
    if single:
        report["n_single_displacements"] = len(data.displacements)
        _check_single(choices)
    if single and choices.method is None and choices.orders.second_cutoff_angstrom is None:
        if not choices.rotational_sum_rules:
            forces = data.forces if data.residual_forces is None else data.forces - data.residual_forces
            second, values = finite_differences(data.crystal, data.repetitions, data.displacements, forces)
            report |= values | {"rotational_sum_rules": False}
            return Determined(data.crystal, second, None, charges, report, warnings + _doubts_of_differences(values))
    second, third, values, found = _fitted(data, choices, charges, single)
    return Determined(data.crystal, second, third, charges, report | values, warnings + found, data.repetitions)


def _each_once(data):
    """Data without supercells whose displacements and forces both are those of an earlier one, and warnings.

    A file that is given twice would put the same supercell among those fitted and those held out.
    """
    flat = numpy.concatenate([data.displacements, data.forces], axis=2).reshape(len(data.forces), -1)
    kept = numpy.sort(numpy.unique(numpy.round(flat, 7), axis=0, return_index=True)[1])
    if len(kept) == len(flat):
        return data, []
    repeated = sorted(set(range(len(flat))) - set(kept.tolist()))
    shown = ", ".join(map(str, repeated[:10])) + (f" and {len(repeated) - 10} more" if len(repeated) > 10 else "")
    warning = f"supercells {shown} are the same as earlier ones (a file given twice?): each is used once"
    return replace(data, displacements=data.displacements[kept], forces=data.forces[kept]), [warning]


def _symmetry(crystal, tolerance_angstrom):
    """Space group for the report, and a warning if rounding or a small distortion hides a higher one."""
    group = space_group(crystal, tolerance_angstrom)
    higher = higher_space_group(crystal, tolerance_angstrom)
    report = {
        "space_group": group.symbol,
        "space_group_number": group.number,
        "symmetry_tolerance_angstrom": group.tolerance_angstrom,
        "space_group_at_larger_tolerance": (
            f"{higher.symbol} ({higher.number}) at {higher.tolerance_angstrom:g} angstrom" if higher else None
        ),
    }
    warnings = []
    if higher:
        warnings.append(
            f"the space group is {group.symbol} ({group.number}) within {group.tolerance_angstrom:g} angstrom and "
            f"would be {higher.symbol} ({higher.number}) within {higher.tolerance_angstrom:g}: if the coordinates are "
            f"only rounded, give --symmetry-tolerance {higher.tolerance_angstrom:g}"
        )
    return report, warnings


def _doubts_of_digits(forces):
    """Warnings about forces that were written with few decimals, whose rounding is a good part of them."""
    decimals, share = rounded_share(forces) or (0, 0.0)
    if share <= ROUNDED_SHARE:
        return []
    return [
        f"forces have {decimals} decimals (eV/angstrom): their rounding alone is {100 * share:.3g} % of their "
        "root mean square, and force constants suffer as much; give forces with more digits"
    ]


def _doubts_of_differences(values):
    """Warnings about finite differences that describe their own forces badly."""
    if values["force_error_relative"] < LARGE_ERROR:
        return []
    return [
        f"the force constants leave {100 * values['force_error_relative']:.3g} % of the forces unexplained at "
        f"displacements of {values['displacement_max_angstrom']:.3g} angstrom: check that all calculations list the "
        "atoms in the same order, or use smaller displacements"
    ]


def _check_single(choices):
    """Refuse what single displaced atoms cannot give."""
    orders = choices.orders
    if choices.insists_on_third or orders.third_shells is not None or orders.fourth_cutoff_angstrom is not None:
        raise StudyError(
            "single displaced atoms hold no third or fourth order",
            fix="give supercells in which pairs or all atoms are displaced, or leave out --third-cutoff, "
            "--third-shells and --fourth-cutoff",
        )
    if choices.learning_curve:
        raise StudyError(
            "single displaced atoms leave nothing to be held out", fix="leave out --learning-curve"
        )  # fmt: skip


def _fitted(data, choices, charges, single):
    """Second and third order, values and warnings of a fit."""
    crystal, repetitions, moves, forces = data.crystal, data.repetitions, data.displacements, data.forces
    orders, rotational, residual = choices.orders, choices.rotational_sum_rules, data.residual_forces
    if single:
        if residual is not None:
            forces, residual = forces - residual, None
        orders = OrderSettings(0.0, second_cutoff_angstrom=orders.second_cutoff_angstrom)
        rotational = bool(rotational)
        moves, forces = complete_by_symmetry(crystal, repetitions, moves, forces)
    cutoffs, third = orders.cutoffs(crystal, repetitions)
    if isinstance(choices.method, dict) and len(choices.method) > len(cutoffs):
        raise StudyError(
            f"{len(choices.method)} methods for {len(cutoffs)} orders of force constants",
            fix="give --method one name for each order, or one for all",
        )
    basis = build_basis(crystal, repetitions, cutoffs)
    settings = FitSettings(
        choices.method or "least_squares", choices.in_sequence, True if rotational is None else rotational
    )
    fitter = ForceConstantFitter(basis, settings)
    fitted = fitter.fit(crystal, moves, forces, residual_forces=residual, charges=charges)
    if choices.rotational_sum_rules and not fitted.quality["rotational_sum_rules"]:
        raise StudyError(
            fitted.warnings[0], fix="--no-rotational-sum-rules (rotational_sum_rules: false in a study), or a larger "
            "supercell",
        )  # fmt: skip
    second = basis.expand_second(fitted.parameters)
    if charges is not None:
        second.values += dipole_constants(crystal, repetitions, *charges).values
    report = {name: value for name, value in fitted.quality.items() if name != "warnings"}
    if third:
        report |= {"third_cutoff_angstrom": third.value_angstrom, "third_shell": third.shell,
                   "third_cutoff_to_shell_angstrom": third.to_shell_angstrom}  # fmt: skip
    if choices.learning_curve:
        report["learning_curve"] = learning_curve(fitter, crystal, moves, forces, residual, charges)
    if not numpy.isfinite(second.values).all():
        raise StudyError("force constants are not finite", fix="check displacements and forces for extreme values")
    return second, basis.expand_third(fitted.parameters) if third else None, report, fitted.warnings
