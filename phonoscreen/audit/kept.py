"""Expensive products are used again until somebody asks for new ones by the name of their rule.

Labels, relaxed structures, members and the published model cost nearly all of a study. Snakemake deletes the outputs of
a job before it starts, and it starts a job whenever one above it in the plan has run, so that an edit far from a label
could delete it. What the rules in ``phonoscreen.audit.protected`` have computed is therefore kept a second time, in the
folder of ``phonoscreen.audit.work``: structure by structure for the rules that run over shards, as a whole for the
others. A job takes along what was computed from the same inputs, with whatever settings and code, and computes what
is new. It computes again what other settings or other code have made only if its rule (or its output) stands after
``--forcerun``, or with ``--forceall``. ``phonoscreen.audit.outdated`` lists what was made otherwise than it would be
made now.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import machine_named
from phonoscreen.audit.protected import UNWATCHED, WHOLE
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.sealed import read_sealed, write_sealed


def settings_of(job: Any) -> dict | None:
    """Return the settings and the code that make the product of a protected job, None for another job."""
    names = UNWATCHED.get(job.rule)
    if names is None:
        return None
    found = {name: job.params[name] for name in names if name in job.params.keys()}
    return json.loads(json.dumps(found, default=str))


def digest(*things: Any) -> str:
    """Return a short digest of things that JSON can write."""
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digest_of_arrays(*arrays: Any) -> str:
    """Return a short digest of the content of arrays (or of numbers and texts)."""
    found = hashlib.sha256()
    for array in map(numpy.asarray, arrays):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(numpy.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


class Settings:
    """The settings with which a job has ever computed, by their digest, in the folder of the job."""

    def __init__(self, job: Any) -> None:
        self._folder, self.current = job.work, settings_of(job) or {}
        self.key = digest(self.current)
        write_sealed(self.current, self._path(self.key))

    def _path(self, key: str) -> Path:
        return self._folder / f"settings.{key}.json"

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.current if key == self.key else read_sealed(self._path(key)) or {}


class KeptShard:
    """What a job over a shard has computed for single structures, whether or not the shard still holds them.

    Parameters
    ----------
    folder : of the job, see ``phonoscreen.audit.work``
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        document = read_sealed(self._folder / "kept.json") or {}
        self._arrays = self._folder / str(document.get("arrays", "none"))
        sound = self._arrays.exists() and file_sha256(self._arrays) == document["sha256"]
        self.entries = document["entries"] if sound else {}

    def copy(self, structure_id: str, path: str | Path) -> None:
        """Write the arrays of a structure to a file of its own, if it has any."""
        with h5py.File(self._arrays) as store:
            if structure_id in store:
                with h5py.File(path, "w") as piece:
                    store.copy(structure_id, piece)

    def replace(self, entries: dict[str, Any], arrays: str | Path) -> None:
        """Keep the outcomes of a finished shard, and those of structures that it does not hold now.

        Parameters
        ----------
        entries : by structure id, as ``phonoscreen.audit.shard`` writes them
        arrays : HDF5 file of the shard
        """
        others = {name: entry for name, entry in self.entries.items() if name not in entries}
        whole = self._folder / "kept.h5"
        with written_whole(whole) as partial:
            shutil.copyfile(arrays, partial)
            with h5py.File(partial, "a") as store:
                for name in others:
                    with h5py.File(self._arrays) as old:
                        if name in old:
                            old.copy(name, store)
        sha256 = file_sha256(whole)
        place = whole.rename(self._folder / f"kept.{sha256[:16]}.h5")
        self.entries = {**others, **entries}
        write_sealed({"entries": self.entries, "arrays": place.name, "sha256": sha256}, self._folder / "kept.json")
        for old in self._folder.glob("kept.*.h5"):
            if old != place:
                old.unlink()


def restore_whole(job: Any) -> bool:
    """Bring back what a job has made from the same inputs; False if there is nothing to be used.

    ``job.made_with`` then says with which settings it was made.
    """
    if job.rule not in WHOLE:
        return False
    document = read_sealed(job.work / "kept.json")
    if document is None or document["inputs"] != _contents(job):
        return False
    if job.asked and document["settings"] != settings_of(job):
        return False
    pairs = [(job.work / name, str(path)) for name, path in zip(document["names"], job.output, strict=False)]
    sound = len(pairs) == len(list(job.output)) and all(kept.exists() for kept, _ in pairs)
    if not sound or [file_sha256(kept) for kept, _ in pairs] != document["sha256"]:
        return False
    with machine_named(f"rule {job.rule}"):
        for kept, path in pairs:
            shutil.copyfile(kept, path)
    job.made_with = [{"settings": document["settings"], "structures": None, "seconds": document["seconds"]}]
    return True


def keep_whole(job: Any, seconds: float) -> None:
    """Keep the outputs of a job that does not go structure by structure."""
    if job.rule in WHOLE:
        names = [f"kept.{number}{Path(str(path)).suffix}" for number, path in enumerate(job.output)]
        job.work.mkdir(parents=True, exist_ok=True)
        for name, path in zip(names, job.output):
            shutil.copyfile(str(path), job.work / name)
        document = {"inputs": _contents(job), "settings": settings_of(job), "seconds": round(seconds, 3)}
        document |= {"names": names, "sha256": [file_sha256(job.work / name) for name in names]}
        write_sealed(document, job.work / "kept.json")


def _contents(job: Any) -> list[str]:
    """Return the content of the inputs of a job, whatever their names."""
    return list(job.inputs.values())
