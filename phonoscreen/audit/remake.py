"""The command that makes a product again: snakemake with the settings of the call that made it."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VARIABLE = "PHONOSCREEN_CALL"  # the call of the running study, handed down to its jobs
# Options that decide settings, folders and when Snakemake reruns a job; targets and everything else are left out.
_ONE = (
    ["--profile"], ["--workflow-profile"], ["--snakefile", "-s"], ["--directory", "-d"], ["--executor", "-e"],
    ["--max-checksum-file-size"], ["--conda-prefix"],
)  # fmt: skip
_MANY = (["--configfile", "--configfiles"], ["--config", "-C"], ["--rerun-triggers"])
_MANY_OR_NONE = (["--software-deployment-method", "--deployment-method", "--deployment", "--sdm"],)
_COUNTS = (["--cores", "-c"], ["--jobs", "-j"])
_PATHS = ("profile", "workflow_profile", "snakefile", "directory", "configfile", "conda_prefix")


def call_options(arguments: Iterable[str], called_in: str | None = None, snakefile: str | None = None) -> str:
    """Return the options of a snakemake call that decide what its jobs make, as one line for a shell.

    A call with ``--directory`` is typed in one folder and runs in another. Its files are named by whole paths, so that
    its options serve in both.

    Parameters
    ----------
    arguments : command line without the program
    called_in : folder in which snakemake was called; None: paths stay as they were typed
    snakefile : of the study, for a call with ``--directory`` that names none
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
    options, words = vars(found), []
    if called_in is not None and found.directory is not None:
        options["snakefile"] = found.snakefile or snakefile
        options |= {name: _whole(options[name], called_in) for name in _PATHS if options[name] is not None}
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return shlex.join(words)


def _whole(value: str | list[str], folder: str) -> str | list[str]:
    """Return the whole path of a file or folder seen from another one; a name that is none of both stays."""
    if not isinstance(value, str):
        return [str(_whole(one, folder)) for one in value]
    path = os.path.join(folder, value)
    return os.path.abspath(path) if os.path.exists(path) else value


def announce_call(workflow: Any = None) -> None:
    """Keep the options of this snakemake call for the messages and records of its jobs.

    Parameters
    ----------
    workflow : Snakemake's; None: paths stay as they were typed
    """
    where = (workflow.rundir, workflow.main_snakefile) if workflow else ()
    os.environ[VARIABLE] = f"{_program()}\n{call_options(sys.argv[1:], *where)}"


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
