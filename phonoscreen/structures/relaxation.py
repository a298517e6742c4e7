"""Relaxation of cubic crystals in their symmetric degrees of freedom: the lattice constant and the free coordinates.

A cubic crystal keeps its space group exactly when the cell is only scaled and the atoms move along the totally
symmetric modes, those that every operation of the space group leaves unchanged. There are zero to three of them in
the classes of Table 1 (rocksalt none, elpasolite and spinel one), so a quasi-Newton search in one to four dimensions
replaces a constrained search in 3n + 6, and the symmetry cannot be lost on the way.
"""

import json
from dataclasses import dataclass

import numpy
import spglib
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.store import structure_arrays

EV_PER_ANGSTROM3_IN_GPA = 160.21766208
# Starting guesses of the curvature: a bulk modulus of 60 GPa and a bond stiffness of 5 eV/angstrom^2 per atom.
_BULK_MODULUS = 60 / EV_PER_ANGSTROM3_IN_GPA
_STIFFNESS = 5.0
_STEP_STRAIN = 0.04
_STEP_ANGSTROM = 0.15


@dataclass
class Relaxed:
    """A relaxed crystal.

    Parameters
    ----------
    atoms : ase.Atoms
    energy_ev : energy of the cell
    force_max_ev_per_angstrom : largest force on an atom
    pressure_gpa : pressure left
    steps : evaluations of the engine
    converged : whether forces and pressure are below their limits
    """

    atoms: Atoms
    energy_ev: float
    force_max_ev_per_angstrom: float
    pressure_gpa: float
    steps: int
    converged: bool


def symmetric_modes(atoms, tolerance_angstrom):
    """Orthonormal displacement patterns that the whole space group leaves unchanged.

    Parameters
    ----------
    atoms : symmetrised crystal, ase.Atoms
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    (n_modes, n_atoms, 3), Cartesian, orthonormal over all components; uniform translations are excluded
    """
    cell, scaled, n_atoms = atoms.cell.array, atoms.get_scaled_positions(wrap=False), len(atoms)
    symmetry = spglib.get_symmetry((cell, scaled, atoms.numbers), symprec=tolerance_angstrom)
    projector = numpy.zeros((n_atoms, 3, n_atoms, 3))
    for rotation, translation in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        difference = (scaled @ rotation.T + translation)[:, None] - scaled[None]
        image = numpy.linalg.norm((difference - difference.round()) @ cell, axis=2).argmin(axis=1)
        cartesian = cell.T @ rotation @ numpy.linalg.inv(cell.T)
        projector[image, :, numpy.arange(n_atoms), :] += cartesian
    projector = projector.reshape(3 * n_atoms, 3 * n_atoms) / len(symmetry["rotations"])
    shift = numpy.tile(numpy.eye(3), (n_atoms, 1)) / n_atoms**0.5
    projector = projector - shift @ (shift.T @ projector)
    values, vectors = numpy.linalg.eigh((projector + projector.T) / 2)
    modes = vectors[:, values > 0.5].T
    # Sign fixed by the largest component, so that the numbers recorded do not depend on the eigensolver.
    signs = [numpy.sign(mode[numpy.argmax(numpy.abs(mode).round(6))]) for mode in modes]
    return (modes * numpy.array(signs).reshape(-1, 1)).reshape(-1, n_atoms, 3)


def relax(atoms, evaluate, *, force_max_ev_per_angstrom, stress_max_gpa, steps_max, tolerance_angstrom):
    """Relax the lattice constant and the free coordinates of a cubic crystal.

    BFGS on the strain and the mode amplitudes, scaled to unit curvature at the start, with limited steps; a step that
    raises the energy is halved.

    Parameters
    ----------
    atoms : symmetrised cubic crystal, ase.Atoms
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
    start = atoms.copy()
    modes = symmetric_modes(start, tolerance_angstrom)
    n_atoms, volume = len(start), start.cell.volume
    # Scaled variables in which the guessed curvature is the unit matrix.
    scale = numpy.array([(9 * _BULK_MODULUS * volume) ** -0.5] + [_STIFFNESS**-0.5] * len(modes))
    limit = numpy.array([_STEP_STRAIN] + [_STEP_ANGSTROM] * len(modes)) / scale

    def crystal(variables):
        moved = start.copy()
        moved.positions += numpy.tensordot(variables[1:] * scale[1:], modes, axes=1)
        moved.set_cell(start.cell * numpy.exp(variables[0] * scale[0]), scale_atoms=True)
        return moved

    def gradient(moved, forces, stress):
        stretch = (moved.cell.volume / volume) ** (1 / 3)
        strain = moved.cell.volume * numpy.trace(stress)
        inner = -numpy.tensordot(modes, forces, axes=([1, 2], [0, 1])) * stretch
        return numpy.concatenate([[strain], inner]) * scale

    variables, hessian = numpy.zeros(len(scale)), numpy.eye(len(scale))
    moved = crystal(variables)
    energy, forces, stress = evaluate(moved, 0)
    slope = gradient(moved, forces, stress)
    for steps in range(1, steps_max + 1):
        pressure = -float(numpy.trace(stress)) / 3 * EV_PER_ANGSTROM3_IN_GPA
        largest = float(numpy.linalg.norm(forces, axis=1).max())
        converged = largest <= force_max_ev_per_angstrom and abs(pressure) <= stress_max_gpa
        if converged or steps == steps_max:
            break
        step = -numpy.linalg.solve(hessian, slope)
        step *= min(1.0, float((limit / numpy.maximum(numpy.abs(step), 1e-300)).min()))
        for _ in range(6):
            trial = crystal(variables + step)
            ratio = trial.cell.volume / volume
            if not 0.25 < ratio < 4:
                raise StudyError(f"the volume became {ratio:.2f} times the start", fix="check the starting structure")
            energy_new, forces_new, stress_new = evaluate(trial, steps)
            # Energies in single precision carry noise of about 1e-6 eV per atom.
            if energy_new <= energy + 2e-6 * n_atoms:
                break
            step = step / 2
        slope_new = gradient(trial, forces_new, stress_new)
        change = slope_new - slope
        if step @ change > 1e-8 * (step @ step):
            moved_by = hessian @ step
            hessian += numpy.outer(change, change) / (change @ step)
            hessian -= numpy.outer(moved_by, moved_by) / (step @ moved_by)
        else:
            hessian /= 4  # concave here: far from the minimum, longer steps up to the limit
        variables, moved = variables + step, trial
        energy, forces, stress, slope = energy_new, forces_new, stress_new, slope_new
    if not converged and numpy.abs(slope / scale)[1:].max(initial=0) < force_max_ev_per_angstrom < largest:
        raise StudyError(
            f"forces of {largest:.4f} eV/angstrom break the symmetry", fix="use a tighter engine or symmetry tolerance"
        )
    return Relaxed(moved, energy, largest, pressure, steps, converged)


def lattice_constant_angstrom(atoms):
    """Edge of the conventional cube of a cubic primitive cell (angstrom), simple or face-centred."""
    orthogonal = abs(atoms.cell.angles() - 90).max() < 1e-3
    return float((atoms.cell.volume * (1 if orthogonal else 4)) ** (1 / 3))


def free_coordinates(atoms, tolerance_angstrom):
    """Coordinates that the space group leaves free, those that relaxation may change.

    Parameters
    ----------
    atoms : cubic primitive cell, ase.Atoms
    tolerance_angstrom : for the symmetry search

    Returns
    -------
    dict from element to the coordinates of one atom of the site, in units of the lattice constant; {} where every
    position is fixed by symmetry
    """
    modes = symmetric_modes(atoms, tolerance_angstrom)
    free = {}
    for index, symbol in enumerate(atoms.symbols):
        if len(modes) and numpy.abs(modes[:, index]).max() > 1e-6 and symbol not in free:
            position = atoms.positions[index] / lattice_constant_angstrom(atoms)
            free[symbol] = [round(float(x), 6) for x in position]
    return free


def relax_structure(atoms, engine, structure_id, settings, tolerance_angstrom):
    """Relax one structure of a shard and describe the result.

    Parameters
    ----------
    atoms : cubic crystal, ase.Atoms
    engine : see ``phonoscreen.reference.engine``; one that does not relax leaves the structure as it is
    structure_id : str
    settings : ``relax`` of the config
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
    if engine.relaxes:

        def evaluate(moved, step):
            return engine.evaluate(moved, f"{structure_id}/relax-{step}")

        result = relax(before.atoms, evaluate, tolerance_angstrom=tolerance_angstrom, **settings)
    else:
        result = Relaxed(before.atoms, numpy.nan, numpy.nan, numpy.nan, 0, True)
    after = classify(result.atoms, tolerance_angstrom)
    if after.prototype != before.prototype or len(after.atoms) != len(before.atoms):
        raise StudyError(f"the symmetry changed from {before.prototype} to {after.prototype}", where=structure_id)
    values = {
        "lattice_constant_angstrom": lattice_constant_angstrom(after.atoms),
        "energy_ev_per_atom": result.energy_ev / len(after.atoms),
        "force_max_ev_per_angstrom": result.force_max_ev_per_angstrom,
        "pressure_gpa": result.pressure_gpa,
        "steps": result.steps,
        "free_coordinates": json.dumps(free_coordinates(after.atoms, tolerance_angstrom)),
        "reference": engine.name,
    }
    if not result.converged:
        left = f"{result.force_max_ev_per_angstrom:.4f} eV/angstrom and {result.pressure_gpa:.3f} GPa"
        return Outcome(values=values, status="not_converged", reason=f"{left} left after {result.steps} steps")
    return Outcome(values=values, arrays=structure_arrays(after.atoms))
