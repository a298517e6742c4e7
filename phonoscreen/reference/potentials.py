"""Universal potentials whose weights ship inside their packages: SevenNet and CHGNet.

SevenNet: Park, Kim, Hwang and Han, J. Chem. Theory Comput. 20, 4857 (2024). CHGNet: Deng et al., Nat. Mach. Intell. 5,
1031 (2023). Both imitate PBE; neither is DFT, and every product says so.
"""

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.reference.base import CalculatorEngine

# Folder of the weights inside the sevenn package; models not listed would be downloaded.
SEVENNET_SHIPPED = {
    "7net-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "7net-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
}


def make_potential(kind, model, threads):
    """Return the engine of a universal potential.

    Parameters
    ----------
    kind : ``"sevennet"`` or ``"chgnet"``
    model : name of the weights, for example ``"7net-l3i5"``
    threads : threads PyTorch may use

    Raises
    ------
    StudyError
        If the package does not ship the model.
    MachineError
        If the package is not installed.
    """
    import torch

    torch.set_num_threads(max(1, int(threads)))
    return _sevennet(model) if kind == "sevennet" else _chgnet(model)


def make_baseline(model, threads):
    """Return the engine of a universal potential by the name of its weights alone (config ``baselines``).

    ``"chgnet"`` stands for CHGNet 0.3.0, the version the paper's Fig. S3 compares with; all others are SevenNet's.
    """
    if model == "chgnet":
        return make_potential("chgnet", "0.3.0", threads)
    return make_potential("sevennet", model, threads)


def _sevennet(model):
    if model not in SEVENNET_SHIPPED:
        raise StudyError(
            f"model {model!r} does not ship with sevenn", where="config reference.sevennet.model",
            fix=f"use one of {', '.join(SEVENNET_SHIPPED)}",
        )  # fmt: skip
    try:
        from pathlib import Path

        import sevenn
        from sevenn.calculator import SevenNetCalculator
    except ImportError as error:
        raise _missing("sevenn", error) from error
    weights = Path(sevenn.__file__).parent / "pretrained_potentials" / SEVENNET_SHIPPED[model]
    calculator = SevenNetCalculator(str(weights), device="auto")
    return CalculatorEngine("sevennet", f"{model} (SevenNet universal potential)", calculator, set(calculator.type_map))


def _chgnet(model):
    try:
        from chgnet.model import CHGNet
        from chgnet.model.dynamics import CHGNetCalculator
    except ImportError as error:
        raise _missing("chgnet", error) from error
    network = CHGNet.load(model_name=model, verbose=False)
    calculator = CHGNetCalculator(network, use_device="cpu", on_isolated_atoms="error")
    return CalculatorEngine("chgnet", f"chgnet-{model} (CHGNet universal potential)", calculator, set(range(1, 95)))


def _missing(package, error):
    return MachineError(
        f"the package {package} cannot be imported: {error}", where="config reference.engine",
        fix="run with --sdm conda, or install envs/reference.yaml",
    )  # fmt: skip
