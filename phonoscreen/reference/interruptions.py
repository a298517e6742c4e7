"""A calculation that takes longer than a job has time, and goes on in the next one.

Where a program is ended for lack of time, that is noted in the folder of its calculation. From then on the program is
asked to stop before the time is over and keeps its state, wave functions and density, from which the next job goes on.
Ordinary calculations keep none: that of half a million calculations would be terabytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from phonoscreen.audit.atomic import written_whole

_NOTE = "out_of_time.json"


@dataclass(frozen=True)
class Interruption:
    """What is known of a calculation that ran out of time.

    Parameters
    ----------
    remedy : failure that its inputs avoid, ``""`` for none
    seconds : spent on it so far
    sha256 : of what is calculated
    """

    remedy: str
    seconds: float
    sha256: str


def digest_of(identity: Mapping[str, Any], atoms: Atoms) -> str:
    """Return the sha256 of settings and crystal: a state is of use for the same calculation alone."""
    text = json.dumps([dict(identity), atoms.numbers.tolist(), atoms.cell.tolist(), atoms.positions.tolist()],
                      sort_keys=True)  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()


def note(folder: Path, interruption: Interruption) -> None:
    """Note in the folder of a calculation that it ran out of time."""
    with written_whole(folder / _NOTE) as path:
        path.write_text(json.dumps(asdict(interruption)))


def noted(folder: Path, sha256: str) -> Interruption | None:
    """Return what was noted of the same calculation; None if it never ran out of time."""
    path = folder / _NOTE
    if not path.exists():
        return None
    found = Interruption(**json.loads(path.read_text()))
    return found if found.sha256 == sha256 else None
