"""Calls of other programs' readers, whose errors become the project's."""

import contextlib
import warnings
from collections.abc import Iterator

from phonoscreen.audit.errors import StudyError


@contextlib.contextmanager
def foreign(what: str, fix: str, where: str | None = None) -> Iterator[None]:
    """Run code of another program on a file somebody else wrote: whatever it stumbles over is a ``StudyError``.

    Readers of other programs raise anything at a damaged file, compiled ones a ``PanicException`` that is no
    ``Exception``. Lack of memory stays what it is: it says nothing about the file.

    Parameters
    ----------
    what : what could not be done, before the reason
    fix : what the user can do about it
    where : the object, as for ``StudyError``
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (StudyError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            reason = f"{type(error).__name__}: {str(error)[:300]}" if str(error) else type(error).__name__
            raise StudyError(f"{what}: {reason}", where=where, fix=fix) from error
        raise
