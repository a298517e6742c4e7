"""Whether the rotational sum rules are imposed on fitted force constants, and at what cost.

The rules hold in the infinite crystal. A supercell cuts the tail of long-ranged forces, noise breaks the rules at
random, and conditions that rounding of coordinates only mimics are wrong. They are therefore imposed only where the
forces allow it: where the squared force error does not grow by much more than noise explains.
"""

from dataclasses import dataclass
from typing import Any

import numpy

from phonoscreen.force_constants.normal_equations import Factor, NormalEquations, Sums
from phonoscreen.force_constants.orders import Solution, held_out_error
from phonoscreen.force_constants.sum_rules import COST_OVER_NOISE, RotationalSumRules, cost_over_noise, enforce


@dataclass
class Obeyed:
    """Parameters after the decision.

    Parameters
    ----------
    parameters : (n_free, n_sets)
    held_out : force error of these on supercells left out of the fit, eV/angstrom; NaN where none could be
    values : for the record; ``rotational_change`` and the held-out errors in eV/angstrom
    note : why the rules are left off, or empty
    """

    parameters: numpy.ndarray
    held_out: float
    values: dict
    note: str = ""


def obey_rotations(
    rules: RotationalSumRules, wanted: bool, equations: NormalEquations, factor: Factor, solution: Solution
) -> Obeyed:
    """Parameters that obey the rotational sum rules where the forces allow it, else those given.

    Parameters
    ----------
    rules : ``RotationalSumRules``
    wanted : whether the rules are asked for
    equations : ``NormalEquations``
    factor : ``Factor`` of all supercells' normal matrix
    solution : ``Solution``

    Returns
    -------
    Obeyed
    """
    plain = held_out_error(equations, solution.left_out)
    values = {
        "rotational_sum_rules": False,
        "rotational_change": 0.0,
        "rotational_cost_over_noise": float("nan"),
        "held_out_without_rotations": plain,
        "held_out_with_rotations": float("nan"),
    }
    if not wanted:
        return Obeyed(solution.parameters, plain, values)
    if rules.unclear:
        return Obeyed(solution.parameters, plain, values, rules.unclear)
    if not len(rules.constraints):  # symmetry alone fulfils them
        return Obeyed(solution.parameters, plain, values | {"rotational_sum_rules": True})
    every = equations.without()
    obedient = enforce(rules.constraints, factor, solution.parameters)
    change = (obedient - solution.parameters)[:, 0]
    left_out = {
        g: enforce(rules.constraints, factor_of(equations.without(g)), own[:, None])[:, 0]
        for g, own in solution.left_out.items()
    }
    values["rotational_change"] = float(numpy.sqrt(max(change @ every.gram @ change, 0.0) / every.equations))
    values["held_out_with_rotations"] = obedient_held_out = held_out_error(equations, left_out)
    cost = cost_over_noise(rules.constraints, every, solution.parameters[:, 0], obedient[:, 0])
    values["rotational_cost_over_noise"] = cost
    if cost > COST_OVER_NOISE:
        size = numpy.sqrt(every.square[0] / every.equations)
        before, after = (numpy.sqrt(every.misfit(own[:, 0]) / every.equations) / size
                         for own in (solution.parameters, obedient))  # fmt: skip
        unseen = f" (on supercells left out of the fit from {100 * plain / size:.3g} to "
        unseen += f"{100 * obedient_held_out / size:.3g} %)"
        return Obeyed(
            solution.parameters, plain, values,
            f"{len(rules.constraints)} rotational sum rules are left off: they would raise the force error from "
            f"{100 * before:.3g} to {100 * after:.3g} %{unseen if numpy.isfinite(plain) else ''}, and its square "
            f"{cost:.3g} times more than noise explains; in polar crystals the supercell cuts the dipole-dipole forces",
        )  # fmt: skip
    return Obeyed(obedient, obedient_held_out, values | {"rotational_sum_rules": True})


def factor_of(sums: Sums) -> Factor:
    """Factor of a normal matrix; with few equations, as sparse methods have, a small ridge makes it definite."""
    return sums.factorise(ridge=0 if sums.equations > 2 * len(sums.gram) else 1e-8)


def relative_to_forces(obeyed: Obeyed, force_rms: float) -> dict[str, Any]:
    """Values of the record: the decision, and its errors over the size of the forces.

    Parameters
    ----------
    obeyed : ``Obeyed``
    force_rms : eV/angstrom
    """
    values = obeyed.values
    return {
        "rotational_sum_rules": values["rotational_sum_rules"],
        "rotational_change_relative": values["rotational_change"] / force_rms,
        "rotational_cost_over_noise": values["rotational_cost_over_noise"],
        "force_error_relative_held_out_without_rotations": values["held_out_without_rotations"] / force_rms,
        "force_error_relative_held_out_with_rotations": values["held_out_with_rotations"] / force_rms,
    }
