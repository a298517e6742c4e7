"""CHGNet as reference: Deng et al., Nat. Mach. Intell. 5, 1031 (2023). It imitates PBE.

It is not DFT, and every product says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phonoscreen.reference.base import CalculatorEngine, missing_package

if TYPE_CHECKING:
    from pathlib import Path


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> CalculatorEngine:
    """Return the engine.

    Parameters
    ----------
    settings : ``model``, the version of the weights, for example ``"0.3.0"``
    threads : threads PyTorch may use
    folder : not used

    Raises
    ------
    MachineError
        If the package is not installed.
    """
    try:
        import torch
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator
    except ImportError as error:
        raise missing_package("chgnet", error) from error
    torch.set_num_threads(max(1, int(threads)))
    model = settings["model"]
    network = CHGNet.load(model_name=model, verbose=False)
    calculator = CHGNetCalculator(network, use_device="cpu", on_isolated_atoms="error")
    return CalculatorEngine("chgnet", f"chgnet-{model} (CHGNet universal potential)", calculator, set(range(1, 95)))
