"""SevenNet as reference: Park, Kim, Hwang and Han, J. Chem. Theory Comput. 20, 4857 (2024). It imitates PBE.

It is not DFT, and every product says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.base import CalculatorEngine, missing_package

# Folder of the weights inside the sevenn package; models not listed would be downloaded.
SEVENNET_SHIPPED = {
    "7net-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
}


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> CalculatorEngine:
    """Return the engine.

    Parameters
    ----------
    settings : ``model``, the name of the weights, for example ``"7net-l3i5"``
    threads : threads PyTorch may use
    folder : not used

    Raises
    ------
    StudyError
        If the package does not ship the model.
    MachineError
        If the package is not installed.
    """
    model = settings["model"]
    if model not in SEVENNET_SHIPPED:
        raise StudyError(
            f"model {model!r} does not ship with sevenn", where="config reference.sevennet.model",
            fix=f"use one of {', '.join(SEVENNET_SHIPPED)}",
        )  # fmt: skip
    try:
        import sevenn
        import torch
        from sevenn.calculator import SevenNetCalculator
    except ImportError as error:
        raise missing_package("sevenn", error) from error
    torch.set_num_threads(max(1, int(threads)))
    weights = Path(sevenn.__file__).parent / "pretrained_potentials" / SEVENNET_SHIPPED[model]
    calculator = SevenNetCalculator(str(weights), device="auto")
    return CalculatorEngine("sevennet", f"{model} (SevenNet universal potential)", calculator, set(calculator.type_map))
