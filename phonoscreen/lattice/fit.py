"""Force constants of one structure from the forces on its displaced supercells."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.basis import read_basis
from phonoscreen.lattice.dynamical_matrix import HarmonicLattice
from phonoscreen.lattice.fit_matrix import FitMatrix, check_displacements
from phonoscreen.lattice.normal_equations import NormalEquations
from phonoscreen.lattice.sparse_regression import sparse_parameters
from phonoscreen.lattice.store import BASES_HELD
from phonoscreen.lattice.sum_rules import enforce, rotational_constraints

METHODS = ("least_squares", "lasso", "adaptive_lasso", "ardr")

UNEXPLAINED = 0.9
"""Relative held-out force error above which forces and displacements cannot belong together."""


@dataclass
class FittedForceConstants:
    """Free force constants of one structure and how well they are known.

    Parameters
    ----------
    parameters : (n_free,) eV/angstrom^order, in the basis named by the key
    parameters_committee : (n_member, n_free), or None
    quality : scalars for the record, units in the names
    """

    parameters: numpy.ndarray
    parameters_committee: numpy.ndarray | None
    quality: dict = field(default_factory=dict)


class ForceConstantFitter:
    """Fits every structure that shares one symmetry basis.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    method : ``least_squares``, or with cross-validation ``lasso``, ``adaptive_lasso``, ``ardr``
    rotational_sum_rules : enforce the Born-Huang and Huang conditions after the fit
    """

    def __init__(self, basis, method="least_squares", rotational_sum_rules=True):
        if method not in METHODS:
            raise StudyError(f"unknown method {method!r}", fix=f"set force_constants.method to one of {METHODS}")
        self.basis, self.method, self.rotational_sum_rules = basis, method, rotational_sum_rules
        self._fit_matrix = FitMatrix(basis)
        self._constraints = (None, None)

    def fit(self, crystal, displacements, forces, committee_forces=None, residual_forces=None):
        """Fit the force constants of one structure.

        Parameters
        ----------
        crystal : ``Crystal``
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom
        forces : (n_supercells, n_supercell_atoms, 3), eV/angstrom
        committee_forces : (n_member, n_supercells, n_supercell_atoms, 3), or None
        residual_forces : (n_supercell_atoms, 3) of the undisplaced supercell, subtracted from all forces, or None

        Returns
        -------
        FittedForceConstants

        Raises
        ------
        StudyError
            For input no fit can use, too few equations, or forces that displacements do not explain at all.
        """
        sets = numpy.asarray(forces, float)[None]
        if committee_forces is not None:
            sets = numpy.concatenate([sets, numpy.asarray(committee_forces, float)])
        if residual_forces is not None:
            residual_forces = numpy.asarray(residual_forces, float)
            if residual_forces.shape != sets.shape[-2:] or not numpy.isfinite(residual_forces).all():
                raise StudyError(
                    f"residual forces of shape {residual_forces.shape} are not finite forces on the supercell's "
                    f"{sets.shape[-2]} atoms",
                    fix="calculate the undisplaced supercell again",
                )
            sets = sets - residual_forces
        check_displacements(self.basis, displacements, sets)
        n_supercells = len(displacements)
        n_groups = min(n_supercells, 2 if self.method == "least_squares" else 5)
        equations = NormalEquations(self._fit_matrix, numpy.asarray(displacements, float), sets, n_groups)
        every = equations.without()
        if not every.square[0] > 0:
            raise StudyError("all forces vanish", fix="check the force calculation")
        parameters, factor, judgement = self._solve(equations)
        n_nonzero = int((parameters[:, 0] != 0).sum())
        parameters, changed = self._obey_rotations(crystal, every, factor, parameters)
        trained = every.error(parameters[:, 0])
        unexplained = numpy.fmax(judgement["force_error_relative_held_out"], trained[1])
        if unexplained > UNEXPLAINED:
            raise StudyError(
                f"the fit explains nothing of supercells it has not seen (relative force error {unexplained:.2f})",
                fix="check that displacements and forces list the same atoms in the same order and the same cell",
            )
        quality = {
            "method": self.method,
            "n_supercells": n_supercells,
            "n_equations": every.equations,
            "n_free": self.basis.n_free,
            "force_rms_ev_per_angstrom": float(numpy.sqrt(every.square[0] / every.equations)),
            "force_error_ev_per_angstrom": float(trained[0]),
            "force_error_relative": float(trained[1]),
            **judgement,
            "condition_number": factor.condition_number,
            "n_nonzero": n_nonzero,
            "rotational_change_relative": changed,
            "acoustic_residual_max": self._acoustic_residual(parameters[:, 0]),
            "residual_force_max_ev_per_angstrom": (
                float(numpy.abs(residual_forces).max()) if residual_forces is not None else float("nan")
            ),
        }
        committee = parameters[:, 1:].T.copy() if committee_forces is not None else None
        return FittedForceConstants(parameters[:, 0].copy(), committee, quality)

    def _solve(self, equations):
        """Parameters of all sets, the factor of the normal matrix, and what is particular to the method."""
        every = equations.without()
        if self.method == "least_squares":
            factor = every.factorise()
            absolute, relative = self._held_out(equations)
            return factor.solve(every.moment), factor, {
                "force_error_held_out_ev_per_angstrom": absolute,
                "force_error_relative_held_out": relative,
                "penalty": float("nan"),
            }  # fmt: skip
        parameters, penalty, errors = sparse_parameters(self.method, equations)
        held_out = float(numpy.sqrt(errors.min())) if len(equations.gram) > 1 else float("nan")
        return parameters, every.factorise(ridge=0 if every.equations > 2 * self.basis.n_free else 1e-8), {
            "force_error_held_out_ev_per_angstrom": held_out,
            "force_error_relative_held_out": held_out / float(numpy.sqrt(every.square[0] / every.equations)),
            "penalty": penalty,
        }  # fmt: skip

    def _held_out(self, equations):
        """Force error on the last group of supercells of a fit to the others; NaN where these do not suffice."""
        rest = equations.without(-1)
        try:
            factor = rest.factorise()
        except StudyError:
            return float("nan"), float("nan")
        absolute, relative = equations.only(-1).error(factor.solve(rest.moment[:, :1])[:, 0])
        return float(absolute), float(relative)

    def _obey_rotations(self, crystal, every, factor, parameters):
        if not self.rotational_sum_rules or self.basis.orders[0].clusters.repetitions is None:
            return parameters, 0.0
        obedient = enforce(self._rotational_constraints(crystal), factor, parameters)
        change = (obedient - parameters)[:, 0]
        return obedient, float(numpy.sqrt(max(change @ every.gram @ change, 0.0) / every.square[0]))

    def _rotational_constraints(self, crystal):
        """Constraints of the geometry, which structures of one prototype mostly share."""
        shape = crystal.cell / crystal.volume ** (1 / 3)
        geometry = numpy.round(numpy.concatenate([shape.ravel(), crystal.scaled_positions.ravel()]), 7)
        if self._constraints[0] is None or not numpy.array_equal(self._constraints[0], geometry):
            lattice = HarmonicLattice(crystal, self.basis.repetitions)
            self._constraints = (geometry, rotational_constraints(self.basis, lattice))
        return self._constraints[1]

    def _acoustic_residual(self, parameters):
        """Largest violation of the acoustic sum rule, relative to the largest force constant of the order."""
        worst = 0.0
        for order, own in zip(self.basis.orders, self.basis.split(parameters)):
            worst = max(worst, order.acoustic_residual(own))
        return worst


class FitterPool:
    """Fitters of the bases in use, the most recent ones kept.

    Parameters
    ----------
    bases : open ``h5py.File`` written by ``build_symmetry_bases``
    method, rotational_sum_rules : as for ``ForceConstantFitter``
    """

    def __init__(self, bases, method, rotational_sum_rules):
        self.fitter = lru_cache(BASES_HELD)(
            lambda key: ForceConstantFitter(read_basis(bases, key), method, rotational_sum_rules)
        )
