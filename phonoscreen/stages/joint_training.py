"""Training of all members together, on kept labels and on force sets of DFT (``phonoscreen train --together``)."""

import json
import logging
import os
from pathlib import Path

import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import write_table
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.items import dataset_items
from phonoscreen.forcefield.models.base import choose_device
from phonoscreen.forcefield.models.equivariant import EquivariantPotential
from phonoscreen.forcefield.models.files import save_model
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.precomputed import Tables
from phonoscreen.forcefield.together import train_together
from phonoscreen.stages.published_model import member_files

log = logging.getLogger("phonoscreen")

CALIBRATION_SUPERCELLS = 256


def train_members_together(folder: Path, members: int, device: str) -> None:
    """Train all members at once and write their weights, settings and histories; a killed training goes on.

    Parameters
    ----------
    folder : of the training (``phonoscreen.stages.published_model.prepare_training``)
    members : how many
    device : auto, cpu or cuda

    Raises
    ------
    StudyError
        If the model is none whose members train together.
    """
    if all(member_files(folder, member)[2].exists() for member in range(members)):
        return
    plan = json.loads((folder / "training.json").read_text())
    settings, training, seed = plan["force_model"], plan["training"], plan["seed"]
    if settings["kind"] != EquivariantPotential.kind:
        raise StudyError(f"members of kind {settings['kind']} do not train together", where="phonoscreen train",
                         fix="leave out --together")  # fmt: skip
    cutoff, processes = settings["cutoff_angstrom"], len(os.sched_getaffinity(0))
    dataset = folder / "dataset.h5"
    items, arrays = dataset_items(dataset, ["training", "held_out"], cutoff, training, processes=processes)
    data = Dataset(dataset, cutoff)
    n_training, n_labelled = len(data.cells("training")), len(items)
    if (folder / "force_sets.h5").exists():
        arrays += dataset_items(folder / "force_sets.h5", ["training"], cutoff, training, processes=processes)[1]
    where = choose_device(device)
    models = _new_models(data, settings, members, seed, where)
    tables = Tables(arrays, cutoff, models[0].dtype, where)
    log.info("%d items of %d environments and %d pairs", len(arrays), tables.totals["atoms"], tables.totals["pairs"])
    history = train_together(
        models, tables, [*range(n_training), *range(n_labelled, len(arrays))], [*range(n_training, n_labelled)],
        training, seed=seed, checkpoint=folder / "checkpoint.together",
    )  # fmt: skip
    for member, model in enumerate(models):
        weights, path, own_history = member_files(folder, member)
        save_model(
            model, weights, path, elements=data.elements(), round=0, member=member, training=training,
            label_engine=data.store.attrs["engine"], label_model=data.store.attrs["model"],
        )  # fmt: skip
        write_table(history[history.member == member].reset_index(drop=True), own_history)
    (folder / "checkpoint.together").unlink(missing_ok=True)


def _new_models(data, settings, members, seed, device):
    """Members with the seeds of ``phonoscreen.forcefield.training``, calibrated on part of its supercells."""
    supercells = data.supercells("training")
    generator = torch.Generator().manual_seed(derive_seed(seed, "calibrate"))
    chosen = torch.randperm(len(supercells), generator=generator)[:CALIBRATION_SUPERCELLS].sort().values.tolist()
    samples = [data.read(supercells[place]) for place in chosen]
    models = []
    for member in range(members):
        model = create_model(settings, derive_seed(seed, "train_member", member, 0, "weights")).to(device)
        model.calibrate(samples, derive_seed(seed, "calibrate"))
        models.append(model.to("cpu"))
    return models
