"""Solve the Boltzmann equation of one structure of a study and put the result in records and arrays."""

import time
from dataclasses import dataclass, replace

import numpy
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.lattice.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.transport import units
from phonoscreen.transport.harmonic import DynamicalMatrix
from phonoscreen.transport.mesh import automatic_mesh
from phonoscreen.transport.modes import UnstableCrystal
from phonoscreen.transport.nonanalytic import GonzeCorrection
from phonoscreen.transport.solve import Settings, solve, solve_batch
from phonoscreen.transport.thermal import (
    heat_capacity,
    mean_square_displacements,
    molar_heat_capacity,
    phase_space,
    sound_velocities,
)  # fmt: skip


def settings_of(transport):
    """Return the solver's Settings from those of a study, see ``phonoscreen.workflow.inputs.transport_settings``."""
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
    crystal : ``phonoscreen.lattice.constants.Crystal``
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


class BatchSolver:
    """Solves structures in batches that share basis and mesh, on a GPU; called for one structure at a time.

    Parameters
    ----------
    read : function of a structure id that returns its Task
    keys : dict of ids to the key of the symmetry basis, all structures of the shard that may be asked for
    transport : the study's ``transport`` settings
    device : of PyTorch
    """

    SIZE = 32

    def __init__(self, read, keys, transport, device="cuda"):
        self._read, self._keys, self._transport, self._device = read, dict(keys), transport, device
        self._settings, self._outcomes = settings_of(transport), {}

    def __call__(self, structure_id):
        """Return the Outcome of a structure, solving its batch first if that has not been done."""
        if structure_id not in self._outcomes:
            started, (mesh, tasks) = time.process_time(), self._batch(structure_id)
            outcomes = self._solve(mesh, tasks)
            for outcome in outcomes.values():
                outcome.values["seconds"] = (time.process_time() - started) / len(outcomes)
            self._outcomes |= outcomes
        return self._outcomes.pop(structure_id)

    def _batch(self, structure_id):
        """Return the mesh of a structure, and the tasks of it and of others with the same basis and mesh."""
        density, key = self._transport["mesh_density_angstrom"], self._keys.pop(structure_id)
        tasks = {structure_id: self._read(structure_id)}
        mesh = automatic_mesh(tasks[structure_id].crystal, density)
        for other in [name for name, own in self._keys.items() if own == key]:
            if len(tasks) == self.SIZE:
                break
            try:
                task = self._read(other)
            except (StudyError, KeyError, ValueError, OSError):
                continue  # recorded when its turn comes
            if automatic_mesh(task.crystal, density) == mesh:
                tasks[other] = task
                del self._keys[other]
        return mesh, tasks

    def _solve(self, mesh, tasks):
        def run(tasks, settings):
            return solve_batch(tasks, mesh, settings, device=self._device) if tasks else []

        own = run([(t.crystal, t.second, t.third, t.correction) for t in tasks.values()], self._settings)
        solved = [task for task, s in zip(tasks.values(), own, strict=True) if not isinstance(s, StudyError)]
        members = [(t.crystal, *member, t.correction) for t in solved for member in t.committee]
        spread = iter(run(members, replace(self._settings, full_solution=False, mesh_error=False)))
        outcomes = {}
        for (name, task), solution in zip(tasks.items(), own, strict=True):
            found = [] if isinstance(solution, StudyError) else [next(spread) for _ in task.committee]
            outcomes[name] = describe(task, solution, found, self._settings)
        return outcomes


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


def choose_solver(read, keys, transport):
    """Return the function of a structure id that solves it.

    Parameters
    ----------
    read, keys, transport : as for ``BatchSolver``

    Raises
    ------
    StudyError
        If the solver is none of native, shengbte, phono3py, or another than native is asked for on a GPU.
    """
    solver, device = transport["solver"], transport["device"]
    if solver == "native" and device == "cuda":
        return BatchSolver(read, keys, transport)
    if solver == "native":
        return lambda structure_id: solve_structure(read(structure_id), transport)
    if solver in ("shengbte", "phono3py") and device == "cpu":
        from phonoscreen.transport.other_solvers import solve_structure_elsewhere

        return lambda structure_id: solve_structure_elsewhere(read(structure_id), transport)
    raise StudyError(f"transport.solver {solver!r} on device {device!r}: only native runs on cuda, and the solvers are "
                     "native, shengbte and phono3py", fix="correct config.yaml")  # fmt: skip
