"""The kind of force model that the settings choose: the module of this package with the name of the kind.

``phonoscreen/forcefield/models/<kind>.py`` holds one ``ForceModel`` whose ``kind`` is that name; it is imported only
when it is chosen.
"""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from phonoscreen.forcefield.models.base import ForceModel

_MODEL = re.compile(r"^class \w+\(ForceModel\)", re.M)


def kinds() -> list[str]:
    """Return the names of the kinds there are: the modules of this package that define a ``ForceModel``."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if _MODEL.search(path.read_text()))


def class_of(kind: str) -> "type[ForceModel]":
    """Return the class of a kind of force model.

    Raises
    ------
    StudyError
        If the kind is unknown.
    """
    if kind not in kinds():
        raise StudyError(
            f"unknown kind of force model {kind!r}", where="force_model/kind", fix=f"use one of {', '.join(kinds())}"
        )
    module = importlib.import_module(f"phonoscreen.forcefield.models.{kind}")
    return next(found for found in vars(module).values() if getattr(found, "kind", None) == kind)


def create_model(settings: dict, seed: int) -> "ForceModel":
    """Return a new model of ``settings["kind"]`` with weights drawn from ``seed``.

    Raises
    ------
    StudyError
        If the kind is unknown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return class_of(settings["kind"])(settings)
