"""Where the structures of several shards' HDF5 files are."""

import os
from collections.abc import Iterable, Iterator, Mapping

import h5py


class ShardFiles(Mapping[str, str]):
    """Path of the file that holds a structure, by structure id; groups are read when they are asked for.

    Parameters
    ----------
    paths : HDF5 files of one stage, a group per structure id
    """

    def __init__(self, paths: Iterable[str | os.PathLike]) -> None:
        self._paths: dict[str, str] = {}
        self._open: dict[str, h5py.File] = {}
        for path in paths:
            with h5py.File(path) as store:
                self._paths.update(dict.fromkeys(store, str(path)))

    def __getitem__(self, structure_id: str) -> str:
        """Return the path of the file that holds a structure."""
        return self._paths[structure_id]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the structure ids in the order of the files."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self._paths)

    def in_order(self, structure_ids: Iterable[str]) -> list[str]:
        """Return those of the ids that are in the files, shard by shard."""
        shards = {path: number for number, path in enumerate(dict.fromkeys(self._paths.values()))}
        return sorted((name for name in structure_ids if name in self), key=lambda name: shards[self._paths[name]])

    def group(self, structure_id: str) -> h5py.Group:
        """Return the HDF5 group of a structure; its file stays open until ``close``."""
        path = self._paths[structure_id]
        if path not in self._open:
            self._open[path] = h5py.File(path)
        return self._open[path][structure_id]

    def close(self) -> None:
        """Close the files that were opened for groups."""
        for store in self._open.values():
            store.close()
        self._open.clear()

    def __enter__(self) -> "ShardFiles":
        """Return itself, to be closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self.close()
