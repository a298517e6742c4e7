"""Force constants of one crystal outside a study: which way suits the data, and what the report says."""

from dataclasses import dataclass, field

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.basis import build_basis
from phonoscreen.lattice.constants import SecondOrder, ThirdOrder
from phonoscreen.lattice.dipoles import check_charges, dipole_constants
from phonoscreen.lattice.finite_displacements import complete_by_symmetry, finite_differences, is_single
from phonoscreen.lattice.fit import ForceConstantFitter
from phonoscreen.lattice.fit_matrix import FitMatrix
from phonoscreen.lattice.judgement import LARGE_ERROR
from phonoscreen.lattice.label_checks import check_labels
from phonoscreen.lattice.learning_curve import learning_curve
from phonoscreen.lattice.settings import FitSettings, OrderSettings
from phonoscreen.lattice.symmetry import higher_space_group, space_group


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
    second : ``SecondOrder``, the dipole-dipole part included
    third : ``ThirdOrder``, or None
    charges : Born charges and dielectric tensor that obey the symmetry, or None
    report : values by name
    warnings : list of sentences
    """

    second: SecondOrder
    third: ThirdOrder | None
    charges: tuple | None
    report: dict
    warnings: list


def determine(data, choices):
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
    report, warnings = _symmetry(data.crystal, data.symmetry_tolerance_angstrom)
    report["repetitions"] = " ".join(str(n) for n in data.repetitions)
    charges = check_charges(data.crystal, data.born, data.dielectric) if data.born is not None else None
    pairs = build_basis(data.crystal, data.repetitions, (None,))
    check_labels(data.crystal, data.displacements, data.forces, FitMatrix(pairs))
    single = is_single(data.displacements)
    if single:
        report["n_single_displacements"] = len(data.displacements)
        _check_single(choices)
    if single and choices.method is None and choices.orders.second_cutoff_angstrom is None:
        if not choices.rotational_sum_rules:
            second, values = finite_differences(data.crystal, data.repetitions, data.displacements, data.forces)
            report |= values | {"rotational_sum_rules": False}
            return Determined(second, None, charges, report, warnings + _doubts_of_differences(values))
    second, third, values, found = _fitted(data, choices, charges, single)
    return Determined(second, third, charges, report | values, warnings + found)


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
    orders, rotational = choices.orders, choices.rotational_sum_rules
    if single:
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
    fitted = fitter.fit(crystal, moves, forces, charges=charges)
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
        report["learning_curve"] = learning_curve(fitter, crystal, moves, forces, charges=charges)
    if not numpy.isfinite(second.values).all():
        raise StudyError("force constants are not finite", fix="check displacements and forces for extreme values")
    return second, basis.expand_third(fitted.parameters) if third else None, report, fitted.warnings
