"""What each choice of the force models is worth: train with changed settings, compare on held-out structures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.training import train_member

if TYPE_CHECKING:
    from pathlib import Path


def measure(
    dataset_path: str | Path,
    seed: int,
    *,
    model: str,
    change: Mapping[str, Any],
    force_model: dict[str, Any],
    training: dict[str, Any],
    device: str = "cpu",
) -> pandas.DataFrame:
    """Train one member and measure it on the held-out structures.

    The held-out structures also stop the training early, so the errors are a little too good, for all alike.

    Parameters
    ----------
    dataset_path : HDF5 file of ``assemble_dataset``
    model, change : name of the model and dict of the settings changed, for the table only
    force_model, training : settings of the model and of its training, already changed
    device : auto, cpu or cuda

    Returns
    -------
    pandas.DataFrame of one row: force RMSE over all held-out force components in meV/angstrom, the RMS over structures
    of RMSE / RMS force, epochs, parameters, and processor seconds of the training
    """
    begin = time.process_time()
    trained, history = train_member(
        dataset_path, force_model, training, seed=seed, member=0, round_number=0, device=device
    )
    seconds = time.process_time() - begin
    absolute, relative = held_out_errors(Committee([trained]), dataset_path)
    row = {
        "model": model,
        "change": " ".join(f"{key}={value}" for key, value in change.items()) or "none",
        "force_rmse_mev_per_angstrom": absolute,
        "force_rmse_relative": relative,
        "epochs": len(history),
        "parameters": sum(weights.numel() for weights in trained.parameters()),
        "training_cpu_seconds": seconds,
    }
    return pandas.DataFrame([row])


def held_out_errors(committee: Committee, dataset_path: str | Path) -> tuple[float, float]:
    """Return force RMSE in meV/angstrom and the RMS over structures of RMSE / RMS force, on held-out structures."""
    dataset = Dataset(dataset_path, committee.cutoff_angstrom)
    squares, relative, count = 0.0, [], 0
    for structure_id in sorted({structure_id for structure_id, _ in dataset.supercells("held_out")}):
        group = dataset.store[structure_id]
        forces = group["forces"][:]
        error = ((committee.supercell_forces(Supercells.read(group)).mean(axis=0) - forces) ** 2).sum()
        squares, count = squares + error, count + forces.size
        relative.append(error / (forces**2).sum())
    return 1e3 * numpy.sqrt(squares / count), numpy.sqrt(numpy.mean(relative))
