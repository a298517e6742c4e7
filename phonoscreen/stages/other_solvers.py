"""The same force constants solved by other programs: phono3py, and the user's own ShengBTE."""

import shlex
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError, run_program
from phonoscreen.audit.records import attempted
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.crystal.units import COULOMB
from phonoscreen.structures.store import read_crystal

if TYPE_CHECKING:
    import pandas

    from phonoscreen.audit.shard import Outcome
    from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
    from phonoscreen.stages.transport import Task

GROWN = 1000
"""A full solution so many times the relaxation-time approximation is one that diverged."""


def solve_with_phono3py(
    crystal: "Crystal",
    second: "SecondOrder",
    third: "ThirdOrder",
    mesh: Sequence[int],
    temperature_k: float,
    *,
    isotopes: bool = True,
    full_solution: bool = False,
    charges: tuple[NDArray, NDArray] | None = None,
) -> dict[str, NDArray]:
    """Solve with phono3py (tetrahedron method).

    A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023).

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``
    mesh : three integers
    temperature_k : kelvin
    isotopes : include isotope scattering
    full_solution : also solve beyond the relaxation-time approximation
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) for the non-analytic correction, or None

    Returns
    -------
    dict of (3, 3) tensors in W/m/K: ``rta``, ``coherence`` and, if asked for, ``full``
    """
    from phonoscreen.formats.phono3py import to_phono3py

    program = to_phono3py(crystal, second, third)
    if charges is not None:
        program.nac_params = {"born": charges[0], "dielectric": charges[1], "factor": COULOMB}
    program.mesh_numbers = list(mesh)
    program.init_phph_interaction()
    options = {"temperatures": [temperature_k], "is_isotope": isotopes}
    program.run_thermal_conductivity(transport_type="smm19", **options)
    found = program.thermal_conductivity
    result = {"rta": _tensor(found.kappa_intra), "coherence": _tensor(found.kappa_inter)}
    if full_solution:
        program.run_thermal_conductivity(is_LBTE=True, **options)
        result["full"] = _tensor(program.thermal_conductivity.kappa)
    return result


def solve_with_shengbte(
    crystal: "Crystal",
    second: "SecondOrder",
    third: "ThirdOrder",
    mesh: Sequence[int],
    temperature_k: float,
    transport: dict,
    charges: tuple[NDArray, NDArray] | None = None,
) -> dict[str, NDArray]:
    """Write a folder for ShengBTE, run the user's executable in it and read the conductivities.

    Parameters
    ----------
    crystal, second, third, mesh, temperature_k : as in ``solve_with_phono3py``
    transport : the study's ``transport`` settings; ``command`` is the executable with its arguments, such as
        ``mpirun -n {tasks} ShengBTE``, and ``tasks`` the number of its MPI processes
    charges : as in ``solve_with_phono3py``

    Returns
    -------
    dict of (3, 3) tensors in W/m/K: ``rta`` and ``full``

    Raises
    ------
    StudyError
        If no command is set, the program fails, or it writes no conductivity.
    MachineError
        If the program cannot be started or is killed.
    """
    from phonoscreen.formats.shengbte import write_directory

    command = transport["command"]
    if not command:
        raise StudyError("transport.solver is shengbte, but transport.command is not set", blame="settings",
                         fix="set it to your executable, for example: mpirun -n {tasks} ShengBTE")  # fmt: skip
    command = command.replace("{tasks}", str(transport.get("tasks", 1)))
    born, epsilon = charges or (None, None)
    with tempfile.TemporaryDirectory() as folder:
        write_directory(
            crystal, second, third, folder, mesh=mesh, temperature_k=temperature_k,
            scalebroad=transport["scalebroad"], isotopes=transport["isotopes"],
            iterations_max=transport["iterations_max"], tolerance=transport["iterations_tolerance"],
            born=born, epsilon=epsilon,
        )  # fmt: skip
        log = Path(folder) / "shengbte.log"
        code = run_program(shlex.split(command), folder, log)
        if code:
            raise StudyError(f"{command} ended with status {code}: {log.read_text(errors='replace')[-500:]}",
                             fix="run it by hand on the same files", blame="engine")  # fmt: skip
        return {name: read_conductivity(Path(folder) / f"BTE.KappaTensorVsT_{suffix}")
                for name, suffix in (("rta", "RTA"), ("full", "CONV"))}  # fmt: skip


def read_conductivity(path: str | Path) -> NDArray:
    """Return the tensor (3, 3) of the first temperature of a BTE.KappaTensorVsT_* file, W/m/K."""
    if not Path(path).is_file():
        raise StudyError(f"{path} was not written", fix="look at the program's output", blame="engine")
    return numpy.loadtxt(path, ndmin=2)[0, 1:10].reshape(3, 3)


def solve_structure_elsewhere(task: "Task", transport: dict) -> "Outcome":
    """As ``phonoscreen.stages.transport.solve_structure``, with the conductivities of ``transport["solver"]``.

    Harmonic properties, phase space and mode arrays are this project's; so is the coherence conductivity with ShengBTE,
    which has none.
    """
    from phonoscreen.stages.transport import solve_structure

    outcome = solve_structure(task, transport)
    if outcome.status in ("unstable", "failed"):
        return outcome
    mesh = automatic_mesh(task.crystal, transport["mesh_density_angstrom"])
    arguments = (task.crystal, task.second, _third_of(task), mesh, transport["temperature_k"])
    if transport["solver"] == "phono3py":
        found = solve_with_phono3py(
            *arguments, isotopes=transport["isotopes"], full_solution=True, charges=task.charges
        )
    else:
        found = solve_with_shengbte(*arguments, transport, charges=task.charges)
    names = {"rta": "kappa_p_rta_w_per_m_k", "full": "kappa_p_w_per_m_k", "coherence": "kappa_c_w_per_m_k"}
    outcome.values |= {names[key]: float(numpy.trace(tensor) / 3) for key, tensor in found.items()}
    outcome.status, outcome.reason = "ok", ""
    start = numpy.abs(found["rta"]).max()
    if not numpy.abs(found["full"]).max() <= GROWN * start:
        outcome.values[names["full"]] = numpy.nan
        outcome.status = "not_converged"
        outcome.reason = str(StudyError(
            f"{transport['solver']} gives a full solution beyond {GROWN} times the relaxation-time approximation",
            fix="take another mesh (transport.mesh_density_angstrom) or broadening (transport.scalebroad)",
        ))  # fmt: skip
    return outcome


def cross_check(task: "Task", transport: dict) -> dict[str, Any]:
    """Compare this project's conductivity with phono3py's in the relaxation-time approximation.

    The two differ by their broadening: adaptive Gaussians here, linear tetrahedra there. Coherences are compared as the
    bare sum that phono3py takes.

    Parameters
    ----------
    task : ``phonoscreen.stages.transport.Task``; its charges go to both programs
    transport : the study's ``transport`` settings

    Returns
    -------
    dict: ``native_kappa_p_rta_w_per_m_k, phono3py_kappa_p_rta_w_per_m_k, native_kappa_c_bare_w_per_m_k,
    phono3py_kappa_c_w_per_m_k, relative_difference`` (of kappa_p, phono3py is the denominator), ``mesh``
    """
    from dataclasses import replace

    from phonoscreen.stages.transport import settings_of
    from phonoscreen.transport.solve import solve

    settings = replace(settings_of(transport), full_solution=False, mesh_error=False, coherence_sum="bare")
    mesh = automatic_mesh(task.crystal, transport["mesh_density_angstrom"])
    constants = (task.crystal, task.second, _third_of(task))
    mine = solve(*constants, mesh, settings, correction=task.correction)
    other = solve_with_phono3py(*constants, mesh, transport["temperature_k"], isotopes=transport["isotopes"],
                                charges=task.charges)  # fmt: skip
    kappa, kappa_other = numpy.trace(mine.rta[0].kappa) / 3, numpy.trace(other["rta"]) / 3
    return {
        "native_kappa_p_rta_w_per_m_k": float(kappa),
        "phono3py_kappa_p_rta_w_per_m_k": float(kappa_other),
        "relative_difference": float(kappa / kappa_other - 1),
        "native_kappa_c_bare_w_per_m_k": float(numpy.trace(mine.coherence[0]) / 3),
        "phono3py_kappa_c_w_per_m_k": float(numpy.trace(other["coherence"]) / 3),
        "mesh": " ".join(str(n) for n in mesh),
    }


def _third_of(task: "Task") -> "ThirdOrder":
    if task.third is None:
        raise StudyError("force constants without a third order give no conductivity",
                         fix="set force_constants.third_cutoff_angstrom")  # fmt: skip
    return task.third


def _tensor(kappa):
    xx, yy, zz, yz, xz, xy = numpy.asarray(kappa).reshape(-1, 6)[0]
    return numpy.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


CROSS_CHECK = (
    "structure_id", "stage", "status", "reason", "source", "native_kappa_p_rta_w_per_m_k",
    "phono3py_kappa_p_rta_w_per_m_k", "relative_difference", "native_kappa_c_bare_w_per_m_k",
    "phono3py_kappa_c_w_per_m_k", "mesh",
)  # fmt: skip
"""Columns of the cross check."""


def cross_check_shards(
    shards: "Iterable[tuple[str, str, pandas.DataFrame, str, str]]",
    transport: dict,
    structures_per_source: int,
) -> list[dict]:
    """Cross-check the first solved structures of each source of forces.

    Parameters
    ----------
    shards : iterable of (source, path of the force constants, records of ``solve_bte``, path of the relaxed cells, path
        of the symmetry bases)
    transport : the study's ``transport`` settings
    structures_per_source : at most so many

    Returns
    -------
    list of records with ``source``
    """
    from phonoscreen.stages.stored_force_constants import StoredForceConstants

    rows: list[dict] = []
    left: dict[str, int] = {}
    for source, constants, records, relaxed, bases in shards:
        with h5py.File(relaxed) as cells, StoredForceConstants(constants, bases) as store:
            for structure_id in records.loc[records["status"] == "ok", "structure_id"]:
                if left.setdefault(source, structures_per_source) == 0:
                    break
                left[source] -= 1
                task = store.task(structure_id, read_crystal(cells[structure_id]), transport)
                row = attempted(structure_id, "cross_check_transport", partial(cross_check, task, transport))
                rows.append({**row, "source": source})
    return rows
