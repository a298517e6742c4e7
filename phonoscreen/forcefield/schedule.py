"""What changes in the course of a training: the learning rate, the average of the weights, the order of the data."""

import math
from collections.abc import Iterator, Sequence

import torch

from phonoscreen.forcefield.dataset import Dataset


def set_learning_rate(
    optimiser: torch.optim.Optimizer, highest: float, warmup_steps: int, step: int, progress: float
) -> None:
    """Set the learning rate of a step: it rises linearly over the first steps and falls as a cosine to zero.

    Parameters
    ----------
    optimiser : its parameter groups are changed
    highest : learning rate at the top
    warmup_steps : steps until the top is reached
    step : steps done before this one
    progress : part of the whole training that is done, 0 to 1
    """
    rate = highest * min(1.0, (step + 1) / max(1, warmup_steps))
    for group in optimiser.param_groups:
        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def average_weights(averaged: torch.nn.Module, model: torch.nn.Module, ema_decay: float, step: int) -> None:
    """Move an exponential moving average of the weights towards the weights after a step.

    Early steps decay faster, ``(1 + step) / (10 + step)``, so that the average forgets the first weights.

    Parameters
    ----------
    averaged : model that holds the average; changed
    model : model that is trained
    ema_decay : decay per step
    step : steps done, this one included
    """
    decay = min(ema_decay, (1 + step) / (10 + step))
    for mean, value in zip(averaged.parameters(), model.parameters()):
        mean.lerp_(value, 1 - decay)


def draw_batches(
    supercells: Sequence[tuple[str, int]], dataset: Dataset, generator: torch.Generator, n_environments: int
) -> Iterator[list[tuple[str, int]]]:
    """Yield lists of supercells in an order drawn anew, each of about ``n_environments`` atoms."""
    batch, size = [], 0
    for place in torch.randperm(len(supercells), generator=generator).tolist():
        batch.append(supercells[place])
        size += dataset.n_atoms(supercells[place])
        if size >= n_environments:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
