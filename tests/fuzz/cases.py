"""One mutated input of one target: what became of it, within limits of time and memory."""

import contextlib
import dataclasses
import functools
import numbers
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random

import ase
import numpy

from phonoscreen.audit.errors import StudyError

SECONDS = 10  # of the processor: a case is no slower because the machine has other work
BYTES = 2 * 2**30  # on top of what the process holds already
MESSAGE_MAX = 20_000  # characters


class TooSlow(BaseException):
    """A case ran past its limit; no ``except Exception`` of the code under test may catch it."""


@dataclasses.dataclass
class Outcome:
    """What became of a case: ``refused``, ``accepted``, or a failure in words with its place in the code."""

    kind: str
    detail: str = ""

    @property
    def failed(self):
        return self.kind not in ("refused", "accepted")


def run_case(target, seed):
    """Mutate a seed input of a target as ``seed`` says, hand it to the target, and return the ``Outcome``."""
    try_sound_files(target)
    random = Random(f"{target.name} {seed}")
    files = dict(target.seeds())
    name = random.choice([name for name in files if target.mutations.get(name, target.mutate)])
    files[name] = target.mutations.get(name, target.mutate)(files[name], random)
    with _written(files) as folder:
        return judge(target.call, folder)


@functools.cache
def try_sound_files(target):
    """Hand the seed inputs themselves to a target, once in a process and without limits: it imports what it needs.

    Raises
    ------
    Exception
        If they are refused: then every mutation would be, for the fault of the seed.
    """
    with _written(target.seeds()) as folder:
        assert not not_finite(target.call(folder))


@contextlib.contextmanager
def _written(files):
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def judge(call, folder):
    """Return the ``Outcome`` of one call within the limits."""
    try:
        with limits(), warnings.catch_warnings(), numpy.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            wrong = not_finite(call(folder))
    except StudyError as error:
        return (
            Outcome("refused")
            if len(str(error)) < MESSAGE_MAX
            else Outcome("message without end", f"{len(str(error))}")
        )
    except TooSlow:
        return Outcome("too slow", _place(None))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Outcome(type(error).__name__, f"{_place(error)}: {str(error)[:100]}")
    return Outcome("accepted, not finite", wrong) if wrong else Outcome("accepted")


@contextlib.contextmanager
def limits(seconds=SECONDS, n_bytes=BYTES):
    """Limit processor time and memory of a block in the main thread."""

    def late(*_):
        raise TooSlow

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + n_bytes, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def not_finite(value, place="value"):
    """Return where a result holds a number that is not finite, or an empty text."""
    if value is None or isinstance(value, (str, bytes, numbers.Integral, Path)):
        return ""
    if isinstance(value, numbers.Number):
        return "" if numpy.isfinite(complex(value)) else place
    if isinstance(value, numpy.ndarray):
        return "" if value.dtype.kind not in "fc" or numpy.isfinite(value).all() else place
    if isinstance(value, ase.Atoms):
        return not_finite({"positions": value.positions, "cell": value.cell.array}, place)
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return next(filter(None, (not_finite(item, f"{place}.{key}") for key, item in value.items())), "")
    if isinstance(value, (list, tuple)):
        return next(filter(None, (not_finite(item, f"{place}[{n}]") for n, item in enumerate(value))), "")
    return ""


def _place(error):
    """Return the last line of the project in a traceback."""
    if error is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "phonoscreen/" in frame.filename.replace("\\", "/")]
    frame = (ours or frames)[-1]
    return f"{frame.filename.rpartition('phonoscreen/')[2]} in {frame.name}"
