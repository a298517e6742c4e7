"""The environment variables that every job of the study gets."""

import os

from phonoscreen.audit.atomic import leave_files_unlocked

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def prepare_jobs(root: str | os.PathLike) -> None:
    """Let the jobs import this repository's library, and start no threads beyond those that their rules ask for.

    The library of the repository comes first, also where the environment of a rule holds an installed one. Jobs share
    the cores; whoever has set a number of threads keeps it. Files are written in UTF-8 whatever the locale is.

    Parameters
    ----------
    root : the repository
    """
    paths = [os.fspath(root), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    for variable in THREADS:
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("PYTHONUTF8", "1")
    leave_files_unlocked()
