"""Force constants of one structure from the forces on its displaced supercells."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import h5py
import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.force_constants.basis import BASES_HELD, SymmetryBasis, read_basis, symmetry_digest
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.harmonic_model import second_order_basis
from phonoscreen.force_constants.judgement import check_explained, check_input, doubts, sum_rule_residuals
from phonoscreen.force_constants.normal_equations import NormalEquations
from phonoscreen.force_constants.orders import ORDERS, methods_of_orders, n_groups_wanted, plan_blocks, solve_blocks
from phonoscreen.force_constants.rotations import factor_of, obey_rotations, relative_to_forces
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.force_constants.sum_rules import RotationalSumRules
from phonoscreen.phonons.dipoles import dipole_constants, dipole_forces


@dataclass
class FittedForceConstants:
    """Free force constants of one structure and how well they are known.

    Parameters
    ----------
    parameters : (n_free,) eV/angstrom^order, in the basis named by the key
    parameters_committee : (n_member, n_free), or None
    quality : scalars for the record, units in the names
    warnings : list of sentences; joined among the scalars too
    """

    parameters: numpy.ndarray
    parameters_committee: numpy.ndarray | None
    quality: dict = field(default_factory=dict)
    warnings: list = field(default_factory=list)


class ForceConstantFitter:
    """Fits every structure that shares one symmetry basis.

    Parameters
    ----------
    basis : ``SymmetryBasis``
    settings : ``FitSettings``
    """

    def __init__(self, basis: SymmetryBasis, settings: FitSettings | None = None) -> None:
        self.basis, self.settings = basis, settings or FitSettings()
        sizes = [order.n_free for order in basis.orders]
        self.methods = methods_of_orders(self.settings.method, len(sizes))
        self._blocks = plan_blocks(sizes, self.methods, self.settings.in_sequence)
        self._fit_matrix = FitMatrix(basis)
        self._geometry: tuple[NDArray | None, Any] = (None, None)

    def fit(
        self,
        crystal: Crystal,
        displacements: ArrayLike,
        forces: ArrayLike,
        committee_forces: ArrayLike | None = None,
        residual_forces: ArrayLike | None = None,
        charges: tuple[NDArray, NDArray] | None = None,
    ) -> FittedForceConstants:
        """Fit the force constants of one structure.

        Parameters
        ----------
        crystal : ``Crystal``
        displacements : (n_supercells, n_supercell_atoms, 3), angstrom
        forces : (n_supercells, n_supercell_atoms, 3), eV/angstrom
        committee_forces : (n_member, n_supercells, n_supercell_atoms, 3), or None
        residual_forces : (n_supercell_atoms, 3) of the undisplaced supercell, subtracted from all forces, or None
        charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3), or None; with them the dipole-dipole part
            is subtracted first and the parameters are those of the rest

        Returns
        -------
        FittedForceConstants

        Raises
        ------
        StudyError
            For input no fit can use, too few equations, or forces that displacements do not explain.
        """
        sets = numpy.asarray(forces, float)[None]
        if committee_forces is not None:
            sets = numpy.concatenate([sets, numpy.asarray(committee_forces, float)])
        if residual_forces is not None:
            sets = sets - _checked_residual_forces(residual_forces, sets)
        check_input(self.basis, displacements, sets)
        rotational = self._rotational(crystal)
        moves, given = numpy.asarray(displacements, float), sets
        if charges is not None:
            dipoles = dipole_constants(crystal, self.basis.repetitions, *charges)
            sets = sets - dipole_forces(dipoles, moves)
        if not given[0].any():
            raise StudyError("all forces vanish", fix="check the force calculation")
        equations = NormalEquations(self._fit_matrix, moves, sets, n_groups_wanted(self._blocks, len(moves)))
        solution, every = solve_blocks(self._blocks, equations), equations.without()
        factor = solution.factor or factor_of(every)
        obeyed = obey_rotations(rotational, self.settings.rotational_sum_rules, equations, factor, solution)
        parameters = obeyed.parameters
        misfits = sets[0] - self._fit_matrix.forces(moves, parameters[:, 0])
        rms = float(numpy.sqrt((given[0] ** 2).mean()))
        unexplained = check_explained(self.basis, moves, given[0], misfits, obeyed.held_out / rms)
        quality = {
            "method": ", ".join(dict.fromkeys(self.methods)),
            "in_sequence": self.settings.in_sequence,
            "n_supercells": len(moves),
            "n_equations": every.equations,
            "n_free": self.basis.n_free,
            "displacement_rms_angstrom": float(numpy.sqrt((moves**2).sum(axis=2).mean())),
            "force_rms_ev_per_angstrom": rms,
            "force_error_ev_per_angstrom": float(numpy.sqrt((misfits**2).mean())),
            "force_error_relative": float(numpy.sqrt((misfits**2).mean())) / rms,
            "force_error_held_out_ev_per_angstrom": obeyed.held_out,
            "force_error_relative_held_out": obeyed.held_out / rms,
            "condition_number": factor.condition_number,
            **self._by_order(solution),
            **relative_to_forces(obeyed, rms),
            **sum_rule_residuals(self.basis, rotational, parameters[:, 0]),
            "residual_force_max_ev_per_angstrom": (
                float(numpy.abs(residual_forces).max()) if residual_forces is not None else float("nan")
            ),
            "dipole_force_share": (
                float(numpy.sqrt(((given[0] - sets[0]) ** 2).mean())) / rms if charges is not None else 0.0
            ),
        }
        warnings = ([obeyed.note] if obeyed.note else []) + unexplained + doubts(quality, len(self.basis.orders))
        quality["warnings"] = "; ".join(warnings)
        committee = parameters[:, 1:].T.copy() if committee_forces is not None else None
        return FittedForceConstants(parameters[:, 0].copy(), committee, quality, warnings)

    def predict(
        self,
        crystal: Crystal,
        parameters: NDArray,
        displacements: NDArray,
        residual_forces: NDArray | None = None,
        charges: tuple[NDArray, NDArray] | None = None,
    ) -> NDArray:
        """Forces that fitted parameters give on displaced supercells.

        Parameters
        ----------
        crystal, displacements, residual_forces, charges : as for ``fit``
        parameters : (n_free,)

        Returns
        -------
        (n_supercells, n_supercell_atoms, 3), eV/angstrom
        """
        forces = self._fit_matrix.forces(displacements, parameters)
        if charges is not None:
            forces += dipole_forces(dipole_constants(crystal, self.basis.repetitions, *charges), displacements)
        return forces if residual_forces is None else forces + residual_forces

    def _by_order(self, solution):
        """Method, penalty and number of nonzero parameters of each order."""
        values: dict[str, Any] = {}
        for k, (name, own) in enumerate(zip(ORDERS, self.basis.split(solution.parameters[:, 0]))):
            penalty = solution.penalties[k if self.settings.in_sequence else 0]
            values |= {
                f"method_{name}": self.methods[k],
                f"penalty_{name}": penalty if self.methods[k] != "least_squares" else float("nan"),
                f"n_nonzero_{name}": int((own != 0).sum()),
            }
        return values

    def _rotational(self, crystal):
        """Rotational sum rules of the geometry, which structures of one prototype mostly share.

        Raises
        ------
        StudyError
            If the geometry does not have the symmetry of the basis.
        """
        shape = crystal.cell / crystal.volume ** (1 / 3)
        kinds = numpy.unique(crystal.numbers, return_inverse=True)[1]
        geometry = numpy.round(numpy.concatenate([shape.ravel(), crystal.scaled_positions.ravel(), kinds]), 7)
        if self._geometry[0] is None or not numpy.array_equal(self._geometry[0], geometry):
            found = find_symmetry(crystal, self.basis.repetitions)
            digest = symmetry_digest(found, len(crystal.numbers), self.basis.repetitions)
            if digest != self.basis.symmetry:
                raise StudyError(
                    "the crystal does not have the symmetry that the basis was made for (another cell, other atoms, or "
                    "the same in another order)",
                    fix="give the crystal the basis was assigned to, or build its own basis",
                )
            self._geometry = (geometry, RotationalSumRules(self.basis, crystal))
        return self._geometry[1]


class FitterPool:
    """Fitters of the bases in use, the most recent ones kept.

    Parameters
    ----------
    bases : open ``h5py.File`` written by ``build_symmetry_bases``
    settings : ``FitSettings``
    """

    def __init__(self, bases: h5py.File, settings: FitSettings) -> None:
        self.basis = lru_cache(BASES_HELD)(lambda key: read_basis(bases, key))
        self.fitter = lru_cache(BASES_HELD)(lambda key: ForceConstantFitter(self.basis(key), settings))
        self._settings = settings

    def second_order_fitter(self, key: str, crystal: Crystal) -> ForceConstantFitter:
        """Return the fitter of the second order alone, for supercells in which single atoms are displaced."""
        settings = replace(self._settings, rotational_sum_rules=False)
        return ForceConstantFitter(second_order_basis(self.basis(key), crystal), settings)


def _checked_residual_forces(residual_forces, sets):
    residual_forces = numpy.asarray(residual_forces, float)
    if residual_forces.shape != sets.shape[-2:] or not numpy.isfinite(residual_forces).all():
        raise StudyError(
            f"residual forces of shape {residual_forces.shape} are not finite forces on the supercell's "
            f"{sets.shape[-2]} atoms",
            fix="calculate the undisplaced supercell again",
        )
    return residual_forces
