"""What Slurm says about the jobs of this study: those that wait or run, and how the others ended.

Slurm itself remembers the jobs of a study, not a file of the launcher: each one carries its rule, its wildcards and a
digest of its settings and inputs as its comment, and the folder of the study as its working directory. Whatever
happens to a launcher, the next one finds them.
"""

import getpass
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WAITING = ("PENDING", "CONFIGURING", "RESV_DEL_HOLD", "REQUEUE_FED", "REQUEUE_HOLD", "REQUEUED", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT", "PREEMPTED")
ENDING = ("COMPLETING",)
ALIVE = WAITING + RUNNING + ENDING
"""States in which a job may still write."""
_MEMORY = re.compile(r"exceeded (?:job |step )?memory limit|oom[-_ ]kill|out[- ]of[- ]memory", re.I)
_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class QueuedJob:
    """A job of this study in Slurm's queue.

    Attributes
    ----------
    number : of the job in Slurm
    state : one of ``ALIVE``
    comment : rule, wildcards and digest, as ``identity_of`` writes them
    """

    number: str
    state: str
    comment: str


def ask(*command: str, seconds: float = 60.0) -> str | None:
    """Return what a command of Slurm prints, None if it fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def queued_jobs(folder: str | os.PathLike = ".") -> list[QueuedJob] | None:
    """Return the jobs of the study in a folder that wait or run, None if Slurm does not answer."""
    answer = ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%Z|%k")
    if answer is None:
        return None
    rows = [line.split("|", 3) for line in answer.splitlines() if line.count("|") >= 3]
    here = os.path.realpath(folder)
    return [QueuedJob(i, state, comment) for i, state, place, comment in rows if os.path.realpath(place) == here]


def is_alive(number: str) -> bool:
    """Return whether a job may still write; True as well when Slurm does not answer."""
    answer = ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T")
    if answer is None:
        return True
    return any(line.partition("|")[0] == number for line in answer.splitlines())


def states_of(numbers: Iterable[str]) -> dict[str, str] | None:
    """Return the states of jobs by number, of those that Slurm knows; None if it does not answer.

    ``CANCELLED by 1000`` of the accounts reads ``CANCELLED`` here. What still waits or runs is asked of the controller
    too, because an entry of the accounts may be late.
    """
    wanted = ",".join(sorted(numbers))
    accounts = ask("sacct", "-X", "--noheader", "--parsable2", "--format=JobIDRaw,State", f"--jobs={wanted}")
    queue = ask("squeue", "--noheader", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T")
    if accounts is None and queue is None:
        return None
    found: dict[str, str] = {}
    for line in [*(accounts or "").splitlines(), *(queue or "").splitlines()]:
        number, _, state = line.partition("|")
        if state and number in wanted.split(","):
            found[number] = state.split()[0].rstrip("+")
    return found


def why_ended(number: str, state: str, log: Path | None = None) -> str:
    """Return in words why a job ended and what it had been given.

    Parameters
    ----------
    number : of the job
    state : as ``states_of`` gives it
    log : what the job printed; a site without cgroups says there alone that memory was exceeded
    """
    asked, used, limit, lasted, code, nodes, by = _account(number)
    text = log.read_text(errors="replace")[-20_000:] if log and log.exists() else ""
    if state == "OUT_OF_MEMORY" or (state in ("FAILED", "CANCELLED") and _MEMORY.search(text)):
        return f"out of memory: {asked} were asked for{f', {used} were used' if used else ''}{nodes}"
    if state == "TIMEOUT":
        return f"out of time: {limit} were asked for{nodes}"
    if state == "CANCELLED":
        return f"cancelled{by} after {lasted}{nodes}"
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return f"the node failed after {lasted}{nodes}"
    return f"{state.lower()}, exit code {code}, after {lasted}{nodes}"


def _account(number):
    """Return the words of the accounts about one job; "?" where there are none."""
    keys = "JobID,State,ExitCode,ReqMem,MaxRSS,Timelimit,Elapsed,NodeList"
    rows = [line.split("|") for line in (ask("sacct", "--noheader", "--parsable2", f"--format={keys}",
                                             f"--jobs={number}") or "").splitlines()]  # fmt: skip
    if not rows or len(rows[0]) != 8:
        return "?", "", "?", "?", "?", "", ""
    _, state, code, asked, _, limit, lasted, nodes = rows[0]
    used = max((_megabytes(row[4]) for row in rows), default=0)
    user = re.match(r"CANCELLED by (\d+)", state)
    by = f" by user {user.group(1)}" if user else ""
    words = f"{_megabytes(asked):.0f} MB", f"{used:.0f} MB" if used else "", limit, lasted, code
    return *words, f" on {nodes}" if nodes and "None" not in nodes else "", by


def _megabytes(text):
    match = re.match(r"([\d.]+)([KMGT])", text)
    return float(match.group(1)) * _UNITS[match.group(2)] if match else 0.0
