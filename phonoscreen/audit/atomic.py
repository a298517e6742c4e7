"""Files that appear under their names only when they are complete."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike, *, shared: bool = False) -> Iterator[Path]:
    """Name to write a file under, which takes its place at ``path`` when the block ends without an error.

    After an error nothing is left, and a file that was there before stays as it was.

    Parameters
    ----------
    path : the file
    shared : whether several processes may write the same file at once; each then writes under a name of its own

    Yields
    ------
    Path of the partial file, in the same folder
    """
    partial = Path(f"{path}.partial-{os.getpid()}" if shared else f"{path}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def written_together(folder: str | os.PathLike) -> Iterator[Path]:
    """Folder to write into, whose files take their places in ``folder`` when the block ends without an error.

    Parameters
    ----------
    folder : made if it does not exist; files of it that are not written again stay

    Yields
    ------
    Path of an empty folder on the same disk
    """
    folder = Path(folder)
    there = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    staging = Path(tempfile.mkdtemp(prefix=".phonoscreen-", dir=there))
    try:
        yield staging
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(staging.rglob("*")):
            target = folder / path.relative_to(staging)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(path, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def leave_files_unlocked() -> None:
    """Let HDF5 take no locks on files: network file systems often refuse them, and a job could not even read.

    None is needed: a file gets its name when it is complete, and is never written again. Whoever has set the variable
    of HDF5 keeps it.
    """
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
