"""The division of a study into parts and shards is kept, so that added structures move no others.

A structure that moves to another shard is computed again there, and one that moves into the training part changes
every network. The file in the work folder of ``filter_structures`` serves as long as the seed and the settings that
decide the parts are the same; whoever removes it has the study divided anew.
"""

from pathlib import Path
from typing import Any

import pandas

from phonoscreen.audit.kept import digest
from phonoscreen.audit.sealed import read_sealed, write_sealed
from phonoscreen.structures.filters import Division

FILE = "division.json"


def read_division(job: Any) -> Division | None:
    """Return how the study of a job was divided before, None if it was not or with other sizes of the parts."""
    document = read_sealed(Path(job.work) / FILE)
    if document is None or document["decided_by"] != _decided_by(job):
        return None
    return Division({name: (part, shard) for name, (part, shard) in document["of"].items()}, tuple(document["shards"]))


def keep_division(job: Any, manifest: pandas.DataFrame) -> None:
    """Keep how a study is divided."""
    of = {row.structure_id: [row.part, row.shard] for row in manifest.itertuples()}
    document = {"of": of, "shards": list(job.params.shards), "decided_by": _decided_by(job)}
    write_sealed(document, Path(job.work) / FILE)


def _decided_by(job: Any) -> str:
    names = ("training_structures", "validation_structures")
    return digest(job.params.seed, {name: job.params.filter.get(name) for name in names})
