"""The engine that relaxes the crystals of a study: one of the reference forces, or a published force model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from phonoscreen.reference.registry import engine_of

if TYPE_CHECKING:
    from phonoscreen.audit.job import Job
    from phonoscreen.structures.relaxation import RelaxingEngine

PUBLISHED = "phonoscreen.forcefield.engine"
"""Found by name: a rule that relaxes with it has its packages, and names its file among its code; others have not."""


def relaxing_engine(job: Job, settings: dict[str, Any], folder: str = "calculations") -> RelaxingEngine:
    """Return the engine of the relaxations of a job.

    Parameters
    ----------
    job : as for ``phonoscreen.reference.registry.engine_of``
    settings : of ``phonoscreen.workflow.inputs.relaxing_settings``
    folder : name below the work folder of the job
    """
    if settings["engine"] == "published":
        return importlib.import_module(PUBLISHED).make(settings)
    return engine_of(job, settings, folder)
