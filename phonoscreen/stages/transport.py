"""Solve the Boltzmann equation of one structure of a study and put the result in records and arrays."""

import time
from dataclasses import dataclass, replace

import numpy
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix
from phonoscreen.phonons.long_range import GonzeCorrection
from phonoscreen.phonons.modes import UnstableCrystal
from phonoscreen.phonons.thermal import (
    heat_capacity,
    mean_square_displacements,
    molar_heat_capacity,
    phase_space,
    sound_velocities,
)  # fmt: skip
from phonoscreen.transport.solve import Settings, solve


def transport_of(job):
    """Return the settings of a job's ``params.transport`` with the memory and the MPI processes that it may use."""
    resources = job.resources
    return {**job.params.transport, "memory_gib": resources.matrix_mb / 1024, "tasks": resources.get("tasks", 1)}


def settings_of(transport):
    """Return the solver's Settings from those of a study, see ``transport_of``."""
    return Settings(
        temperatures_k=(transport["temperature_k"],),
        scalebroad=transport["scalebroad"],
        isotopes=transport["isotopes"],
        iterations_max=transport["iterations_max"],
        tolerance=transport["iterations_tolerance"],
        coherence_sum=transport["coherence_sum"],
        imaginary_threshold_thz=transport["imaginary_threshold_thz"],
        memory_gib=transport["memory_gib"],
        mesh_error=True,
    )


@dataclass
class Task:
    """One structure to be solved.

    Attributes
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``
    committee : pairs of ``SecondOrder`` and ``ThirdOrder`` of the members of a committee; their spread is recorded
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) for the non-analytic correction, or None
    """

    crystal: Crystal
    second: SecondOrder
    third: ThirdOrder
    committee: tuple = ()
    charges: tuple | None = None

    def correction(self, *of):
        """Return the long-range correction for (crystal, constants), None without charges."""
        return None if self.charges is None else GonzeCorrection(*of, *self.charges)


def solve_structure(task, transport):
    """Solve one structure with this project's own engine.

    Parameters
    ----------
    task : Task
    transport : the study's ``transport`` settings

    Returns
    -------
    Outcome: ``not_converged`` if the iteration did not reach its tolerance, ``unstable`` on imaginary frequencies,
    ``failed`` on input that does not fit together
    """
    started, settings = time.process_time(), settings_of(transport)
    mesh = automatic_mesh(task.crystal, transport["mesh_density_angstrom"])

    def attempt(second, third, settings):
        try:
            return solve(task.crystal, second, third, mesh, settings, correction=task.correction)
        except StudyError as error:
            return error

    solution = attempt(task.second, task.third, settings)
    quick = replace(settings, full_solution=False, mesh_error=False)
    solved = not isinstance(solution, StudyError)
    members = [attempt(*member, quick) for member in task.committee] if solved else []
    outcome = describe(task, solution, members, settings)
    outcome.values["seconds"] = time.process_time() - started
    return outcome


def describe(task, solution, members, settings):
    """Return the Outcome of a solution, or of its StudyError, with the spread of a committee's solutions."""
    if isinstance(solution, StudyError):
        unstable = isinstance(solution, UnstableCrystal)
        return Outcome(status="unstable" if unstable else "failed", reason=str(solution))
    crystal, modes, temperature = task.crystal, solution.modes, settings.temperatures_k[0]
    full, n_q = solution.full[0], len(modes.mesh.points)
    msd = mean_square_displacements(modes, crystal, temperature)
    space = phase_space(solution.rates, modes)["total"]
    values = {
        "temperature_k": temperature,
        "kappa_p_rta_w_per_m_k": _mean(solution.rta[0].kappa),
        "kappa_p_w_per_m_k": _mean(full.kappa),
        "kappa_c_w_per_m_k": _mean(solution.coherence[0]),
        "heat_capacity_j_per_m3_k": heat_capacity(modes, crystal.volume, temperature),
        "heat_capacity_j_per_mol_k": molar_heat_capacity(modes, temperature),
        "sound_velocity_m_per_s": sound_velocities(DynamicalMatrix(crystal, task.second)).debye_m_per_s,
        "p3_total": float((space * modes.mesh.weights[:, None]).sum()),
        "msd_max_angstrom2": float(msd.max()),
        "msd_max_element": chemical_symbols[int(crystal.numbers[msd.argmax()])],
        "volume_angstrom3": float(crystal.volume),
        "kappa_p_mesh_error_percent": solution.mesh_error[0].kappa_p_percent,
        "kappa_c_mesh_error_percent": solution.mesh_error[0].kappa_c_percent,
        "mesh": " ".join(str(n) for n in modes.mesh.shape),
        "iterations": full.iterations,
    }
    arrays = {
        "mesh": modes.mesh.shape,
        "qpoints": modes.mesh.fractional[modes.mesh.irreducible],
        "weights": modes.mesh.weights,
        "frequencies_thz": units.to_thz(modes.omega),
        "linewidth_fwhm_thz": units.to_thz(solution.linewidth[0]),
        "linewidth_isotope_thz": units.to_thz(solution.isotope),
        "group_velocities_m_per_s": 100.0 * modes.velocities,
        "kappa_p_modes": full.kappa_modes,
        "kappa_p_rta_modes": solution.rta[0].kappa_modes,
        "kappa_c_modes": solution.coherence_modes[0],
        "kappa_p_tensor_w_per_m_k": full.kappa,
        "kappa_c_tensor_w_per_m_k": solution.coherence[0],
        "msd_angstrom2": msd,
    }
    if members:
        values |= committee_spread(crystal, members, temperature)
    outcome = Outcome(values=values, arrays=arrays)
    if not full.converged:
        outcome.status = "not_converged"
        outcome.reason = _unconverged(full, n_q, settings)
    return outcome


def _unconverged(full, n_q, settings):
    """Return why the full solution is none, and what can be done."""
    if full.diverged:
        return str(StudyError(
            f"the iteration of the full solution diverges ({full.iterations} steps, {n_q} wave vectors)",
            fix="take another mesh (transport.mesh_density_angstrom) or broadening (transport.scalebroad); the "
            "relaxation-time approximation is in the record",
        ))  # fmt: skip
    return str(StudyError(
        f"iteration stopped after {full.iterations} steps on {n_q} wave vectors, kappa above the tolerance "
        f"{settings.tolerance:g}", fix="raise transport.iterations_max",
    ))  # fmt: skip


def committee_spread(crystal, members, temperature_k):
    """Return how far the members of a committee spread, and how many of them could be solved.

    Conductivities are positive and differ by factors: their spread is the standard deviation of log10 kappa, in the
    relaxation-time approximation. Members that are unstable, fail, or conduct nothing or without limit are counted.

    Returns
    -------
    dict of ``kappa_p_rta_std_decades, kappa_c_std_decades, msd_max_std_angstrom2`` (NaN below two members),
    ``members_solved, members_unstable, members_failed``
    """
    rows, unstable = [], 0
    for solution in members:
        if isinstance(solution, StudyError):
            unstable += isinstance(solution, UnstableCrystal)
            continue
        msd = mean_square_displacements(solution.modes, crystal, temperature_k).max()
        row = (_mean(solution.rta[0].kappa), _mean(solution.coherence[0]), msd)
        if numpy.isfinite(row).all() and row[0] > 0:
            rows.append(row)
    kappa_p, kappa_c, msd = numpy.array(rows).reshape(-1, 3).T
    values = {
        "kappa_p_rta_std_decades": _spread(numpy.log10(kappa_p)),
        "kappa_c_std_decades": _spread(numpy.log10(kappa_c[kappa_c > 0])),
        "msd_max_std_angstrom2": _spread(msd),
    }
    counts = {"members_solved": len(rows), "members_unstable": unstable}
    return {**values, **counts, "members_failed": len(members) - len(rows) - unstable}


def _spread(values):
    return float(numpy.std(values, ddof=1)) if len(values) > 1 else numpy.nan


def _mean(tensor):
    return float(numpy.trace(tensor) / 3)
