"""Solve the Boltzmann equation of one structure of a study and put the result in records and arrays."""

import time
from dataclasses import replace

import numpy
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.transport import units
from phonoscreen.transport.harmonic import DynamicalMatrix
from phonoscreen.transport.mesh import automatic_mesh
from phonoscreen.transport.modes import UnstableCrystal
from phonoscreen.transport.nonanalytic import GonzeCorrection
from phonoscreen.transport.solve import Settings, solve
from phonoscreen.transport.thermal import (
    heat_capacity,
    mean_square_displacements,
    molar_heat_capacity,
    phase_space,
    sound_velocities,
)  # fmt: skip


def settings_of(transport):
    """Return the solver's Settings from the study's ``transport`` settings."""
    return Settings(
        temperatures_k=(transport["temperature_k"],),
        scalebroad=transport["scalebroad"],
        isotopes=transport["isotopes"],
        iterations_max=transport["iterations_max"],
        tolerance=transport["iterations_tolerance"],
        memory_gib=transport["memory_gib"],
    )


def solve_structure(crystal, second, third, transport, committee=(), charges=None):
    """Solve one structure with this project's own engine.

    Parameters
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``
    transport : the study's ``transport`` settings
    committee : pairs of ``SecondOrder`` and ``ThirdOrder`` of the members of a committee; their spread is recorded
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) for the non-analytic correction, or None

    Returns
    -------
    Outcome: ``not_converged`` if the iteration did not reach its tolerance, ``unstable`` on imaginary frequencies
    """
    started, settings = time.process_time(), settings_of(transport)
    mesh = automatic_mesh(crystal, transport["mesh_density_angstrom"])
    correction = None if charges is None else lambda *of: GonzeCorrection(*of, *charges)
    try:
        solution = solve(crystal, second, third, mesh, settings, correction=correction)
    except UnstableCrystal as error:
        return Outcome(status="unstable", reason=str(error))
    outcome = describe(crystal, second, solution, settings)
    if committee:
        outcome.values.update(committee_spread(crystal, committee, mesh, settings, correction))
    outcome.values["seconds"] = time.process_time() - started
    return outcome


def describe(crystal, second, solution, settings):
    """Return the Outcome of a solution at the first of its temperatures."""
    modes, temperature = solution.modes, settings.temperatures_k[0]
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
        "sound_velocity_m_per_s": sound_velocities(DynamicalMatrix(crystal, second)).debye_m_per_s,
        "p3_total": float((space * modes.mesh.weights[:, None]).sum()),
        "msd_max_angstrom2": float(msd.max()),
        "msd_max_element": chemical_symbols[int(crystal.numbers[msd.argmax()])],
        "volume_angstrom3": float(crystal.volume),
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
    outcome = Outcome(values=values, arrays=arrays)
    if not full.converged:
        outcome.status = "not_converged"
        outcome.reason = (
            f"iteration stopped after {full.iterations} steps on {n_q} wave vectors, "
            f"kappa above the tolerance {settings.tolerance:g}"
        )
    return outcome


def committee_spread(crystal, committee, mesh, settings, correction=None):
    """Return standard deviations over the committee of the relaxation-time conductivity and its companions."""
    quick = replace(settings, full_solution=False)
    rows = []
    for second, third in committee:
        try:
            solution = solve(crystal, second, third, mesh, quick, correction=correction)
        except UnstableCrystal:
            continue
        msd = mean_square_displacements(solution.modes, crystal, settings.temperatures_k[0]).max()
        rows.append((_mean(solution.rta[0].kappa), _mean(solution.coherence[0]), msd))
    names = ("kappa_p_rta_std_w_per_m_k", "kappa_c_std_w_per_m_k", "msd_max_std_angstrom2")
    spread = numpy.std(rows, axis=0, ddof=1) if len(rows) > 1 else [numpy.nan] * 3
    return {**{name: float(value) for name, value in zip(names, spread, strict=True)}, "committee_solved": len(rows)}


def _mean(tensor):
    return float(numpy.trace(tensor) / 3)


def choose_solver(name):
    """Return the function that solves a structure as ``solve_structure`` does.

    Raises
    ------
    StudyError
        If the name is none of native, shengbte, phono3py.
    """
    if name == "native":
        return solve_structure
    if name in ("shengbte", "phono3py"):
        from phonoscreen.transport.other_solvers import solve_structure_elsewhere

        return solve_structure_elsewhere
    raise StudyError(f"transport.solver {name!r} is none of native, shengbte, phono3py", fix="correct config.yaml")
