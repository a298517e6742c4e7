"""Outcomes of single structures, kept while a shard is worked on, and beyond it where they were expensive."""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.kept import KeptShard, Settings
from phonoscreen.audit.packs import Packs
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.retry import Request
from phonoscreen.audit.sealed import read_sealed, write_sealed

log = logging.getLogger("phonoscreen")

PACKED_AT = 50
"""So many single outcomes become one pack: a shard of 2,000 structures never has more than 180 files."""


def pieces_of(job: Any, own_inputs: Callable[[str], Any] | None) -> "Pieces":
    """Return the outcomes that a job over a shard has kept, see ``phonoscreen.audit.shard.run_shard``."""
    return Pieces(job, f"outcomes.{job.key}") if own_inputs is None else KeptPieces(job, own_inputs)


class Pieces:
    """Outcomes of single structures in the work folder of a job, each in two files with a digest, or many in a pack.

    Parameters
    ----------
    job : the running job
    folder : name of a folder inside the work folder of the job
    """

    def __init__(self, job: Any, folder: str):
        self._job = job
        self._folder = Path(job.work) / folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._request = Request(job.work)
        self._packs = Packs(self._folder)
        self._single: dict[str, dict] = {}

    def find(self, structure_id: str, is_blocked: bool) -> dict | None:
        """Return the record of a structure that is finished, None if there is none or it is damaged."""
        entry = self._read(structure_id)
        if entry is None and self._request.key == self._job.key and not is_blocked:
            record = self._request.record(structure_id)
            if record is not None:
                self._arrays(structure_id).unlink(missing_ok=True)
                self._request.copy_arrays(structure_id, self._arrays(structure_id))
                self._write(structure_id, {"record": record, "seconds": 0.0, **self._conditions(record)})
                return record
        return entry and entry["record"]

    def keep(self, structure_id: str, record: dict, outcome: Any, seconds: float) -> None:
        """Write the outcome of a structure, an ``Outcome`` of ``phonoscreen.audit.shard``."""
        arrays = self._arrays(structure_id)
        arrays.unlink(missing_ok=True)
        if outcome.arrays or outcome.attrs:
            with written_whole(arrays) as partial, h5py.File(partial, "w") as store:
                group = store.create_group(structure_id)
                for name, array in outcome.arrays.items():
                    array = numpy.asarray(array)
                    options = {"compression": "gzip", "shuffle": True} if array.size > 1000 else {}
                    group.create_dataset(name, data=array, **options)
                group.attrs.update(outcome.attrs)
        self._write(structure_id, {"record": record, "seconds": round(seconds, 3), **self._conditions(record)})

    def merge(self, structure_ids: Sequence[str], path: str) -> None:
        """Write the arrays of all structures to the file of the shard."""
        with written_whole(path) as partial, h5py.File(partial, "w") as store:
            for structure_id in structure_ids:
                source = self._arrays(structure_id)
                if not self._entry(structure_id).exists():
                    self._packs.copy(structure_id, store)
                elif source.exists():
                    with h5py.File(source) as piece:
                        piece.copy(structure_id, store)

    def finish(self, structure_ids: Sequence[str]) -> None:
        """Remove the single files, also those of earlier settings: the shard is complete."""
        for stale in Path(self._job.work).glob("outcomes*"):
            shutil.rmtree(stale)
        self._request.remove()
        with suppress(OSError):  # not empty
            Path(self._job.work).rmdir()

    def forget(self, structure_ids: Iterable[str]) -> None:
        """Remove the outcomes of structures, all of the job: the next try computes them again."""
        self._packs.clear()
        self._remove(structure_ids)

    def _remove(self, structure_ids):
        for structure_id in structure_ids:
            self._entry(structure_id).unlink(missing_ok=True)
            self._arrays(structure_id).unlink(missing_ok=True)
            self._single.pop(structure_id, None)

    def _conditions(self, record: dict) -> dict:
        """Return what else is written with a record: under which conditions it may be used again."""
        return {}

    def _stem(self, structure_id: str) -> Path:
        return self._folder / hashlib.sha256(structure_id.encode()).hexdigest()[:24]

    def _entry(self, structure_id: str) -> Path:
        return self._stem(structure_id).with_suffix(".json")

    def _arrays(self, structure_id: str) -> Path:
        return self._stem(structure_id).with_suffix(".h5")

    def _write(self, structure_id: str, entry: dict) -> None:
        entry = {**entry, "arrays_sha256": _sha256(self._arrays(structure_id))}
        write_sealed(entry, self._entry(structure_id))
        self._note(structure_id, entry)

    def _note(self, structure_id, entry):
        """Count a single outcome; pack them when there are many."""
        self._single[structure_id] = entry
        if len(self._single) >= PACKED_AT:
            arrays = {name: path for name in self._single if (path := self._arrays(name)).exists()}
            self._packs.add(self._single, arrays)
            self._remove(list(self._single))

    def _read(self, structure_id: str) -> dict | None:
        """Return what was written for a structure, None if there is nothing or it is damaged."""
        if not self._entry(structure_id).exists():
            return self._packs.find(structure_id)
        entry, arrays = read_sealed(self._entry(structure_id)), _sha256(self._arrays(structure_id))
        if entry and entry["record"]["structure_id"] == structure_id and entry["arrays_sha256"] == arrays:
            self._note(structure_id, entry)
            return entry
        log.warning("%s: what an interrupted run left is damaged, computed again", structure_id)
        return None


class KeptPieces(Pieces):
    """Outcomes of the expensive rules, which stay, packed, when the shard is complete.

    The name of their folder does not change with settings and code. Each outcome holds a digest of the structure's own
    inputs and one of the settings instead.

    Parameters
    ----------
    job : the running job
    own_inputs : function of a structure id that returns a digest of what its outcome depends on besides settings and
        code
    """

    def __init__(self, job: Any, own_inputs: Callable[[str], Any]):
        super().__init__(job, "outcomes")
        self._own_inputs = own_inputs
        self._settings = Settings(job)
        self._kept = KeptShard(job.work)
        self._taken: list[str] = []

    def find(self, structure_id: str, is_blocked: bool) -> dict | None:
        """Return the record of a structure that is finished, here or in an earlier run, None if there is none."""
        own = None if is_blocked else self._digest(structure_id)
        entry = self._read(structure_id)
        if entry is not None and self._may_be_used(entry, own):
            return entry["record"]
        entry = self._kept.entries.get(structure_id)
        if entry is None or not self._may_be_used(entry, own):
            return None
        self._arrays(structure_id).unlink(missing_ok=True)
        self._kept.copy(structure_id, self._arrays(structure_id))
        self._write(structure_id, entry)
        self._taken.append(structure_id)
        return entry["record"]

    def finish(self, structure_ids: Sequence[str]) -> None:
        """Pack what was computed, then remove the single files."""
        entries = {name: entry for name in structure_ids if (entry := self._read(name)) is not None}
        computed = {name: entry for name, entry in entries.items() if entry["own"] is not None}
        self._kept.replace(computed, self._job.output.arrays)
        self._job.made_with = self._made_with(computed.values())
        if self._taken:
            log.info("%d of %d structures were computed before and taken along", len(self._taken), len(entries))
        super().finish(structure_ids)

    def _conditions(self, record: dict) -> dict:
        own = None if record["status"] == "skipped" else self._digest(record["structure_id"])
        return {"own": own, "settings": self._settings.key}

    def _may_be_used(self, entry: dict, own: Any) -> bool:
        if own is None or entry["own"] != own:
            return False
        if entry["record"]["status"] == "failed" and not self._request.spares(entry["record"]):
            return False
        return entry["settings"] == self._settings.key or not self._job.asked

    def _digest(self, structure_id: str) -> Any:
        try:
            return self._own_inputs(structure_id)
        except Exception as error:  # the stage itself says what is wrong with its inputs
            log.info("%s: its inputs cannot be compared: %s", structure_id, error)
            return None

    def _made_with(self, entries: Iterable[dict]) -> list[dict]:
        """Return the settings with which the structures of the shard were computed, the most frequent first."""
        found: dict[str, dict] = {}
        for entry in entries:
            group = found.setdefault(entry["settings"], {"structures": 0, "seconds": 0.0})
            group["structures"] += 1
            group["seconds"] = round(group["seconds"] + entry["seconds"], 3)
        groups = sorted(found.items(), key=lambda item: (-item[1]["structures"], item[0]))
        return [{"settings": self._settings[key], **group} for key, group in groups]


def _sha256(path: Path) -> str | None:
    return file_sha256(path) if path.exists() else None
