"""Training of one member of the committee: exact resume, bounded memory, early stopping on unseen structures.

The same code runs in one process or in several that share each batch (``phonoscreen.forcefield.distributed``).
"""

import copy
import hashlib
import io
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
from phonoscreen.forcefield import distributed
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.models.registry import create_model

log = logging.getLogger("phonoscreen")

HISTORY = (
    "round", "member", "epoch", "training_rmse_mev_per_angstrom", "held_out_rmse_mev_per_angstrom",
    "training_rmse_relative", "held_out_rmse_relative", "environments_per_second", "seconds",
)  # fmt: skip
CALIBRATION_SUPERCELLS = 1024  # supercells that set the fixed scales of a new model
CACHE_BYTES = 2 * 2**30  # prepared supercells kept between epochs; more are prepared again when needed
GRADIENT_NORM_MAX = 1.0


class PreparedSupercells:
    """Supercells prepared for a model, kept in memory as far as the limit allows.

    Parameters
    ----------
    prepare : function of a supercell (structure id, number) that returns a (nested) dict of tensors
    bytes_max : limit of the memory
    """

    def __init__(self, prepare, bytes_max):
        self.prepare, self.bytes_max = prepare, bytes_max
        self.kept, self.bytes = {}, 0

    def __getitem__(self, supercell):
        if supercell in self.kept:
            return self.kept[supercell]
        prepared = self.prepare(supercell)
        size = _size(prepared)
        if self.bytes + size <= self.bytes_max:
            self.kept[supercell] = prepared
            self.bytes += size
        return prepared


def _size(prepared):
    if torch.is_tensor(prepared):
        return prepared.numel() * prepared.element_size()
    return sum(map(_size, prepared.values())) if isinstance(prepared, dict) else 0


def train_member(
    dataset_path, settings, training, *, seed, member, round_number, start=None, checkpoint=None, device="auto"
):
    """Train one member.

    Loss: mean over supercells of the squared error of the force components over ``rms^2 + floor^2`` of the structure
    (``Dataset.weights``). AdamW; the learning rate rises over ``warmup_steps`` and falls as a cosine to zero. An
    exponential moving average of the weights (``ema_decay`` per step) is what is judged and returned: that of the
    epoch with the lowest loss on held-out structures.

    Parameters
    ----------
    dataset_path : HDF5 file of ``assemble_dataset``
    settings, training : the config sections ``force_model`` and ``training``
    seed : seed of the study; weights, order of the data and nothing else depend on (seed, member, round)
    start : model to start from (of the round before, or published), or None
    device : auto, cpu or cuda
    checkpoint : path of the checkpoint, written after every epoch; an existing one is continued

    Returns
    -------
    (ForceModel, pandas.DataFrame) the model and its history: one row per epoch, forces in meV/angstrom, relative
    errors as the root of the loss, environments per second of training

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
    weights = dataset.weights(training["relative_floor_mev_per_angstrom"])
    state = _read_checkpoint(checkpoint)
    model = start if start is not None else create_model(settings, derive_seed(seed, *purpose, "weights"))
    if state is None and start is None:
        generator = torch.Generator().manual_seed(derive_seed(seed, "calibrate"))
        chosen = torch.randperm(len(supercells), generator=generator)[:CALIBRATION_SUPERCELLS].sort().values.tolist()
        model.calibrate([dataset.read(supercells[place]) for place in chosen], derive_seed(seed, "calibrate"))
    model.to(distributed.device_of_process(device))
    averaged = copy.deepcopy(model).eval()
    epochs = training["epochs" if round_number == 0 or start is None else "epochs_later_rounds"]
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
    )
    history, best, best_weights, step = [], numpy.inf, None, 0
    if state is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        history, best, best_weights, step = state["history"], state["best"], state["best_weights"], state["step"]
        log.info("member %d continues after epoch %d", member, len(history))
    prepared = PreparedSupercells(lambda item: model.prepare(*dataset.read(item), weights[item[0]]), CACHE_BYTES)
    described = PreparedSupercells(
        lambda item: model.describe(
            dataset.read(item)[0],
            dataset.undisplaced(item) if model.settings["subtract_undisplaced"] else None,
        ),
        CACHE_BYTES // 4,
    )
    parallel = distributed.wrap(model)
    for epoch in range(len(history), epochs):
        if _finished(history, training["patience_epochs"]):
            log.info("member %d stops: no better epoch in %d", member, training["patience_epochs"])
            break
        begin = time.monotonic()
        generator = torch.Generator().manual_seed(derive_seed(seed, *purpose, "epoch", epoch))
        model.train()
        sums, done = torch.zeros(3, dtype=torch.float64), 0  # loss, squared error, atoms
        for batch in _batches(supercells, dataset, generator, training["batch_environments"]):
            progress = (epoch + done / len(supercells)) / epochs
            rate = training["learning_rate"] * min(1.0, (step + 1) / max(1, training["warmup_steps"]))
            for group in optimiser.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * progress))
            share, part = distributed.share_of(batch)
            loss, square = parallel(model.collate([prepared[item] for item in share]))
            optimiser.zero_grad()
            (loss * (part / len(batch))).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM_MAX)
            optimiser.step()
            step, done = step + 1, done + len(batch)
            _average(averaged, model, min(training["ema_decay"], (1 + step) / (10 + step)))
            if part:
                n_atoms = sum(dataset.n_atoms(item[0]) for item in share)
                sums += torch.tensor([float(loss.detach()), float(square), n_atoms], dtype=torch.float64)
        loss, square, n_atoms = distributed.total(sums).tolist()
        if not numpy.isfinite(loss):
            raise StudyError("the loss is not finite", where=f"member {member}", fix="lower training.learning_rate")
        trained = time.monotonic() - begin
        row = dict.fromkeys(HISTORY, numpy.nan) | {"round": round_number, "member": member, "epoch": epoch}
        row["training_rmse_mev_per_angstrom"] = 1e3 * (square / n_atoms) ** 0.5
        row["training_rmse_relative"] = (loss / len(supercells)) ** 0.5
        row["environments_per_second"] = n_atoms / trained
        if held_out:
            rmse, relative = split_errors(averaged, dataset, described, held_out, weights)
            row["held_out_rmse_mev_per_angstrom"], row["held_out_rmse_relative"] = 1e3 * rmse, relative
        row["seconds"] = time.monotonic() - begin
        history.append(row)
        if _judged(row) < best:
            best = _judged(row)
            best_weights = {name: value.detach().cpu().clone() for name, value in averaged.state_dict().items()}
        if distributed.is_first():
            _write_checkpoint(checkpoint, model, averaged, optimiser, history, best, best_weights, step)
        left = numpy.mean([row["seconds"] for row in history]) * (epochs - epoch - 1)
        log.info(
            "member %d epoch %d/%d training %.1f meV/A (%.3f) held out %.1f meV/A (%.3f) %.1f s, at most %.0f s left",
            member, epoch + 1, epochs, *(row[name] for name in (HISTORY[3], HISTORY[5], HISTORY[4], HISTORY[6])),
            row["seconds"], left,
        )  # fmt: skip
    averaged.load_state_dict(best_weights)
    return averaged, pandas.DataFrame(history, columns=HISTORY)


def split_errors(model, dataset, described, supercells, weights):
    """Return RMSE over all force components (eV/angstrom) and root of the mean loss of a list of supercells.

    Parameters
    ----------
    described : their descriptions (see ``ForceModel.describe``)
    weights : dict structure id -> weight (see ``Dataset.weights``)
    """
    sums = torch.zeros(3, dtype=torch.float64)
    for supercell in supercells[distributed.rank() :: distributed.count()]:
        forces, reference = model.predict(described[supercell]).cpu().numpy(), dataset.forces(supercell)
        square = ((forces - reference) ** 2).sum()
        loss = weights[supercell[0]] * square / reference.size
        sums += torch.tensor([square, reference.size, loss], dtype=torch.float64)
    square, count, loss = distributed.total(sums).tolist()
    return (square / count) ** 0.5, (loss / len(supercells)) ** 0.5


def _judged(row):
    held_out = row["held_out_rmse_relative"]
    return row["training_rmse_relative"] if numpy.isnan(held_out) else held_out


def _finished(history, patience):
    if not history:
        return False
    return len(history) - 1 - int(numpy.argmin([_judged(row) for row in history])) >= patience


@torch.no_grad()
def _average(averaged, model, decay):
    for mean, value in zip(averaged.parameters(), model.parameters()):
        mean.lerp_(value, 1 - decay)


def _batches(supercells, dataset, generator, n_environments):
    """Yield lists of supercells in an order drawn anew, each of about ``n_environments`` atoms."""
    batch, size = [], 0
    for place in torch.randperm(len(supercells), generator=generator).tolist():
        batch.append(supercells[place])
        size += dataset.n_atoms(supercells[place][0])
        if size >= n_environments:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_checkpoint(path):
    if path is None or not Path(path).exists():
        return None
    content = Path(path).read_bytes()
    sha256, state = content[:64], content[64:]
    if hashlib.sha256(state).hexdigest().encode() != sha256:
        log.warning("the checkpoint %s is damaged: the training begins anew", path)
        return None
    return torch.load(io.BytesIO(state), weights_only=True)


def _write_checkpoint(path, model, averaged, optimiser, history, best, best_weights, step):
    if path is None:
        return
    state = {
        "model": model.state_dict(),
        "averaged": averaged.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
        "best": float(best),
        "best_weights": best_weights,
        "step": step,
    }
    stream = io.BytesIO()
    torch.save(state, stream)
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    Path(f"{path}.partial").write_bytes(sha256.encode() + stream.getvalue())
    os.replace(f"{path}.partial", path)
