"""Universal potentials whose weights ship inside their packages, by the name of their weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.reference.registry import make_engine
from phonoscreen.reference.sevennet import SEVENNET_SHIPPED

if TYPE_CHECKING:
    from phonoscreen.reference.base import Engine

__all__ = ["SEVENNET_SHIPPED", "make_baseline"]


def make_baseline(model: str, threads: int) -> Engine:
    """Return the engine of a universal potential by the name of its weights alone (config ``baselines``).

    ``"chgnet"`` stands for CHGNet 0.3.0, the version the paper's Fig. S3 compares with; all others are SevenNet's.
    """
    if model == "chgnet":
        return make_engine({"engine": "chgnet", "model": "0.3.0"}, threads)
    return make_engine({"engine": "sevennet", "model": model}, threads)
