"""Training of all members of a committee at once on a GPU: one stack of weights, one batch for all members.

The data set is computed once into tables (``phonoscreen.forcefield.precomputed``); a step is then one replayed CUDA
graph. Loss, optimiser, schedule, averaging of the weights and choice of the epoch are those of
``phonoscreen.forcefield.training``; what differs is that all members see the same batches and that a batch is full
when it reaches ``batch_environments`` atoms. It runs on a CPU too, where ``train_member`` is the faster way.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pandas
import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield.checkpoint import read_checkpoint, write_sealed
from phonoscreen.forcefield.models.equivariant import EquivariantPotential
from phonoscreen.forcefield.precomputed import PrecomputedLoss, Tables
from phonoscreen.forcefield.training import GRADIENT_NORM_MAX, HISTORY

log = logging.getLogger("phonoscreen")

WARM_UP_STEPS = 3
EPOCHS_PER_CHECKPOINT = 10


class Stack:
    """Weights of several models of one make, each joined along a first axis over the models."""

    def __init__(self, models: Sequence[EquivariantPotential], device: torch.device) -> None:
        copies = [PrecomputedLoss(copy.deepcopy(model)).to(device) for model in models]
        weights, buffers = torch.func.stack_module_state(copies)
        self.weights = {name: value.detach().clone().requires_grad_(True) for name, value in weights.items()}
        self.averaged = {name: value.detach().clone() for name, value in weights.items()}
        self.best = {name: value.detach().clone() for name, value in weights.items()}
        self.buffers, self.count = buffers, len(models)
        self._shell = PrecomputedLoss(copy.deepcopy(models[0])).to("meta")

    def losses(
        self, weights: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss and sum of squared errors of every model on a batch, (n_models,) each."""

        def call(weights, buffers, batch):
            return torch.func.functional_call(self._shell, (weights, buffers), (batch,))

        return torch.func.vmap(call, in_dims=(0, 0, None))(weights, self.buffers, batch)

    def keep_best(self, better: torch.Tensor) -> None:
        """Keep the averaged weights of those models for which ``better`` (n_models,) is true."""
        for name, value in self.averaged.items():
            chosen = better.reshape(-1, *(1,) * (value.dim() - 1))
            self.best[name].copy_(torch.where(chosen, value, self.best[name]))


class Replayed:
    """A function of the items of a batch; on a GPU it is captured as a CUDA graph at an empty batch, and replayed."""

    def __init__(self, function: Callable[[torch.Tensor], None], n_items: int, tables: Tables) -> None:
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None
        self.items = torch.full((n_items,), len(tables.counts["atoms"]), dtype=torch.int64, device=tables.device)

    def _capture(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                self.function(self.items)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.function(self.items)
        return graph

    def __call__(self, items: torch.Tensor) -> None:
        """Do it for a batch, (n_items,) as of ``pack``."""
        if self.items.device.type != "cuda":
            self.function(items)
            return
        if self.graph is None:
            self.graph = self._capture()
        self.items.copy_(items)
        self.graph.replay()


def pack(tables: Tables, items: Sequence[int], sizes: dict[str, int], n_items: int) -> torch.Tensor:
    """Return the batches of a list of items in its order, (n_batches, n_items); the number of no item fills them.

    Parameters
    ----------
    tables : of the items
    sizes, n_items : what a batch holds at most, see ``Tables.batch``

    Raises
    ------
    StudyError
        If an item alone is larger than a batch.
    """
    room = [size - (name == "structures") for name, size in sizes.items()]
    counts = list(zip(*(tables.counts[name].tolist() for name in sizes), strict=True))
    batches: list[list[int]] = [[]]
    left = list(room)
    for item in items:
        needed = counts[item]
        if any(number > most for number, most in zip(needed, room, strict=True)):
            raise StudyError(
                f"a supercell of {needed[0]} atoms and {needed[1]} pairs is larger than a batch",
                where="train_together", fix="raise training.batch_environments",
            )  # fmt: skip
        if len(batches[-1]) == n_items or any(number > rest for number, rest in zip(needed, left, strict=True)):
            batches.append([])
            left = list(room)
        batches[-1].append(item)
        left = [rest - number for number, rest in zip(needed, left, strict=True)]
    filled = [batch + [len(counts)] * (n_items - len(batch)) for batch in batches]
    return torch.tensor(filled, device=tables.device)


def batch_sizes(tables: Tables, batch_environments: int) -> tuple[dict[str, int], int]:
    """Return what a batch holds at most (see ``Tables.batch``) and the number of its items."""
    counts = tables.counts
    atoms = max(batch_environments, int(counts["atoms"].max()))
    per_atom = counts["pairs"].sum() / counts["atoms"].sum()
    pairs = max(int(1.1 * per_atom * atoms), int(counts["pairs"].max()))
    n_items = max(8, atoms // 8)
    return {"atoms": atoms, "pairs": pairs, "structures": 2 * n_items + 1 + int(counts["structures"].max())}, n_items


def train_together(
    models: Sequence[EquivariantPotential],
    tables: Tables,
    training_items: Sequence[int],
    held_out_items: Sequence[int],
    training: dict,
    *,
    seed: int,
    checkpoint: Path | None = None,
) -> pandas.DataFrame:
    """Train models of one make together; their weights become those of the best epoch.

    Parameters
    ----------
    models : on the CPU, calibrated
    tables : of all items
    training_items, held_out_items : their numbers; the latter judge the epochs
    training : the config section
    seed : of the order of the data
    checkpoint : file, written every ten epochs; an existing one is continued

    Returns
    -------
    pandas.DataFrame, one row per member and epoch (``phonoscreen.forcefield.training.HISTORY``)

    Raises
    ------
    StudyError
        If a loss is not finite, or an item is larger than a batch.
    """
    run = _Run(models, tables, training, training["epochs"])
    run.restore(checkpoint)
    held_out = pack(tables, held_out_items, run.sizes, run.n_items) if len(held_out_items) else None
    for epoch in range(run.epoch, run.epochs):
        begin = time.monotonic()
        generator = torch.Generator().manual_seed(derive_seed(seed, "train_together", "epoch", epoch))
        order = torch.randperm(len(training_items), generator=generator).tolist()
        batches = pack(tables, [training_items[place] for place in order], run.sizes, run.n_items)
        sums = run.steps(batches)
        trained = time.monotonic() - begin
        judged = run.judge(held_out)
        run.finish_epoch(epoch, sums, judged, training_items, held_out_items, trained, time.monotonic() - begin)
        if checkpoint is not None and ((epoch + 1) % EPOCHS_PER_CHECKPOINT == 0 or epoch + 1 == run.epochs):
            run.keep(checkpoint)
        if run.waited() >= training["patience_epochs"]:
            break
    for place, model in enumerate(models):
        model.load_state_dict(
            {name.removeprefix("model."): value[place].cpu() for name, value in run.stack.best.items()}, strict=False
        )
    return pandas.DataFrame(run.history, columns=HISTORY)


class _Run:
    """What a training of several models holds between its steps."""

    def __init__(self, models, tables, training, epochs):
        self.tables, self.training, self.epochs = tables, training, epochs
        device = tables.device
        self.stack = Stack(models, device)
        self.sizes, self.n_items = batch_sizes(tables, training["batch_environments"])
        self.rate, self.forgetting = (torch.zeros((), device=device) for _ in range(2))
        self.optimiser = torch.optim.AdamW(
            self.stack.weights.values(), lr=self.rate, weight_decay=training["weight_decay"],
            capturable=device.type == "cuda",
        )  # fmt: skip
        self.sums = torch.zeros(2, self.stack.count, dtype=torch.float64, device=device)
        self.step = Replayed(self._step, self.n_items, tables)
        self.error = Replayed(self._error, self.n_items, tables)
        self.history, self.lowest = [], torch.full((self.stack.count,), math.inf, device=device)
        self.epoch = self.n_steps = 0

    def _step(self, items):
        weights = self.stack.weights
        losses, squares = self.stack.losses(weights, self.tables.batch(items, self.sizes))
        n_items = (items < len(self.tables.counts["atoms"])).sum().clamp(min=1)
        gradients = torch.autograd.grad(losses.sum() / n_items, list(weights.values()))
        norms = torch.stack([(gradient**2).flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0).sqrt()
        factors = (GRADIENT_NORM_MAX / (norms + 1e-6)).clamp(max=1)
        for weight, gradient in zip(weights.values(), gradients, strict=True):
            weight.grad = gradient * factors.reshape(-1, *(1,) * (gradient.dim() - 1))
        self.optimiser.step()
        with torch.no_grad():
            for name, averaged in self.stack.averaged.items():
                averaged.lerp_(weights[name], self.forgetting)
            self.sums += torch.stack([losses, squares])

    @torch.no_grad()
    def _error(self, items):
        self.sums += torch.stack(self.stack.losses(self.stack.averaged, self.tables.batch(items, self.sizes)))

    def steps(self, batches):
        """Take every step of an epoch; return sums of loss and squared error, (2, n_models)."""
        self.sums.zero_()
        for place, items in enumerate(batches):
            progress = (self.epoch + place / len(batches)) / self.epochs
            rising = min(1.0, (self.n_steps + 1) / max(1, self.training["warmup_steps"]))
            self.rate.fill_(self.training["learning_rate"] * rising * 0.5 * (1 + math.cos(math.pi * progress)))
            self.n_steps += 1
            decay = min(self.training["ema_decay"], (1 + self.n_steps) / (10 + self.n_steps))
            self.forgetting.fill_(1 - decay)
            self.step(items)
        return self.sums.cpu().numpy()

    def judge(self, batches):
        """Return the same sums of the averaged weights on held-out items, without their stresses."""
        if batches is None:
            return None
        self.sums.zero_()
        for items in batches:
            self.error(items)
        return self.sums.cpu().numpy()

    def finish_epoch(self, epoch, sums, judged, training_items, held_out_items, trained, seconds):
        """Append the rows of an epoch and keep the weights of the models that were never better."""
        n_atoms = self.tables.counts["atoms"]
        of_split = {"training": (sums, training_items), "held_out": (judged, held_out_items)}
        for member in range(self.stack.count):
            row = dict.fromkeys(HISTORY, numpy.nan) | {
                "round": 0, "member": member, "epoch": epoch, "seconds": seconds,
                "environments_per_second": n_atoms[training_items].sum() * self.stack.count / trained,
            }  # fmt: skip
            for split, (found, items) in of_split.items():
                if found is not None:
                    row[f"{split}_rmse_relative"] = (found[0, member] / len(items)) ** 0.5
                    row[f"{split}_rmse_mev_per_angstrom"] = 1e3 * (found[1, member] / n_atoms[items].sum()) ** 0.5
            self.history.append(row)
        if not numpy.isfinite(sums).all():
            raise StudyError("the loss is not finite", where="train_together", fix="lower training.learning_rate")
        judged_by = torch.as_tensor((sums if judged is None else judged)[0], device=self.lowest.device)
        better = judged_by.to(self.lowest.dtype) < self.lowest
        self.lowest = torch.where(better, judged_by.to(self.lowest.dtype), self.lowest)
        self.stack.keep_best(better)
        self.epoch = epoch + 1
        rows = pandas.DataFrame(self.history[-self.stack.count :])
        log.info(
            "epoch %d/%d training %.1f meV/A (%.3f) held out %.1f meV/A (%.3f) %.2f s", epoch + 1, self.epochs,
            *rows[[f"{split}_rmse_{unit}" for split in of_split for unit in ("mev_per_angstrom", "relative")]].mean(),
            seconds,
        )  # fmt: skip

    def waited(self):
        """Epochs since some member was better than ever."""
        table = pandas.DataFrame(self.history)
        judged = table["held_out_rmse_relative"].fillna(table["training_rmse_relative"])
        best = table.loc[judged.groupby(table["member"]).idxmin(), "epoch"].max()
        return int(table["epoch"].max() - best)

    def keep(self, path):
        """Write all that changes."""
        write_sealed(path, {
            "weights": self.stack.weights, "averaged": self.stack.averaged, "best": self.stack.best,
            "optimiser": self.optimiser.state_dict(), "history": self.history, "lowest": self.lowest,
            "n_steps": self.n_steps,
        })  # fmt: skip

    def restore(self, path):
        """Go on from what was kept, if anything was."""
        kept = read_checkpoint(path)
        if kept is None:
            return
        with torch.no_grad():
            for name in ("weights", "averaged", "best"):
                for key, value in getattr(self.stack, name).items():
                    value.copy_(kept[name][key])
        self.optimiser.load_state_dict(kept["optimiser"])
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.history, self.lowest = kept["history"], kept["lowest"].to(self.lowest.device)
        self.n_steps, self.epoch = kept["n_steps"], self.history[-1]["epoch"] + 1
