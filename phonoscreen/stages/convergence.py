"""Thermal conductivity of one structure against the choices of a calculation, one at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.settings import OrderSettings
from phonoscreen.stages.force_constants import fit_arguments
from phonoscreen.stages.refit import fit_task
from phonoscreen.stages.transport import settings_of
from phonoscreen.structures.labelled_supercells import read_labelled
from phonoscreen.structures.own_charges import OwnCharges
from phonoscreen.transport.solve import solve

if TYPE_CHECKING:
    import os

    from phonoscreen.audit.shard_files import ShardFiles
    from phonoscreen.crystal.constants import Crystal

KAPPAS = ["kappa_p_rta_w_per_m_k", "kappa_p_w_per_m_k", "kappa_c_w_per_m_k"]


def smallest_labelled(paths: "Iterable[str | os.PathLike]") -> list[str]:
    """Return the id of the structure with the smallest supercell among those that have forces, as a list.

    Parameters
    ----------
    paths : HDF5 files with ``forces``
    """
    sizes = []
    for path in paths:
        with h5py.File(path) as store:
            sizes += [(store[name]["forces"].shape[1], name) for name in store if "forces" in store[name]]
    return [name for _, name in sorted(sizes)[:1]]


def converge_structures(
    forces: "ShardFiles", supercells: "ShardFiles", charges: OwnCharges, shells: Mapping[str, int],
    force_constants: dict, transport: dict, choices: dict,
) -> list[dict]:  # fmt: skip
    """Vary the choices for each of the structures that ``convergence.structures`` names.

    Parameters
    ----------
    forces, supercells : ``ShardFiles`` of the labels or predictions, and of the displaced supercells
    charges : of the study, where it has a stage for them
    shells : neighbour shells inside the third-order cutoff of each structure (``third_shell`` of the assignment)
    force_constants, transport : sections of the settings
    choices : section ``convergence``; without ``structures`` the one with the smallest supercell is taken

    Returns
    -------
    list of dicts as of ``convergence``, with ``structure_id`` and ``source``

    Raises
    ------
    StudyError
        If none of the structures has forces.
    """
    wanted, rows = choices["structures"], []
    if wanted is None:
        wanted = smallest_labelled(dict.fromkeys(forces.values()))
    for structure_id in forces.in_order(wanted):
        data = read_labelled(forces.group(structure_id), supercells.group(structure_id))
        data = charges.put_into(data, structure_id)
        own = {**force_constants, "third_shells": int(shells[structure_id])}
        found = convergence(data.crystal, data.repetitions, fit_arguments(data), own, transport, choices)
        rows += [{"structure_id": structure_id, "source": choices["source"], **row} for row in found]
    if not rows:
        raise StudyError(
            f"none of the structures {wanted} has forces from the source {choices['source']}",
            where="stage converge_transport", fix="choose convergence.structures anew, or null",
        )  # fmt: skip
    return rows


def convergence(
    crystal: "Crystal", repetitions: Sequence[int], samples: dict, force_constants: dict, transport: dict, choices: dict
) -> list[dict]:
    """Vary the q mesh, the broadening and the third-order cutoff around the study's own choice.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    samples, force_constants, transport : as for ``phonoscreen.stages.refit.fit_task``
    choices : section ``convergence``: ``mesh_densities_angstrom, scalebroads, third_cutoffs_angstrom``

    Returns
    -------
    list of dicts ``varied, value, study`` (is it the study's own choice), ``mesh, reason`` and ``KAPPAS``; cutoffs are
    those used, in the gaps between shells. A cutoff that these supercells cannot determine has a reason and NaN.

    Raises
    ------
    StudyError
        If the study's own choice cannot be solved.
    """
    settings, density = replace(settings_of(transport), mesh_error=False), transport["mesh_density_angstrom"]
    mesh, orders, rows = automatic_mesh(crystal, density), OrderSettings.from_section(force_constants), []

    def fit(cutoffs):
        basis = build_basis(crystal, repetitions, tuple(cutoffs))
        return fit_task(crystal, basis, samples, force_constants, transport)

    def add(varied, value, study, mesh, task, settings):
        found = solve(crystal, task.second, task.third, mesh, settings, correction=task.correction)
        row = {"varied": varied, "value": float(value), "study": bool(study), "mesh": _text(mesh), "reason": ""}
        if found.full[0].diverged:
            row["reason"] = "the iteration of the full solution diverges"
        tensors = (found.rta[0].kappa, found.full[0].kappa, found.coherence[0])
        rows.append(row | {name: float(numpy.trace(x) / 3) for name, x in zip(KAPPAS, tensors, strict=True)})

    cutoffs, third = orders.cutoffs(crystal, repetitions)
    if third is None:
        raise StudyError("force constants without a third order give no conductivity",
                         where="stage converge_transport", fix="set force_constants.third_cutoff_angstrom")  # fmt: skip
    own_cutoff, own = third.value_angstrom, fit(cutoffs)
    for value in sorted({*choices["mesh_densities_angstrom"], density}):
        add("mesh_density_angstrom", value, value == density, automatic_mesh(crystal, value), own, settings)
    for value in sorted({*choices["scalebroads"], settings.scalebroad}):
        scaled = replace(settings, scalebroad=value)
        add("scalebroad", value, value == settings.scalebroad, mesh, own, scaled)
    add("third_cutoff_angstrom", own_cutoff, True, mesh, own, settings)
    tried = {own_cutoff}
    for largest in choices["third_cutoffs_angstrom"]:
        cutoff = largest
        try:
            varied = replace(orders, third_cutoff_angstrom=largest, third_shells=None)
            cutoffs, third = varied.cutoffs(crystal, repetitions)
            cutoff = third.value_angstrom
            if cutoff not in tried:
                add("third_cutoff_angstrom", cutoff, False, mesh, fit(cutoffs), settings)
        except StudyError as error:
            row = {"varied": "third_cutoff_angstrom", "value": cutoff, "study": False, "mesh": _text(mesh)}
            rows.append(row | {"reason": str(error), **dict.fromkeys(KAPPAS, numpy.nan)})
        tried.add(cutoff)
    return sorted(rows, key=lambda row: (row["varied"], row["value"]))


def _text(mesh):
    return " ".join(str(n) for n in mesh)
