"""Outcomes of many structures in few files, while a shard is worked on: a parallel file system counts its files."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.sealed import read_sealed, write_sealed

log = logging.getLogger("phonoscreen")


class Packs:
    """The packs in a folder; each is a file of records and one of arrays, and of two packs the later one counts.

    Parameters
    ----------
    folder : that exists
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._last = folder, -1
        self._entries: dict[str, tuple[dict[str, Any], Path]] = {}
        for path in sorted(folder.glob("pack.*.json")):
            self._last = int(path.suffixes[0][1:])
            document, arrays = read_sealed(path), path.with_suffix(".h5")
            if document is None or not arrays.exists() or file_sha256(arrays) != document["arrays_sha256"]:
                log.warning("%s: what an interrupted run left is damaged, its structures are computed again", path)
                continue
            self._entries |= {name: (entry, arrays) for name, entry in document["entries"].items()}

    def find(self, structure_id: str) -> dict[str, Any] | None:
        """Return what was kept of a structure, None if no pack has it."""
        return self._entries[structure_id][0] if structure_id in self._entries else None

    def copy(self, structure_id: str, store: h5py.File) -> None:
        """Copy the arrays of a structure to a file, if a pack has any."""
        if structure_id in self._entries:
            with h5py.File(self._entries[structure_id][1]) as pack:
                if structure_id in pack:
                    pack.copy(structure_id, store)

    def add(self, entries: Mapping[str, dict[str, Any]], arrays: Mapping[str, Path]) -> None:
        """Write one more pack.

        Parameters
        ----------
        entries : what is kept of each structure
        arrays : file of its arrays, for those that have one
        """
        path = self._folder / f"pack.{self._last + 1:06d}.h5"
        with written_whole(path) as partial, h5py.File(partial, "w") as store:
            for structure_id, source in arrays.items():
                with h5py.File(source) as single:
                    single.copy(structure_id, store)
        write_sealed({"entries": dict(entries), "arrays_sha256": file_sha256(path)}, path.with_suffix(".json"))
        self._last += 1
        self._entries |= {name: (entry, path) for name, entry in entries.items()}

    def clear(self) -> None:
        """Remove all packs."""
        self._entries = {}
        for path in self._folder.glob("pack.*"):
            path.unlink()
