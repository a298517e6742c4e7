"""One job at a time works on the outputs of a rule and its wildcards, whatever launchers have submitted.

A job claims its work before Snakemake deletes or writes anything. A claim is a small file that names the Slurm job;
a link makes it, so that one of several jobs gets it on any file system. It ends with the job. A job that was killed
leaves its claim behind: it has expired as soon as Slurm no longer holds that job among those that wait or run.
"""

import argparse
import atexit
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from phonoscreen.audit.names import file_name
from phonoscreen.workflow.slurm.queue import is_alive

FOLDER = Path(".snakemake/phonoscreen_claims")


def claim_work(arguments: Sequence[str] | None = None) -> None:
    """Claim the work of this process, if it is a Slurm job of the study; wait while another job does the same work.

    Parameters
    ----------
    arguments : of the job's snakemake call, which name rules and wildcards; None takes those of this process
    """
    number = os.environ.get("SLURM_JOB_ID")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--target-jobs", nargs="+", default=[])
    found, _ = parser.parse_known_args(sys.argv[1:] if arguments is None else list(arguments))
    if number:
        for target in sorted(found.target_jobs):
            claim(target.replace(":", ",").rstrip(","), number)


def claim(work: str, number: str, *, alive: Callable[[str], bool] = is_alive, pause_s: float = 10.0) -> Path:
    """Claim some work for a Slurm job until this process ends; wait as long as a living job holds the claim.

    Parameters
    ----------
    work : rule and wildcards
    number : of this Slurm job
    alive : function of a number that says whether that Slurm job may still write
    pause_s : between two looks

    Returns
    -------
    path of the claim
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / file_name(work)
    own = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    said = None
    while not _made(path, own, number):
        holder = _holder(path)
        if holder == number:  # the same job, started again by Slurm
            break
        if holder is not None and not alive(holder):
            _take_away(path, holder, own)
        elif holder is not None:
            if said != holder:
                print(f"waiting for Slurm job {holder}, which works on {work}", file=sys.stderr, flush=True)
                said = holder
            time.sleep(pause_s)
    atexit.register(release, path, number, os.getpid())
    return path


def release(path: Path, number: str, process: int) -> None:
    """Remove a claim of this Slurm job; a process forked from the one that claimed leaves it alone."""
    if os.getpid() == process and _holder(path) == number:
        path.unlink(missing_ok=True)


def held(folder: Path = FOLDER) -> Iterable[tuple[str, str]]:
    """Yield work and Slurm job of every claim."""
    for path in sorted(folder.glob("*")):
        holder = _holder(path)
        if holder:
            yield path.name, holder


def _made(path, own, number):
    """Make a claim complete in one step. A job that is killed while it waits leaves no file of its own behind."""
    own.write_text(number)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    finally:
        own.unlink()
    return True


def _holder(path):
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def _take_away(path, holder, own):
    """Remove the claim of a dead job: moved aside, so that one made in the meantime is put back."""
    aside = own.with_name(f"{own.name}.old")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _holder(aside) != holder:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()
