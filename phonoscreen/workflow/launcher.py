"""The process that runs a study: who it is while the folder is locked, and what ended while there was none."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import FOLDER as PROVENANCE
from phonoscreen.audit.remake import remake_command
from phonoscreen.audit.work import name_of

FILE = Path(".snakemake/phonoscreen_launcher.json")
LOCKS = Path(".snakemake/locks")


def write_launcher() -> None:
    """Note which process runs the study; called when it holds the lock."""
    document = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with written_whole(FILE) as partial:
        partial.write_text(json.dumps(document))


def explain_lock(unlock: str) -> str:
    """Return who locks the folder of the study and what to do about it, empty if it is not locked.

    Parameters
    ----------
    unlock : command that removes the lock
    """
    if not LOCKS.is_dir() or not any(LOCKS.iterdir()):
        return ""
    try:
        document = json.loads(FILE.read_text())
        host, process, since = document["host"], int(document["process"]), document["since"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"This study is locked by a launcher that has left no name.\n  if none runs: {unlock}\n"
    who = f"process {process} on {host}, started {since}"
    if host != socket.gethostname():
        return f"This study is locked by {who}: look there whether it still runs.\n  if not: {unlock}\n"
    if _runs(process):
        return f"This study is locked by {who}, which still runs: one launcher at a time.\n"
    return (
        f"This study is locked by {who}, which has ended without removing its lock.\n  unlock: {unlock}\n"
        "  then give the same command again: jobs that wait or run are found again, finished work is kept.\n"
    )


def note_finished(workflow: Any) -> None:
    """Record the jobs that have ended while no launcher ran, so that Snakemake sees later changes of their settings.

    A job alone leaves no settings with Snakemake, only its provenance. Where that holds the settings of today, they
    are noted; where it does not, the product is refused.

    Parameters
    ----------
    workflow : Snakemake's workflow, before its first job

    Raises
    ------
    StudyError
        Naming the products that were made with other settings, and the command that makes them again.
    """
    planned = set(workflow.dag.needrun_jobs())
    other: list[str] = []
    for job in workflow.dag.jobs:
        if job in planned or not list(job.output) or workflow.persistence.has_metadata(job):
            continue
        made = _settings(job)
        if made is None:
            continue
        unwatched = [key for key, value in job.rule.params._allitems() if hasattr(value, "unwatched")]
        now = json.loads(json.dumps(dict(job.params), default=str))
        if all(made.get(key) == value for key, value in now.items() if key not in unwatched):
            workflow.async_run(workflow.persistence.finished(job))
        else:
            other += map(str, job.output)
    if other:
        raise StudyError(
            f"{len(other)} file(s) were made with other settings while no launcher ran:\n  " + "\n  ".join(other[:20]),
            where="before the first job: nothing was started and nothing deleted",
            fix=f"make them again, then go on:\n         {remake_command()} {' '.join(other)}",
        )


def _settings(job):
    """Return the settings in the provenance of a job, None if it has left none."""
    path = PROVENANCE / job.rule.name / f"{name_of(dict(job.wildcards_dict))}.json"
    try:
        return json.loads(path.read_text())["settings"]
    except (OSError, ValueError, KeyError):
        return None


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
