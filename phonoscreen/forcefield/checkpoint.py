"""Where a training stands after an epoch, and the file it goes on from after a kill."""

import hashlib
import io
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch

from phonoscreen.audit.atomic import written_whole

if TYPE_CHECKING:
    from phonoscreen.forcefield.models.base import ForceModel

log = logging.getLogger("phonoscreen")


@dataclass
class TrainingState:
    """All that changes in a training.

    Parameters
    ----------
    model : ``ForceModel`` that is trained
    averaged : its copy with the moving average of the weights, which is judged and returned
    optimiser : with the moments of the gradients
    history : one dict per epoch (``phonoscreen.forcefield.training.HISTORY``)
    best : lowest judged error so far
    best_weights : averaged weights of that epoch
    step : steps done
    """

    model: "ForceModel"
    averaged: "ForceModel"
    optimiser: torch.optim.Optimizer
    history: list[dict] = field(default_factory=list)
    best: float = numpy.inf
    best_weights: dict | None = None
    step: int = 0

    def finish_epoch(self, row: dict) -> None:
        """Append the row of an epoch to the history, and keep the averaged weights if they are the best so far."""
        self.history.append(row)
        if judged(row) < self.best:
            self.best = judged(row)
            self.best_weights = {
                name: value.detach().cpu().clone() for name, value in self.averaged.state_dict().items()
            }

    def epochs_since_best(self) -> int:
        """Return how many epochs have passed since the best one."""
        if not self.history:
            return 0
        return len(self.history) - 1 - int(numpy.argmin([judged(row) for row in self.history]))

    def restore(self, content: dict) -> None:
        """Take over what ``read_checkpoint`` returned."""
        for name in ("model", "averaged", "optimiser"):
            getattr(self, name).load_state_dict(content[name])
        for name in ("history", "best", "best_weights", "step"):
            setattr(self, name, content[name])


def judged(row: dict) -> float:
    """Return the relative error by which an epoch is judged: on held-out structures, or in training without them."""
    held_out = row["held_out_rmse_relative"]
    return row["training_rmse_relative"] if numpy.isnan(held_out) else held_out


def read_checkpoint(path: str | os.PathLike | None) -> dict | None:
    """Return what a checkpoint holds, None if there is none or it is damaged."""
    if path is None or not Path(path).exists():
        return None
    content = Path(path).read_bytes()
    sha256, state = content[:64], content[64:]
    if hashlib.sha256(state).hexdigest().encode() != sha256:
        log.warning("the checkpoint %s is damaged: the training begins anew", path)
        return None
    return torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")


def write_sealed(path: str | os.PathLike, content: dict) -> None:
    """Write what ``read_checkpoint`` reads: tensors and numbers, their sha256 before them."""
    stream = io.BytesIO()
    torch.save(content, stream)
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    with written_whole(path) as partial:
        partial.write_bytes(sha256.encode() + stream.getvalue())


def write_checkpoint(path: str | os.PathLike | None, state: TrainingState) -> None:
    """Write a checkpoint, its sha256 before it; nothing happens without a path."""
    if path is None:
        return
    content = {
        "model": state.model.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
        "best": float(state.best),
        "best_weights": state.best_weights,
        "step": state.step,
    }
    write_sealed(path, content)
