"""Training of one member of the committee: exact resume, bounded memory, early stopping on unseen structures."""

import logging
import math
import os
import time
from pathlib import Path

import numpy
import pandas
import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.model import choose_device, create_model

log = logging.getLogger("phonoscreen")

BLOCK_ENVIRONMENTS = 65536  # environments shuffled together; the order of blocks changes every epoch
HISTORY = (
    "round", "member", "epoch", "training_rmse_mev_per_angstrom", "held_out_rmse_mev_per_angstrom", "seconds",
)  # fmt: skip
CALIBRATION_SUPERCELLS = 1024  # supercells that set the fixed scales of a new model
CACHE_BYTES = 2 * 2**30  # prepared supercells kept between epochs; more are prepared again when needed


class PreparedSupercells:
    """Supercells prepared for a model, kept in memory as far as the limit allows.

    Parameters
    ----------
    prepare : function of a supercell (structure id, number) that returns a tuple or dict of tensors
    bytes_max : limit of the memory
    """

    def __init__(self, prepare, bytes_max):
        self.prepare, self.bytes_max = prepare, bytes_max
        self.kept, self.bytes = {}, 0

    def __getitem__(self, supercell):
        if supercell in self.kept:
            return self.kept[supercell]
        prepared = self.prepare(supercell)
        tensors = prepared.values() if isinstance(prepared, dict) else prepared
        size = sum(part.numel() * part.element_size() for part in tensors if torch.is_tensor(part))
        if self.bytes + size <= self.bytes_max:
            self.kept[supercell] = prepared
            self.bytes += size
        return prepared


def train_member(
    dataset_path, settings, training, *, seed, member, round_number, start=None, checkpoint=None, device="auto"
):
    """Train one member.

    Loss: mean squared error of the force components over the squared force RMS of the training set. AdamW with a
    cosine schedule. The weights of the epoch with the lowest force RMSE on held-out structures are returned.

    Parameters
    ----------
    dataset_path : HDF5 file of ``assemble_dataset``
    settings, training : the config sections ``force_model`` and ``training``
    seed : seed of the study; weights, order of the data and nothing else depend on (seed, member, round)
    start : model of the round before (warm start), or None
    device : auto, cpu or cuda
    checkpoint : path of the checkpoint, written after every epoch; an existing one is continued

    Returns
    -------
    (ForceModel, pandas.DataFrame) the model and its history: one row per epoch, forces in meV/angstrom

    Raises
    ------
    StudyError
        If the training split is empty or the loss is not finite.
    """
    dataset = Dataset(dataset_path, settings["cutoff_angstrom"])
    purpose = ("train_member", member, round_number)
    supercells, held_out = dataset.supercells("training"), dataset.supercells("held_out")
    if not supercells:
        raise StudyError("no supercell to train on", where=f"member {member}", fix="check rounds/*/dataset.parquet")
    model = start if start is not None else create_model(settings, derive_seed(seed, *purpose, "weights"))
    state = _read_checkpoint(checkpoint)
    if state is None and start is None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "calibrate"))
        chosen = torch.randperm(len(supercells), generator=generator)[:CALIBRATION_SUPERCELLS].sort().values.tolist()
        model.calibrate([dataset.read(supercells[place]) for place in chosen], derive_seed(seed, "calibrate"))
    model.to(choose_device(device))
    epochs = training["epochs"] if start is None else training["epochs_later_rounds"]
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
    )
    history, best, best_weights, first = [], numpy.inf, None, 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        history, best, best_weights = state["history"], state["best"], state["best_weights"]
        first = len(history)
        log.info("member %d continues after epoch %d", member, first)
    prepared = PreparedSupercells(lambda supercell: model.prepare(*dataset.read(supercell)), CACHE_BYTES)
    described = PreparedSupercells(
        lambda supercell: model.describe(
            dataset.read(supercell)[0],
            dataset.undisplaced(supercell) if model.settings["subtract_undisplaced"] else None,
        ),
        CACHE_BYTES // 4,
    )
    for epoch in range(first, epochs):
        begin = time.monotonic()
        generator = torch.Generator().manual_seed(derive_seed(seed, *purpose, "epoch", epoch))
        for group in optimiser.param_groups:
            group["lr"] = training["learning_rate"] * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        model.train()
        loss_sum, n_samples = 0.0, 0
        for block in _blocks(supercells, dataset, generator):
            for batch in model.batches([prepared[item] for item in block], generator, training["batch_environments"]):
                optimiser.zero_grad()
                loss = model.loss(batch)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimiser.step()
                loss_sum, n_samples = loss_sum + float(loss.detach()) * len(batch[0]), n_samples + len(batch[0])
        if not numpy.isfinite(loss_sum):
            raise StudyError("the loss is not finite", where=f"member {member}", fix="lower training.learning_rate")
        model.eval()
        training_rmse = 1e3 * float(model.force_scale) * (loss_sum / n_samples) ** 0.5
        rmse = 1e3 * force_rmse(model, dataset, described, held_out) if held_out else training_rmse
        seconds = time.monotonic() - begin
        row = round_number, member, epoch, training_rmse, rmse if held_out else numpy.nan, seconds
        history.append(dict(zip(HISTORY, row)))
        if rmse < best:
            best = rmse
            best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        _write_checkpoint(checkpoint, model, optimiser, history, best, best_weights)
        left = numpy.mean([row["seconds"] for row in history]) * (epochs - epoch - 1)
        log.info(
            "member %d epoch %d/%d training %.1f held out %.1f meV/A %.1f s, at most %.0f s left",
            member, epoch + 1, epochs, training_rmse, rmse, seconds, left,
        )  # fmt: skip
        best_epoch = int(numpy.argmin([_stopping_rmse(row) for row in history]))
        if epoch - best_epoch >= training["patience_epochs"]:
            log.info("member %d stops: no better epoch since %d", member, best_epoch + 1)
            break
    model.load_state_dict(best_weights)
    return model.eval(), pandas.DataFrame(history, columns=HISTORY)


def force_rmse(model, dataset, described, supercells):
    """Return the RMSE over all force components of a list of supercells from their descriptions, eV/angstrom."""
    square, count = 0.0, 0
    for supercell in supercells:
        forces = model.predict(described[supercell]).detach().cpu().numpy()
        reference = dataset.forces(supercell)
        square, count = square + ((forces - reference) ** 2).sum(), count + reference.size
    return float(numpy.sqrt(square / count))


def _stopping_rmse(row):
    held_out = row["held_out_rmse_mev_per_angstrom"]
    return row["training_rmse_mev_per_angstrom"] if numpy.isnan(held_out) else held_out


def _blocks(supercells, dataset, generator):
    """Yield the supercells in an order drawn anew, in blocks that are shuffled together."""
    block, size = [], 0
    for place in torch.randperm(len(supercells), generator=generator).tolist():
        block.append(supercells[place])
        size += dataset.n_atoms(supercells[place][0])
        if size >= BLOCK_ENVIRONMENTS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read_checkpoint(path):
    if path is None or not Path(path).exists():
        return None
    return torch.load(path, weights_only=True)


def _write_checkpoint(path, model, optimiser, history, best, best_weights):
    if path is None:
        return
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
        "best": float(best),
        "best_weights": best_weights,
    }
    torch.save(state, f"{path}.partial")
    os.replace(f"{path}.partial", path)
