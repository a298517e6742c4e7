"""Any calculator of ASE by its name: Larsen et al., J. Phys. Condens. Matter 29, 273002 (2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.reference.named import engine_of_name


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> CalculatorEngine:
    """Return the engine.

    Parameters
    ----------
    settings : ``model`` (``module:Class``) and ``arguments`` of the class
    threads : not used
    folder : not used

    Raises
    ------
    StudyError
        If there is no such class, or it does not take the arguments.
    MachineError
        If its package is not installed.
    """
    if ":" not in settings["model"]:
        raise StudyError(f"{settings['model']!r} is no module:Class", where="reference.ase.model",
                         fix="give it, for example, as ase.calculators.emt:EMT")  # fmt: skip
    engine: Any = engine_of_name(settings["model"], dict(settings["arguments"]), threads)
    return engine
