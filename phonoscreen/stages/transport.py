"""Solve the Boltzmann equation of one structure of a study and put the result in records and arrays."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy
from ase.data import chemical_symbols
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError, culprit
from phonoscreen.audit.shard import Outcome
from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.mesh import automatic_mesh, build_mesh
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
from phonoscreen.transport.boltzmann import unusable
from phonoscreen.transport.solve import Settings, check_modes, solve

if TYPE_CHECKING:
    from phonoscreen.transport.solve import Solution


def transport_of(job: Any) -> dict:
    """Return the settings of a job's ``params.transport`` with the memory and the MPI processes that it may use."""
    resources = job.resources
    return {**job.params.transport, "memory_gib": resources.matrix_mb / 1024, "tasks": resources.get("tasks", 1)}


def settings_of(transport: dict) -> Settings:
    """Return the solver's Settings from those of a study, see ``transport_of``.

    ``curve_temperatures_k``, where it is given, are further temperatures of the same solution.
    """
    return Settings(
        temperatures_k=(transport["temperature_k"], *transport.get("curve_temperatures_k", ())),
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
    second, third : ``SecondOrder``, and ``ThirdOrder`` or None where the forces hold none
    committee : pairs of ``SecondOrder`` and ``ThirdOrder`` of the members of a committee; their spread is recorded
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) for the non-analytic correction, or None
    """

    crystal: Crystal
    second: SecondOrder
    third: ThirdOrder | None
    committee: tuple = ()
    charges: tuple | None = None

    def correction(self, *of: Any) -> GonzeCorrection | None:
        """Return the long-range correction for (crystal, constants), None without charges."""
        return None if self.charges is None else GonzeCorrection(*of, *self.charges)


@threadpool_limits.wrap(limits=1, user_api="blas")  # small matrices: threads of their own would only wait
def solve_structure(task: Task, transport: dict) -> Outcome:
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
    solution = _attempt(task, (task.second, task.third), mesh, settings)
    members = []
    if task.committee and not isinstance(solution, StudyError):
        members = _solve_members(task, solution.modes.mesh, settings, transport)
    outcome = describe(task, solution, members, settings)
    outcome.values["seconds"] = time.process_time() - started
    return outcome


def _attempt(task, constants, mesh, settings):
    """Return the Solution of some force constants of a task, or the StudyError that it raises."""
    try:
        return solve(task.crystal, *constants, mesh, settings, correction=task.correction)
    except StudyError as error:
        return error


def _solve_members(task, mesh, settings, transport):
    """Return the solution of every member of the committee, or its StudyError.

    Conductivities are those of the relaxation-time approximation at the first temperature. Where the study asks for a
    coarser mesh of the members, whether a member is stable is still decided on the mesh of the structure.
    """
    quick = replace(settings, temperatures_k=settings.temperatures_k[:1], full_solution=False, mesh_error=False)
    density = transport.get("committee_mesh_density_angstrom") or transport["mesh_density_angstrom"]
    coarser, shape = mesh, automatic_mesh(task.crystal, min(density, transport["mesh_density_angstrom"]))
    if shape != tuple(int(n) for n in mesh.shape):
        coarser = build_mesh(task.crystal, shape)
    found = []
    for second, third in task.committee:
        try:
            if coarser is not mesh:
                check_modes(task.crystal, second, mesh, quick, correction=task.correction)
            found.append(solve(task.crystal, second, third, coarser, quick, correction=task.correction))
        except StudyError as error:
            found.append(error)
    return found


def describe(
    task: Task, solution: "Solution | StudyError", members: "Sequence[Solution | StudyError]", settings: Settings
) -> Outcome:
    """Return the Outcome of a solution, or of its StudyError, with the spread of a committee's solutions."""
    if isinstance(solution, StudyError):
        status = "unstable" if isinstance(solution, UnstableCrystal) else "failed"
        return Outcome(status=status, reason=str(solution), failure=culprit(solution))
    crystal, modes, temperature = task.crystal, solution.modes, settings.temperatures_k[0]
    full = solution.full[0]
    msd = mean_square_displacements(modes, crystal, temperature)
    values = {
        "temperature_k": temperature,
        **properties(crystal, task.second, solution, temperature),
        "kappa_p_w_per_m_k": _mean(full.kappa),
        "msd_max_element": chemical_symbols[int(crystal.numbers[msd.argmax()])],
        "volume_angstrom3": float(crystal.volume),
        "kappa_p_mesh_error_percent": solution.mesh_error[0].kappa_p_percent,
        "kappa_c_mesh_error_percent": solution.mesh_error[0].kappa_c_percent,
        "mesh": " ".join(str(n) for n in modes.mesh.shape),
        "iterations": full.iterations,
    }
    if members:
        seconds = [second for second, _ in task.committee]
        values |= committee_spread(crystal, seconds, members, temperature)
    outcome = Outcome(values=values, arrays=_arrays(solution, msd, settings))
    for populations, name in ((full, "kappa_p_w_per_m_k"), (solution.rta[0], "kappa_p_rta_w_per_m_k")):
        if reason := _no_result(populations, len(modes.mesh.points), settings):
            outcome.status, outcome.reason = "not_converged", reason
            if (found := unusable(populations)) is not None and found[0] != "not converged":
                values[name] = numpy.nan  # no number of a solution that grew without limit leaves this place
    return outcome


def _arrays(solution, msd, settings):
    """Return the modes and tensors of a solution at its first temperature, and the conductivities at the others."""
    modes, full = solution.modes, solution.full[0]
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
    if len(settings.temperatures_k) > 1:
        sound = [unusable(one) is None for one in solution.full]
        arrays |= {
            "curve/temperatures_k": numpy.array(settings.temperatures_k[1:]),
            "curve/kappa_p_w_per_m_k": numpy.where(sound, [_mean(one.kappa) for one in solution.full], numpy.nan)[1:],
            "curve/kappa_c_w_per_m_k": numpy.array([_mean(kappa) for kappa in solution.coherence[1:]]),
        }
    return arrays


def properties(crystal: Crystal, second: SecondOrder, solution: "Solution", temperature_k: float) -> dict[str, float]:
    """Return the phonon properties of a solution at its first temperature, those of the full solution left out.

    Parameters
    ----------
    crystal : ``Crystal``
    second : ``SecondOrder``
    solution : ``phonoscreen.transport.solve.Solution``
    temperature_k : kelvin

    Returns
    -------
    dict of numbers, units in the names; ``p3_total`` in ps
    """
    modes, space = solution.modes, phase_space(solution.rates, solution.modes)["total"]
    return {
        "kappa_p_rta_w_per_m_k": _mean(solution.rta[0].kappa),
        "kappa_c_w_per_m_k": _mean(solution.coherence[0]),
        "heat_capacity_j_per_m3_k": heat_capacity(modes, crystal.volume, temperature_k),
        "heat_capacity_j_per_mol_k": molar_heat_capacity(modes, temperature_k),
        "sound_velocity_m_per_s": sound_velocities(DynamicalMatrix(crystal, second)).debye_m_per_s,
        "p3_total": float((space * modes.mesh.weights[:, None]).sum()),
        "msd_max_angstrom2": float(mean_square_displacements(modes, crystal, temperature_k).max()),
    }


def _no_result(populations, n_q, settings):
    """Return why a solution is no result and what can be done, or None."""
    found = unusable(populations)
    if found is None:
        return None
    word, sentence = found
    if word == "not converged":
        return str(StudyError(
            f"iteration stopped after {populations.iterations} steps on {n_q} wave vectors, kappa above the tolerance "
            f"{settings.tolerance:g}", fix="raise transport.iterations_max",
        ))  # fmt: skip
    if word == "diverged":
        sentence = f"the iteration of the full solution diverges ({populations.iterations} steps, {n_q} wave vectors)"
    return str(StudyError(
        sentence, fix="take another mesh (transport.mesh_density_angstrom) or broadening (transport.scalebroad); the "
        "relaxation-time approximation is in the record",
    ))  # fmt: skip


SPREADS = {
    "kappa_p_rta_w_per_m_k": "kappa_p_rta_std_decades", "kappa_c_w_per_m_k": "kappa_c_std_decades",
    "p3_total": "p3_total_std_decades", "msd_max_angstrom2": "msd_max_std_angstrom2",
    "heat_capacity_j_per_mol_k": "heat_capacity_std_j_per_mol_k",
    "sound_velocity_m_per_s": "sound_velocity_std_m_per_s",
}  # fmt: skip
"""Property -> column of its standard deviation over the committee; decades: of its logarithm to the base 10."""


def committee_spread(
    crystal: Crystal, seconds: Sequence[SecondOrder], members: "Sequence[Solution | StudyError]", temperature_k: float
) -> dict[str, float]:
    """Return how far the members of a committee spread, and how many of them could be solved.

    Conductivities and phase spaces are positive and differ by factors: their spread is the standard deviation of the
    logarithm to the base 10. Members that are unstable, fail, or conduct nothing or without limit are counted, and
    are no part of the spread.

    Parameters
    ----------
    crystal : ``Crystal``
    seconds : ``SecondOrder`` of every member
    members : ``Solution`` of every member, or its StudyError
    temperature_k : kelvin

    Returns
    -------
    dict of the columns of ``SPREADS`` (NaN below two members), ``members_solved, members_unstable, members_failed``
    """
    rows, unstable = [], 0
    for second, solution in zip(seconds, members, strict=True):
        if isinstance(solution, StudyError):
            unstable += isinstance(solution, UnstableCrystal)
            continue
        row = properties(crystal, second, solution, temperature_k)
        if unusable(solution.rta[0]) is None and numpy.isfinite(list(row.values())).all():
            if row["kappa_p_rta_w_per_m_k"] > 0:
                rows.append(row)
    values = {}
    for name, column in SPREADS.items():
        own = numpy.array([row[name] for row in rows])
        values[column] = _spread(numpy.log10(own[own > 0]) if column.endswith("_decades") else own)
    counts = {"members_solved": len(rows), "members_unstable": unstable}
    return {**values, **counts, "members_failed": len(members) - len(rows) - unstable}


def _spread(values):
    return float(numpy.std(values, ddof=1)) if len(values) > 1 else numpy.nan


def _mean(tensor):
    return float(numpy.trace(tensor) / 3)
