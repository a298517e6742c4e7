"""Training of one member of the committee: exact resume, bounded memory, early stopping on unseen structures.

The same code runs in one process or in several that share each batch (``phonoscreen.forcefield.distributed``).
"""

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy
import pandas
import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield import distributed
from phonoscreen.forcefield.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.models.registry import create_model
from phonoscreen.forcefield.schedule import average_weights, draw_batches, set_learning_rate

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.forcefield.models.base import ForceModel

log = logging.getLogger("phonoscreen")

HISTORY = (
    "round", "member", "epoch", "training_rmse_mev_per_angstrom", "held_out_rmse_mev_per_angstrom",
    "training_rmse_relative", "held_out_rmse_relative", "environments_per_second", "seconds",
)  # fmt: skip
UNITS = ("mev_per_angstrom", "relative")
CALIBRATION_SUPERCELLS = 1024  # supercells that set the fixed scales of a new model
CACHE_BYTES = 2 * 2**30  # prepared supercells kept between epochs; more are prepared again when needed
GRADIENT_NORM_MAX = 1.0


class PreparedSupercells:
    """Supercells prepared for a model, kept in memory as far as the limit allows.

    Parameters
    ----------
    prepare : function of a supercell (structure id, number) that returns a (nested) dict of tensors
    bytes_max : limit of the memory
    kept : supercells that are prepared already, beyond the limit
    """

    def __init__(
        self,
        prepare: Callable[[tuple[str, int]], dict],
        bytes_max: int,
        kept: Mapping[tuple[str, int], dict] | None = None,
    ) -> None:
        self.prepare, self.bytes_max = prepare, bytes_max
        self.kept = dict(kept or {})
        self.bytes = 0

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


def _same(one, other):
    if torch.is_tensor(one):
        return torch.equal(one, other)
    return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())


def train_member(
    dataset_path: "str | Path",
    settings: dict,
    training: dict,
    *,
    seed: int,
    member: int,
    round_number: int,
    start: "ForceModel | None" = None,
    checkpoint: "str | Path | None" = None,
    device: str = "auto",
    progress: "str | Path | None" = None,
    prepared: "Mapping[tuple[str, int], dict] | None" = None,
) -> "tuple[ForceModel, pandas.DataFrame]":
    """Train one member.

    Loss: mean over supercells of the squared error of the force components over ``rms^2 + floor^2`` of the structure
    (``Dataset.weights``), plus ``stress_weight`` times that of the stresses over their unit (``Dataset.virials``) where
    the data set has stresses. AdamW; the learning rate rises over ``warmup_steps`` and falls as a cosine to zero. An
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
    progress : path of the history as CSV, written after every epoch, or None
    prepared : supercells prepared for another member (``prepare_training_cells``), taken where this member's are the
        same; None: every supercell is prepared here

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
    if not dataset.supercells("training"):
        raise StudyError("no supercell to train on", where=f"member {member}", fix="check rounds/*/dataset.parquet")
    purpose = ("train_member", member, round_number)
    state = _begin(
        dataset, settings, training, seed=seed, purpose=purpose, start=start, kept=read_checkpoint(checkpoint),
        device=device,
    )  # fmt: skip
    if state.history:
        log.info("member %d continues after epoch %d", member, len(state.history))
    data = _TrainingData(dataset, state.model, training, prepared or {})
    parallel = distributed.wrap(state.model)
    epochs = training["epochs" if round_number == 0 or start is None else "epochs_later_rounds"]
    for epoch in range(len(state.history), epochs):
        if state.history and state.epochs_since_best() >= training["patience_epochs"]:
            log.info("member %d stops: no better epoch in %d", member, training["patience_epochs"])
            break
        generator = torch.Generator().manual_seed(derive_seed(seed, *purpose, "epoch", epoch))
        row = dict.fromkeys(HISTORY, numpy.nan) | {"round": round_number, "member": member, "epoch": epoch}
        row |= _train_epoch(state, parallel, data, training, generator, epoch, epochs)
        if not numpy.isfinite(row["training_rmse_relative"]):
            raise StudyError("the loss is not finite", where=f"member {member}", fix="lower training.learning_rate")
        state.finish_epoch(row)
        if distributed.is_first():
            write_checkpoint(checkpoint, state)
            if progress is not None:
                pandas.DataFrame(state.history, columns=HISTORY).to_csv(progress, index=False)
        _log_epoch(state.history, epochs)
    state.averaged.load_state_dict(state.best_weights)
    return state.averaged, pandas.DataFrame(state.history, columns=HISTORY)


def prepare_training_cells(
    dataset_path: "str | Path",
    settings: dict,
    training: dict,
    *,
    seed: int,
    start: "ForceModel | None" = None,
    checkpoint: "str | Path | None" = None,
    bytes_max: int,
) -> dict[tuple[str, int], dict]:
    """Prepare the supercells of the training split once, for the members that train on them.

    Parameters
    ----------
    dataset_path, settings, training, seed, start, checkpoint : of the first of these members, see ``train_member``
    bytes_max : those that take more memory are left out, and every member prepares them when it needs them

    Returns
    -------
    dict of what ``prepare_item`` returns
    """
    dataset = Dataset(dataset_path, settings["cutoff_angstrom"])
    state = _begin(
        dataset, settings, training, seed=seed, purpose=("train_member", 0, 0), start=start,
        kept=read_checkpoint(checkpoint), device="cpu",
    )  # fmt: skip
    cells = _TrainingData(dataset, state.model, training, {}, bytes_max)
    for item in sorted(cells.training):  # the supercells of a structure share its list of neighbours
        cells.prepared[item]
        if cells.prepared.bytes >= 0.98 * bytes_max:
            break
    log.info("%d of %d cells prepared, %.2f GiB", len(cells.prepared.kept), len(cells.training),
             cells.prepared.bytes / 2**30)  # fmt: skip
    return cells.prepared.kept


def _begin(dataset, settings, training, *, seed, purpose, start, kept, device):
    """Return the ``TrainingState`` that a training begins with, or goes on from where a checkpoint was kept."""
    model = start if start is not None else create_model(settings, derive_seed(seed, *purpose, "weights"))
    if kept is None and start is None:
        supercells = dataset.supercells("training")
        generator = torch.Generator().manual_seed(derive_seed(seed, "calibrate"))
        chosen = torch.randperm(len(supercells), generator=generator)[:CALIBRATION_SUPERCELLS].sort().values.tolist()
        model.calibrate([dataset.read(supercells[place]) for place in chosen], derive_seed(seed, "calibrate"))
    model.to(distributed.device_of_process(device))
    averaged = copy.deepcopy(model).eval()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
    )
    state = TrainingState(model, averaged, optimiser)
    if kept is not None:
        state.restore(kept)
    return state


class _TrainingData:
    """The supercells of both splits, prepared for a model when they are needed; strained cells where there are any."""

    def __init__(self, dataset, model, training, prepared, bytes_max=None):
        self.dataset = dataset
        self.weights = dataset.weights(training["relative_floor_mev_per_angstrom"])
        # strained cells teach stress; a model without energy has none, and of their forces most vanish by symmetry
        strained = hasattr(model, "virials")
        self.training = dataset.cells("training") if strained else dataset.supercells("training")
        self.held_out = dataset.supercells("held_out")

        def prepare(item):
            return prepare_item(model, dataset, item, self.weights[item[0]], training["stress_weight"])

        first = next(iter(prepared), None)
        shared = prepared if first is not None and _same(prepared[first], prepare(first)) else {}
        if bytes_max is None:  # what is shared has taken the memory that there is
            bytes_max = 0 if shared else CACHE_BYTES
        self.prepared = PreparedSupercells(prepare, bytes_max, shared)
        self.described = PreparedSupercells(
            lambda item: model.describe(
                dataset.read(item)[0],
                dataset.undisplaced(item) if model.settings["subtract_undisplaced"] else None,
            ),
            CACHE_BYTES // 4,
        )


def prepare_item(
    model: "ForceModel", dataset: Dataset, item: tuple[str, int], weight: float, stress_weight: float
) -> dict[str, torch.Tensor]:
    """Return a supercell, or the strained cells of a structure, as training keeps it (see ``ForceModel.prepare``).

    Parameters
    ----------
    item : see ``Dataset.cells``
    weight : of the mean squared error of its forces, angstrom^2/eV^2
    stress_weight : of the squared error of the virials over their unit (``Dataset.virials``); 0: not trained
    """
    at_rest = dataset.undisplaced(item) if dataset.is_relative(item) else None
    if not (dataset.has_stress and stress_weight):
        return model.prepare(*dataset.read(item), weight, at_rest=at_rest)
    virials, unit = dataset.virials(item)
    return model.prepare(*dataset.read(item), weight, virials, stress_weight / unit**2, at_rest)


def _train_epoch(state, parallel, data, training, generator, epoch, epochs):
    """Train for one epoch and return the errors and times of its row of the history."""
    begin = time.monotonic()
    loss, square, n_atoms = _steps_of_epoch(state, parallel, data, training, generator, epoch, epochs)
    trained = time.monotonic() - begin
    row = {
        "training_rmse_mev_per_angstrom": 1e3 * (square / n_atoms) ** 0.5,
        "training_rmse_relative": (loss / len(data.training)) ** 0.5,
        "environments_per_second": n_atoms / trained,
    }
    if data.held_out:
        rmse, relative = split_errors(state.averaged, data.dataset, data.described, data.held_out, data.weights)
        row |= {"held_out_rmse_mev_per_angstrom": 1e3 * rmse, "held_out_rmse_relative": relative}
    return {**row, "seconds": time.monotonic() - begin}


def _steps_of_epoch(state, parallel, data, training, generator, epoch, epochs):
    """Take every step of an epoch; return the sums of loss, squared error and atoms over all processes."""
    state.model.train()
    sums, done = torch.zeros(3, dtype=torch.float64), 0
    for batch in draw_batches(data.training, data.dataset, generator, training["batch_environments"]):
        progress = (epoch + done / len(data.training)) / epochs
        set_learning_rate(state.optimiser, training["learning_rate"], training["warmup_steps"], state.step, progress)
        share, part = distributed.share_of(batch)
        loss, square = parallel(state.model.collate([data.prepared[item] for item in share]))
        state.optimiser.zero_grad()
        (loss * (part / len(batch))).backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), GRADIENT_NORM_MAX)
        state.optimiser.step()
        state.step, done = state.step + 1, done + len(batch)
        average_weights(state.averaged, state.model, training["ema_decay"], state.step)
        if part:
            n_atoms = sum(data.dataset.n_atoms(item) for item in share)
            sums += torch.tensor([float(loss.detach()), float(square), n_atoms], dtype=torch.float64)
    return distributed.total(sums).tolist()


def _log_epoch(history, epochs):
    row = history[-1]
    left = numpy.mean([row["seconds"] for row in history]) * (epochs - row["epoch"] - 1)
    errors = [row[f"{split}_rmse_{unit}"] for split in ("training", "held_out") for unit in UNITS]
    log.info(
        "member %d epoch %d/%d training %.1f meV/A (%.3f) held out %.1f meV/A (%.3f) %.1f s, at most %.0f s left",
        row["member"], row["epoch"] + 1, epochs, *errors, row["seconds"], left,
    )  # fmt: skip


def split_errors(
    model: "ForceModel",
    dataset: Dataset,
    described: PreparedSupercells,
    supercells: Sequence[tuple[str, int]],
    weights: Mapping[str, float],
) -> tuple[float, float]:
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
