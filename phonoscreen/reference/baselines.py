"""Universal potentials on the labelled supercells of structures that no network of the study was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError, culprit, engine_blamed, machine_named
from phonoscreen.structures.labelled_supercells import read_labelled
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import build_supercell, displaced_supercell

if TYPE_CHECKING:
    import h5py

    from phonoscreen.reference.base import Engine

COLUMNS = [
    "structure_id", "stage", "status", "reason", "failure", "model", "engine", "reference", "part", "n_supercells",
    "force_rmse_mev_per_angstrom", "force_mae_mev_per_angstrom", "force_rms_mev_per_angstrom", "force_rmse_relative",
]  # fmt: skip


def force_errors(predicted: ArrayLike, reference: ArrayLike) -> dict[str, float]:
    """Return the errors of predicted forces.

    Parameters
    ----------
    predicted, reference : equal shapes, eV/angstrom

    Returns
    -------
    dict with ``force_rmse_mev_per_angstrom`` and ``force_mae_mev_per_angstrom`` over components and
    ``force_rmse_relative``, the RMSE over the root mean square of the reference
    """
    predicted, reference = numpy.asarray(predicted), numpy.asarray(reference)
    difference = predicted - reference
    rmse, rms = float(numpy.sqrt((difference**2).mean())), float(numpy.sqrt((reference**2).mean()))
    return {
        "force_rmse_mev_per_angstrom": 1e3 * rmse,
        "force_mae_mev_per_angstrom": 1e3 * float(numpy.abs(difference).mean()),
        "force_rms_mev_per_angstrom": 1e3 * rms,
        "force_rmse_relative": rmse / rms if rms else float("nan"),
    }


def evaluate_structure(
    engine: Engine, structure_id: str, supercells: h5py.Group, labels: h5py.Group
) -> tuple[dict[str, Any], NDArray | None]:
    """Compare an engine with the labels of one structure.

    Parameters
    ----------
    engine : see ``phonoscreen.reference.registry``
    structure_id : str
    supercells, labels : the structure's groups in ``results/supercells`` and ``results/labels``

    Returns
    -------
    row : dict for the table; status ``failed`` with the reason where the engine fails
    forces : (n, n_atoms, 3) forces of the engine, eV/angstrom, or None
    """
    data = read_labelled(labels, supercells)
    row = {"structure_id": structure_id, "stage": "evaluate_baselines", "status": "ok", "reason": "", "failure": "",
           "engine": engine.name, "reference": data.model}  # fmt: skip
    supercell = build_supercell(read_atoms(supercells), data.repetitions)
    try:
        with machine_named(f"{structure_id}, stage evaluate_baselines"), engine_blamed():
            forces = numpy.array(
                [
                    engine.forces(displaced_supercell(supercell, displacements), f"{structure_id}/{number}")[1]
                    for number, displacements in zip(data.numbers, data.displacements, strict=True)
                ]
            )
    except StudyError as error:
        return {**row, "status": "failed", "reason": str(error), "failure": culprit(error)}, None
    return {**row, "n_supercells": len(data.forces), **force_errors(forces, data.forces)}, forces
