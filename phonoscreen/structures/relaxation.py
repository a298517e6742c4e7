"""Relaxation of crystals in their symmetric degrees of freedom: strains of the cell and free coordinates.

A crystal keeps its space group exactly when the cell is strained by strains that the point group leaves unchanged
(one for a cubic crystal, two for a hexagonal or tetragonal one, six for a triclinic one) and the atoms move along the
totally symmetric modes, those that every operation of the space group leaves unchanged. There are zero to three of
these in the classes of Table 1 (rocksalt none, elpasolite and spinel one), so a quasi-Newton search in one to four
dimensions replaces a constrained search in 3n + 6, and the symmetry cannot be lost on the way.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError, engine_blamed
from phonoscreen.audit.shard import Outcome
from phonoscreen.formats.hidden_content import own_masses, set_masses
from phonoscreen.structures.free_parameters import (
    free_coordinates,
    is_cubic,
    lattice_constant_angstrom,
    symmetric_modes,
    symmetric_strains,
)
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.store import structure_arrays

EV_PER_ANGSTROM3_IN_GPA = 160.21766208
_CURVATURE_EV = 60.0
"""Starting guess of the second derivative of the energy: per atom in the strain, and in the amplitude of a mode in
units of the cube root of the volume per atom. Means of 117 compounds of Table 1, which spread by a factor of two."""
LIMITS = ("force_max_ev_per_angstrom", "stress_max_gpa", "steps_max")
"""Settings of a relaxation that ``relax`` takes."""
KNOWN = ("force_max_ev_per_angstrom", "pressure_gpa", "stress_max_gpa", "steps")
"""What an engine with ``relaxed`` says of a crystal that it knows, besides the energy."""
_NOISE_EV, _ROUGHNESS_EV, _SMOOTH_EV = 2e-6, 1e-3, 1e-2
"""Per atom: of energies in single precision, of plane waves whose number changes with the volume, and a difference of
energies that is larger than both by far."""
_STEP_STRAIN = 0.08
_STEP_ANGSTROM = 0.25
"""Largest strain of a step, and the largest way that a mode moves an atom."""


class RelaxingEngine(Protocol):
    """What relaxation asks of an engine of the reference forces."""

    name: str
    relaxes: bool

    def evaluate(self, atoms: Atoms, label: str) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (eV/angstrom^3)."""


@dataclass
class Relaxed:
    """A relaxed crystal.

    Parameters
    ----------
    atoms : ase.Atoms
    energy_ev : energy of the cell
    force_max_ev_per_angstrom : largest force on an atom
    pressure_gpa : pressure left
    stress_max_gpa : largest component left of the stress that symmetric strains can relieve
    steps : evaluations of the engine
    converged : whether forces and stress are below their limits
    """

    atoms: Atoms
    energy_ev: float
    force_max_ev_per_angstrom: float
    pressure_gpa: float
    stress_max_gpa: float
    steps: int
    converged: bool


class _SymmetricCrystal:
    """A crystal as a function of its symmetric strains and displacements, in variables of about unit curvature."""

    def __init__(self, start, tolerance_angstrom):
        self.start = start
        self.modes = symmetric_modes(start, tolerance_angstrom)
        self.strains = symmetric_strains(start, tolerance_angstrom)
        length, curvature = (start.cell.volume / len(start)) ** (1 / 3), _CURVATURE_EV**-0.5
        counts = [len(self.strains), len(self.modes)]
        self.scale = numpy.repeat([curvature * len(start) ** -0.5, curvature * length], counts)
        moves = numpy.linalg.norm(self.modes, axis=2).max(axis=1, initial=0)
        self.limit = numpy.append(numpy.full(counts[0], _STEP_STRAIN), _STEP_ANGSTROM / moves) / self.scale

    def crystal(self, variables):
        """Return the atoms: displaced first, then strained."""
        n, start = len(self.strains), self.start
        stretch = stretch_of(self._strain(variables))[0]
        displacements = ((variables * self.scale)[n:, None, None] * self.modes).sum(axis=0)
        moved = start.copy()
        moved.positions = (start.positions + displacements) @ stretch
        moved.set_cell(start.cell.array @ stretch)
        return moved

    def gradient(self, variables, moved, forces, stress):
        """Return the derivative of the energy with respect to the variables."""
        stretch, derivatives = stretch_of(self._strain(variables), self.strains)
        pull = moved.cell.volume * numpy.linalg.solve(stretch, stress)
        outer = (pull.T * derivatives).sum(axis=(1, 2))
        inner = -(self.modes @ stretch * forces).sum(axis=(1, 2))
        return numpy.concatenate([outer, inner]) * self.scale

    def stress_left(self, stress):
        """Return the largest component of the stress that symmetric strains can relieve, same unit."""
        shares = (self.strains * stress).sum(axis=(1, 2), keepdims=True) / 3
        return float(numpy.abs((shares * self.strains).sum(axis=0)).max())

    def _strain(self, variables):
        n = len(self.strains)
        return ((variables * self.scale)[:n, None, None] * self.strains).sum(axis=0)


def stretch_of(strain: NDArray, directions: NDArray | None = None) -> tuple[NDArray, NDArray]:
    """Return the stretch ``(1 - 3 strain)^(-1/3)`` of a symmetric strain and its derivatives along such directions.

    In this strain, that of Seth and Hill with the exponent -3, the density of a cubic crystal is linear and its energy
    nearly quadratic: to third order where the bulk modulus grows by 5 times the pressure, about as in most crystals,
    while the logarithmic strain would ask for 2. With the stretches s along the eigenvectors V the derivative along D
    is ``V (F * (V^T D V)) V^T``, where ``F_ij = 3 (s_i s_j)^3 / (s_i^2 + s_i s_j + s_j^2)`` (Daleckii and Krein).

    Parameters
    ----------
    strain : (3, 3), eigenvalues below 1/3; larger ones stretch a hundredfold
    directions : (n, 3, 3), or None for none

    Returns
    -------
    ((3, 3), (n, 3, 3))
    """
    values, vectors = numpy.linalg.eigh(strain)
    stretches = numpy.maximum(1 - 3 * values, 1e-6) ** (-1 / 3)
    stretch = (vectors * stretches) @ vectors.T
    if directions is None:
        return stretch, numpy.empty((0, 3, 3))
    one, other = stretches[:, None], stretches
    shares = 3 * (one * other) ** 3 / (one**2 + one * other + other**2)
    return stretch, vectors @ (shares * (vectors.T @ directions @ vectors)) @ vectors.T


def relax(
    atoms: Atoms,
    evaluate: Callable[[Atoms, int], tuple[float, NDArray, NDArray]],
    *,
    force_max_ev_per_angstrom: float,
    stress_max_gpa: float,
    steps_max: int,
    tolerance_angstrom: float,
) -> Relaxed:
    """Relax the cell and the free coordinates of a crystal, its space group kept.

    BFGS on the symmetric strains and the mode amplitudes, scaled to unit curvature at the start, with limited steps; a
    step that raises the energy is halved. The energy of plane waves is not smooth, because another volume has another
    number of waves: where the slope along the step falls, a rise of 1 meV per atom is no rise, and only energies that
    differ by 10 meV per atom say how the curvature changes.

    Parameters
    ----------
    atoms : symmetrised crystal, ase.Atoms
    evaluate : function of (atoms, step number) returning energy (eV), forces (eV/angstrom), stress (eV/angstrom^3)
    force_max_ev_per_angstrom, stress_max_gpa : limits of convergence
    steps_max : largest number of evaluations
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    Relaxed

    Raises
    ------
    StudyError
        If forces break the symmetry, or the volume leaves the range 1/4 to 4 times the start.
    """
    family = _SymmetricCrystal(atoms.copy(), tolerance_angstrom)
    return _descend(family, evaluate, force_max_ev_per_angstrom, stress_max_gpa, steps_max)


def _descend(family, evaluate, force_max_ev_per_angstrom, stress_max_gpa, steps_max):
    """Return where the search ends, as ``Relaxed``."""
    n_atoms, n_strains, volume = len(family.start), len(family.strains), family.start.cell.volume
    variables, hessian = numpy.zeros(len(family.scale)), numpy.eye(len(family.scale))
    moved = family.crystal(variables)
    energy, forces, stress = evaluate(moved, 0)
    slope = family.gradient(variables, moved, forces, stress)
    for steps in range(1, steps_max + 1):
        pressure = -float(numpy.trace(stress)) / 3 * EV_PER_ANGSTROM3_IN_GPA
        largest = float(numpy.linalg.norm(forces, axis=1).max())
        left = family.stress_left(stress) * EV_PER_ANGSTROM3_IN_GPA
        converged = largest <= force_max_ev_per_angstrom and left <= stress_max_gpa
        if converged or steps == steps_max:
            break
        step = -numpy.linalg.solve(hessian, slope)
        step *= min(1.0, float((family.limit / numpy.maximum(numpy.abs(step), 1e-300)).min()))
        for _ in range(6):
            trial = family.crystal(variables + step)
            ratio = trial.cell.volume / volume
            if not 0.25 < ratio < 4:
                raise StudyError(f"the volume became {ratio:.2f} times the start", fix="check the starting structure")
            energy_new, forces_new, stress_new = evaluate(trial, steps)
            slope_new = family.gradient(variables + step, trial, forces_new, stress_new)
            flatter = abs(slope_new @ step) < abs(slope @ step)
            if energy_new <= energy + (_ROUGHNESS_EV if flatter else _NOISE_EV) * n_atoms:
                break
            step = step / 2
        change = slope_new - slope
        if abs(energy_new - energy) > _SMOOTH_EV * n_atoms:
            change = change + _curving(energy - energy_new, slope + slope_new, change, step)
        hessian = _updated(hessian, step, change)
        variables, moved = variables + step, trial
        energy, forces, stress, slope = energy_new, forces_new, stress_new, slope_new
    if (
        not converged
        and numpy.abs(slope / family.scale)[n_strains:].max(initial=0) < force_max_ev_per_angstrom < largest
    ):
        raise StudyError(
            f"forces of {largest:.4f} eV/angstrom break the symmetry", fix="use a tighter engine or symmetry tolerance"
        )
    return Relaxed(moved, energy, largest, pressure, left, steps, converged)


def _curving(fall, slopes, change, step):
    """Return what makes the change of the slope over a step that of the curvature at its end.

    The energies tell how the curvature itself changes along the step (Zhang and Xu, J. Comput. Appl. Math. 137, 269
    (2001)); half the change of the slope at most.

    Parameters
    ----------
    fall : energy before minus energy after the step
    slopes : sum of the slopes before and after
    change, step : of the slope and of the variables
    """
    most = abs(change @ step) / 2
    return min(most, max(-most, 6 * fall + 3 * slopes @ step)) * step / (step @ step)


def _updated(hessian, step, change):
    """Return the matrix of second derivatives after a step that changed the slope."""
    if not step @ change > 1e-8 * (step @ step):
        return hessian / 4  # concave here: far from the minimum, longer steps up to the limit
    moved_by = hessian @ step
    hessian = hessian + numpy.outer(change, change) / (change @ step)
    return hessian - numpy.outer(moved_by, moved_by) / (step @ moved_by)


class _NotFinishedError(Exception):
    """The search asks for a calculation that is not there, although an earlier search has ended."""


def _relaxed(start, engine, label, limits, tolerance_angstrom):
    """Relax with an engine; where finished calculations of an earlier search do not lead to its end, take its end.

    Another version of the search goes another way, and every calculation on it would be made again.
    """
    end = _end_of_earlier_search(start, engine, label, limits, tolerance_angstrom)

    def evaluate(moved, step):
        if end is not None and not engine.is_finished(moved):
            raise _NotFinishedError
        with engine_blamed():
            return engine.evaluate(moved, f"{label}{step}")

    try:
        return relax(start, evaluate, tolerance_angstrom=tolerance_angstrom, **limits)
    except _NotFinishedError:
        return relax(end, evaluate, tolerance_angstrom=tolerance_angstrom, **limits)


def _end_of_earlier_search(start, engine, label, limits, tolerance_angstrom):
    """Return the last crystal among finished calculations that is within the limits, or None."""
    end = None
    for one in engine.finished(start, label) if hasattr(engine, "finished") else ():
        there = start.copy()
        there.set_cell(one.cell)
        there.positions = one.positions
        if _is_symmetric_variant(start, there, tolerance_angstrom):
            stress = _SymmetricCrystal(there, tolerance_angstrom).stress_left(one.results["stress"])
            force = numpy.linalg.norm(one.results["forces"], axis=1).max()
            if (
                stress * EV_PER_ANGSTROM3_IN_GPA <= limits["stress_max_gpa"]
                and force <= limits["force_max_ev_per_angstrom"]
            ):
                end = there
    return end


def _is_symmetric_variant(start, there, tolerance_angstrom):
    """Whether a crystal is another in symmetric strains and displacements of less than half a bond."""
    moves = there.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    strained = numpy.abs(there.cell.array @ numpy.linalg.inv(start.cell.array) - numpy.eye(3)).max()
    if strained > 0.5 or numpy.abs(moves @ start.cell.array).max() > 1.0:
        return False
    try:
        kept = classify(there, tolerance_angstrom)
    except StudyError:
        return False
    return kept.prototype == classify(start, tolerance_angstrom).prototype and len(kept.atoms) == len(start)


def relax_structure(
    atoms: Atoms, engine: RelaxingEngine, structure_id: str, settings: Mapping[str, Any], tolerance_angstrom: float
) -> Outcome:
    """Relax one structure of a shard and describe the result.

    Parameters
    ----------
    atoms : crystal, ase.Atoms
    engine : see ``phonoscreen.reference.registry``; one that does not relax leaves the structure as it is, one that has
        ``relaxed`` knows the relaxed crystal
    structure_id : str
    settings : ``relax`` of the config, of which the limits count here
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    Outcome with the arrays of ``structure_arrays``; status not_converged with what is left

    Raises
    ------
    StudyError
        If the engine fails or the class of the structure changes.
    """
    before = classify(atoms, tolerance_angstrom)
    if hasattr(engine, "relaxed"):
        crystal, known = engine.relaxed(before.atoms, structure_id)
        set_masses(crystal, own_masses(before.atoms))
        left = {name: known[name] for name in KNOWN}
        result = Relaxed(crystal, known["energy_ev_per_atom"] * len(crystal), **left, converged=True)
    elif engine.relaxes:
        limits = {key: settings[key] for key in LIMITS}
        result = _relaxed(before.atoms, engine, f"{structure_id}/relax-", limits, tolerance_angstrom)
    else:
        result = Relaxed(before.atoms, numpy.nan, numpy.nan, numpy.nan, numpy.nan, 0, True)
    after = classify(result.atoms, tolerance_angstrom)
    if after.prototype != before.prototype or len(after.atoms) != len(before.atoms):
        raise StudyError(
            f"the symmetry changed from {before.prototype} to {after.prototype}", where=structure_id,
            fix="coordinates of few digits hide symmetry: give more digits, or raise "
            "filter.symmetry_tolerance_angstrom; with exact coordinates these forces do not hold the class given",
        )  # fmt: skip
    if hasattr(engine, "relaxed"):  # labels are recorded for these atoms at this origin
        after = replace(after, atoms=result.atoms)
    cubic = is_cubic(after.atoms, tolerance_angstrom)
    values = {
        "lattice_constant_angstrom": lattice_constant_angstrom(after.atoms) if cubic else numpy.nan,
        "energy_ev_per_atom": result.energy_ev / len(after.atoms),
        "force_max_ev_per_angstrom": result.force_max_ev_per_angstrom,
        "pressure_gpa": result.pressure_gpa,
        "stress_max_gpa": result.stress_max_gpa,
        "steps": result.steps,
        "free_coordinates": json.dumps(free_coordinates(after.atoms, tolerance_angstrom)),
        "reference": engine.name,
    }
    if not result.converged:
        remainder = f"{result.force_max_ev_per_angstrom:.4f} eV/angstrom and {result.stress_max_gpa:.3f} GPa"
        return Outcome(values=values, status="not_converged", reason=f"{remainder} left after {result.steps} steps")
    arrays = structure_arrays(after.atoms)
    if hasattr(engine, "own_supercells"):
        # Forces that others calculated are of their crystal, in its orientation, and of supercells along its vectors.
        own = engine.own_supercells(structure_id)
        names = ("cell", "scaled_positions", "numbers", "masses", "repetitions", "displacements")
        arrays = {name: own[name] for name in names if name in own}
    return Outcome(values=values, arrays=arrays)
