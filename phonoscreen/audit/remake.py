"""The command that makes a product again: snakemake with the settings of the call that made it."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

VARIABLE = "PHONOSCREEN_CALL"  # the call of the running study, handed down to its jobs
# Options that decide settings, folders and when Snakemake reruns a job; targets and everything else are left out.
_ONE = (
    ["--profile"], ["--workflow-profile"], ["--snakefile", "-s"], ["--directory", "-d"], ["--executor", "-e"],
    ["--max-checksum-file-size"], ["--conda-prefix"],
)  # fmt: skip
_MANY = (["--configfile", "--configfiles"], ["--config", "-C"], ["--rerun-triggers"])
_MANY_OR_NONE = (["--software-deployment-method", "--deployment-method", "--deployment", "--sdm"],)
_COUNTS = (["--cores", "-c"], ["--jobs", "-j"])


def call_options(arguments: Iterable[str]) -> str:
    """Return the options of a snakemake call that decide what its jobs make, as one line for a shell.

    Parameters
    ----------
    arguments : command line without the program
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for names in _ONE:
        parser.add_argument(*names)
    for names in _MANY:
        parser.add_argument(*names, nargs="+")
    for names in _MANY_OR_NONE:
        parser.add_argument(*names, nargs="*")
    for names in _COUNTS:
        parser.add_argument(*names, nargs="?", const="all")
    found, _ = parser.parse_known_args(list(arguments))
    words = []
    for name, value in vars(found).items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return shlex.join(words)


def announce_call(arguments: Sequence[str] | None = None) -> None:
    """Keep the options of this snakemake call for the messages and records of its jobs."""
    os.environ[VARIABLE] = f"{_program()}\n{call_options(sys.argv[1:] if arguments is None else arguments)}"


def current_options() -> str:
    """Return the options of the call of the running study, empty outside of one."""
    return os.environ.get(VARIABLE, "\n").partition("\n")[2]


def remake_command(options: str | None = None) -> str:
    """Return the beginning of the command that makes files again; their paths follow it.

    Parameters
    ----------
    options : of the call that made the files; those of the running study come first
    """
    program, _, current = os.environ.get(VARIABLE, "\n").partition("\n")
    options = current if program else options
    return " ".join(word for word in (program or _program(), options, "--force", "--") if word)


def forcerun_command(rule: str) -> str:
    """Return the command that computes the outdated products of a rule again, as the running study was called."""
    program, _, options = os.environ.get(VARIABLE, "\n").partition("\n")
    return " ".join(word for word in (program or _program(), options, "--forcerun", rule) if word)


def unlock_command() -> str:
    """Return the command that removes the lock of the study, as the running study was called."""
    program, _, options = os.environ.get(VARIABLE, "\n").partition("\n")
    return " ".join(word for word in (program or _program(), options, "--unlock") if word)


def _program() -> str:
    """Return how snakemake was called, or how this Python's snakemake is called from another program."""
    called = Path(sys.argv[0])
    if called.name == "snakemake":
        return "snakemake" if shutil.which("snakemake") == str(called) else shlex.quote(str(called))
    beside = Path(sys.executable).parent / "snakemake"
    if not beside.exists() or shutil.which("snakemake") == str(beside):
        return "snakemake"
    return shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))
