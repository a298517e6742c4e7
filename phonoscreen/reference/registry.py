"""The engine of reference forces that the settings choose: the module of this package with the name of the engine.

``phonoscreen/reference/<engine>.py`` has a function ``make(settings, threads, folder)`` that returns the engine; it is
imported only when it is chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.work import WORK

INPUTS = WORK / "inputs"
"""Inputs of calculations that are run elsewhere, a folder each below that of their structure."""

CHARGES = "_charges"
"""End of the name of the module that calculates Born charges with an engine."""

if TYPE_CHECKING:
    from phonoscreen.audit.job import Job
    from phonoscreen.reference.base import Engine


def engines() -> list[str]:
    """Return the names of the engines there are: the modules of this package that have a function ``make``."""
    made = (path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef make(" in path.read_text())
    return sorted(name for name in made if not name.endswith(CHARGES))


def engine_of(job: Job, settings: Mapping[str, Any] | None = None, folder: str = "calculations") -> Engine:
    """Return the engine of a job, with the threads, MPI processes and folders that the job gives it.

    The finished calculations of all jobs of a study are in one folder, so that a job finds those of every other.

    Parameters
    ----------
    job : ``phonoscreen.audit.job.Job`` with ``params.reference, params.outputs, params.how`` and ``resources.tasks``
    settings : instead of ``params.reference``
    folder : name below the work folder of the job
    """
    how, where = job.params.how, job.work / folder
    if how["mode"] != "run":
        where = INPUTS / folder
    given = {
        "tasks": job.resources.tasks, "folder": job.params.outputs, "mode": how["mode"], "again": job.asked,
        "store": WORK / "calculations", "writer": f"{job.rule},{job.work.name}",
        "others": [how["calculations"]] if how["calculations"] else [],
    }  # fmt: skip
    return make_engine({**(settings or job.params.reference), **given}, job.threads, where)


def waiting_inputs(settings: Mapping[str, Any]) -> tuple[Path, list[str], str]:
    """Return where the inputs of calculations wait, the words that run one in its folder, and the name of its log.

    Parameters
    ----------
    settings : of a DFT code
    """
    code = _module(settings).code_of_settings(settings)
    return INPUTS / "calculations", list(code.command_elsewhere), code.log


def make_engine(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> Engine:
    """Return the engine of the settings, as ``phonoscreen.reference.base`` describes it.

    Parameters
    ----------
    settings : ``engine, model`` and what the engine needs besides, see ``phonoscreen.workflow.inputs.engine_settings``
    threads : threads the engine may use
    folder : where DFT codes run; each calculation gets its own folder there

    Raises
    ------
    StudyError
        If the engine is unknown or its package or executable is missing.
    """
    kind = settings["engine"]
    if kind not in engines():
        raise StudyError(
            f"unknown reference engine {kind!r}", where="reference/engine", fix=f"use one of {', '.join(engines())}"
        )
    return _module(settings).make(settings, threads, folder)


def _module(settings):
    ending = CHARGES if settings.get("charges") else ""
    return importlib.import_module(f"phonoscreen.reference.{settings['engine']}{ending}")
