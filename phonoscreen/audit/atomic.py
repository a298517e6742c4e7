"""Files that appear under their names only when they are complete."""

import os
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
