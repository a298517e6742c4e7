"""What a target is, how one is registered, and the model crystal that many of them share."""

import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutations import mutate_text

TARGETS = {}
REPETITIONS = (2, 2, 2)


@dataclass(frozen=True, eq=False)
class Target:
    """Something that reads files.

    Parameters
    ----------
    name : of the target
    seeds : function without arguments that returns sound files, a dict of bytes by name
    call : function of the folder that holds them; returns what was accepted
    mutate : function of (bytes, random) that changes a file
    mutations : the same for single files; None for those that stay as they are
    """

    name: str
    seeds: Callable
    call: Callable
    mutate: Callable = mutate_text
    mutations: dict = field(default_factory=dict)


def target(seeds, **options):
    """Register a function of a folder as a target; ``seeds`` is called once with an empty folder to fill."""

    def register(call):
        name = call.__name__
        TARGETS[name] = Target(name, functools.cache(lambda: _filled(seeds)), call, **options)
        return call

    return register


def _filled(seeds):
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        seeds(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}
    finally:
        shutil.rmtree(folder)


@functools.cache
def rocksalt():
    """Crystal, second-order and third-order force constants of a model."""
    from tests import transport_models

    return transport_models.rocksalt(repetitions=REPETITIONS)
