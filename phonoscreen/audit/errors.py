"""Errors that name the object, the stage and the remedy: those of the input, and those of the machine.

What is wrong with a structure becomes its record. What is wrong with the machine (a full disk, no memory, a program
that is not there) says nothing about a structure: it stops the job, which is then tried again.

Every failed record says what is to blame, one of ``FAILURES``, so that those can be repeated which something else than
another structure would mend (``phonoscreen retry``).
"""

import errno
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAILURES = {
    "structure": "the crystal or its data: other settings and another try give the same",
    "settings": "a setting of the study: the reason names it",
    "engine": "the program that computes: it ended with an error, did not converge, or met what nobody foresaw",
    "machine": "a disk, a network, memory or an installation",
}
"""What a failed record can be to blame on, in words."""
ACCEPTED = "PHONOSCREEN_ACCEPTED"  # stages in which a shard may fail as a whole, handed down to the jobs of a study


def announce_accepted(stages: Iterable[str]) -> None:
    """Keep for the jobs of this study in which stages a shard may fail as a whole."""
    os.environ[ACCEPTED] = json.dumps(list(stages))


def is_accepted(stage: str) -> bool:
    """Return whether a shard of a stage may fail as a whole in the running study."""
    return stage in json.loads(os.environ.get(ACCEPTED, "[]"))


class _NamedError(Exception):
    """What is wrong, where, and what to do about it."""

    blame: str | None = None
    status = "failed"
    """Status of the record of a structure that it stops; ``"skipped"`` where the structure only waits for something."""

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, blame: str | None = None
    ) -> None:
        self.what, self.where, self.fix = what, where, fix
        if blame:
            self.blame = blame
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))


class StudyError(_NamedError, ValueError):
    """A problem of the input that a user can act on.

    Parameters
    ----------
    what : what is wrong, with the numbers that show it
    where : the object and the stage, for example ``"oqmd-4061139, stage fit_force_constants"``
    fix : what the user can do about it
    blame : one of ``FAILURES`` where it is not the structure
    """


class MachineError(_NamedError, RuntimeError):
    """A problem of the machine or its installation, never of a structure; parameters as for ``StudyError``."""

    blame = "machine"


class OutOfTimeError(MachineError):
    """A program that did not end before the time of its job is over; parameters as for ``StudyError``."""


@contextmanager
def engine_blamed() -> Iterator[None]:
    """Blame the engine for every problem met inside that does not say what else is to blame."""
    try:
        yield
    except StudyError as error:
        error.blame = error.blame or "engine"
        raise


def culprit(error: BaseException) -> str:
    """Return what is to blame for an error that makes a structure fail, one of ``FAILURES``."""
    if machine_trouble(error):
        return "machine"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _NamedError):
            return cause.blame or "structure"
        if isinstance(cause, OSError):
            return "machine"
        cause = cause.__cause__
    return "engine"


_FULL = "free space on this disk"
_OF_ERRNO = {
    errno.ENOSPC: ("the disk is full", _FULL),
    errno.EDQUOT: ("the disk quota is used up", _FULL),
    errno.EROFS: ("the file system is read-only", "write to another disk"),
    errno.EIO: ("the disk or its network failed", "check the disk, then run the same command again"),
    errno.ESTALE: ("the network file system lost a file", "run the same command again"),
    errno.EACCES: ("permission denied", "give this user the right to read and write there"),
    errno.EPERM: ("permission denied", "give this user the right to read and write there"),
    errno.ENOMEM: ("no memory left", "run fewer jobs at a time, or give the job more memory"),
    errno.EAGAIN: ("no more processes or threads", "run fewer jobs at a time, or raise the limits (ulimit -u)"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many open files", "raise the limit of the system"),
}

_MEMORY = ("no memory left", "run fewer jobs at a time, or give the job more memory")
_LIBRARY = ("a library or program is missing", "install the environment of this stage (envs/), or run with --sdm conda")
_OF_TEXT = (
    (r"No space left on device|errno = 28\b", ("the disk is full", _FULL)),
    (r"Disk quota exceeded", ("the disk quota is used up", _FULL)),
    (r"Read-only file system", ("the file system is read-only", "write to another disk")),
    (r"Input/output error|errno = 5\b", _OF_ERRNO[errno.EIO]),
    (r"out of memory|can't allocate memory|not enough memory|Cannot allocate memory|RESOURCE_EXHAUSTED", _MEMORY),
    (r"Unable to allocate|bad_alloc", _MEMORY),
    (r"CUDA error|CUDA driver|cuDNN error|CUBLAS_STATUS|NCCL error|no kernel image|HIP error|Found no NVIDIA driver",
     ("the graphics card or its driver failed", "check nvidia-smi, or set the device to cpu")),
    (r"error while loading shared libraries|cannot open shared object file|undefined symbol|version `\S+' not found",
     _LIBRARY),
    (r"command not found", _LIBRARY),
    (r"licen[sc]e\b[^\n]{0,60}\b(?:error|fail|expired|denied|not found|unavailable|could not|invalid)|"
     r"(?:no|invalid|expired|missing) (?:valid )?licen[sc]e", ("the program has no licence here", "renew its licence")),
)  # fmt: skip


@contextmanager
def machine_named(where: str) -> Iterator[None]:
    """Turn every error that the machine is to blame for into a ``MachineError``; all others pass.

    Parameters
    ----------
    where : the object and the stage
    """
    try:
        yield
    except Exception as error:
        trouble = machine_trouble(error)
        if trouble is None:
            raise
        raise MachineError(
            trouble[0], where=where, fix=f"{trouble[1]}; then run the same command again: what is finished is kept"
        ) from error


def machine_trouble(error: BaseException | None) -> tuple[str, str | None] | None:
    """What is wrong with the machine if that, and not a structure, caused an error.

    The causes of the error are looked through as well: readers wrap what they meet.

    Parameters
    ----------
    error : exception

    Returns
    -------
    (what, fix), or None
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found = _trouble(error)
        if found:
            return found
        error = error.__cause__ or error.__context__
    return None


def _trouble(error: BaseException) -> tuple[str, str | None] | None:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MachineError):
        return error.what + (f" ({error.where})" if error.where else ""), error.fix
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"{_MEMORY[0]} ({text})", _MEMORY[1]
    if isinstance(error, ImportError):
        return f"{_LIBRARY[0]} ({text})", _LIBRARY[1]
    if isinstance(error, BrokenProcessPool):
        return f"a process of this job was killed ({text})", _MEMORY[1]
    if isinstance(error, subprocess.CalledProcessError):
        return exit_trouble(error.returncode, str(error.stderr or error.output or ""))
    if isinstance(error, OSError) and error.errno in _OF_ERRNO:
        what, fix = _OF_ERRNO[error.errno]
        return f"{what} ({text})", fix
    if isinstance(error, FileNotFoundError) and _from_subprocess(error):
        return f"{_LIBRARY[0]} ({text})", _LIBRARY[1]
    if isinstance(error, (OSError, RuntimeError)):
        return _of_text(text)
    return None


def _from_subprocess(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "subprocess"


def _of_text(text: str) -> tuple[str, str] | None:
    for pattern, (what, fix) in _OF_TEXT:
        found = re.search(pattern, text, re.I)
        if found:
            line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n")[0].strip()
            return f"{what} ({line[:300]})", fix
    return None


_ENDED = "find out who ended it: a person, a limit of the batch system, or the end of its job"
_OF_SIGNAL = {
    2: ("SIGINT", _ENDED),
    7: ("SIGBUS", _MEMORY[1]),
    9: ("SIGKILL, most often for lack of memory", _MEMORY[1]),
    15: ("SIGTERM", _ENDED),
    24: ("SIGXCPU, its time was used up", "raise the limit of processor time (ulimit -t)"),
    25: ("SIGXFSZ, its file was too large", "raise the limit of a file's size (ulimit -f), or write to another disk"),
}


def exit_trouble(code: int, log: str = "") -> tuple[str, str] | None:
    """What is wrong with the machine if that made a program end as it did.

    Parameters
    ----------
    code : its exit code as ``subprocess`` gives it: minus the number of a signal, or 128 plus it from a shell
    log : its output, or the end of it

    Returns
    -------
    (what, fix), or None where the calculation itself may be to blame
    """
    if code == 0:
        return None
    if code in (126, 127):
        return f"the program cannot be started (exit code {code})", "check its path, its modules and the command"
    number = -code if code < 0 else code - 128
    if number in _OF_SIGNAL:
        name, fix = _OF_SIGNAL[number]
        return f"the program was killed by {name} (exit code {code})", fix
    return _of_text(log[-20_000:])


def run_program(
    command: Sequence[str],
    folder: str | Path,
    log: str | Path,
    timeout_s: float | None = None,
    stop: Callable[[], Any] | None = None,
) -> int:
    """Run a program in a folder, its output in a log file.

    Parameters
    ----------
    command : list of words
    folder : where it runs
    log : path of the log file
    timeout_s : seconds after which the program is ended; None: none
    stop : asks the program to end by itself; called when a tenth of the seconds, at most a quarter of an hour, is left

    Returns
    -------
    exit code, 0 or one for which the machine is not to blame

    Raises
    ------
    OutOfTimeError
        If it does not end in time.
    MachineError
        If it cannot be started, is killed, or its log shows that the machine failed.
    """
    try:
        with open(log, "w") as stream, subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream) as process:
            code = _wait(process, timeout_s, stop)
    except subprocess.TimeoutExpired as error:
        raise OutOfTimeError(
            f"{command[0]} did not end before the time of this job is over", where=str(folder),
            fix="give the job more time, or the program more processes",
        ) from error  # fmt: skip
    except OSError as error:
        raise MachineError(
            f"{command[0]} cannot be started: {error.strerror or error}", where=str(folder),
            fix="check the command in the settings and that the program is installed",
        ) from error  # fmt: skip
    with open(log, errors="replace") as stream:
        trouble = exit_trouble(code, stream.read())
    if trouble:
        raise MachineError(f"{command[0]}: {trouble[0]}", where=str(folder), fix=f"{trouble[1]}; see {log}")
    return code


def _wait(process, timeout_s, stop):
    """Return the exit code of a process, which is killed if it does not end in time or this one is interrupted."""
    try:
        if stop is not None and timeout_s is not None:
            last_s = min(0.1 * timeout_s, 900.0)
            try:
                return process.wait(timeout_s - last_s)
            except subprocess.TimeoutExpired:
                stop()
                return process.wait(last_s)
        return process.wait(timeout_s)
    except BaseException:
        process.kill()
        raise
