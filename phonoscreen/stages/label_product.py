"""The kept form of labels by a universal potential: one small file, readable without the potential.

``python -m phonoscreen.stages.label_product CHUNKS FILE`` packs the chunks of ``phonoscreen.stages.label_library``
(``phonoscreen.structures.packed_labels``).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import h5py

from phonoscreen.audit.errors import StudyError
from phonoscreen.stages.label_library import class_and_composition, excluded_classes
from phonoscreen.structures.packed_labels import arrays_of, plain, quantise, read_product, write_product

__all__ = ["quantise", "read_chunks", "read_product", "write_product"]


def read_chunks(folder: str | Path) -> Iterator[tuple[dict, dict, dict]]:
    """Yield (record, arrays, origin) of every compound in the chunks of a folder, in the order of the work.

    Raises
    ------
    StudyError
        If the folder holds no chunk, or chunks were made with different engines, settings or seeds.
    """
    paths, origins = sorted(Path(folder).glob("labels-*.h5")), set()
    if not paths:
        raise StudyError("no chunks labels-*.h5", where=str(folder), fix="run phonoscreen.stages.label_library first")
    for path in paths:
        with h5py.File(path) as store:
            origins.add(origin := json.dumps(_origin(store), sort_keys=True))
            if len(origins) > 1:
                raise StudyError(
                    "another origin than the chunks before", where=str(path), fix="keep them in two folders"
                )
            for record in json.loads(store.attrs["records"]):
                group = store[record["structure_id"]]
                yield record, arrays_of(group), json.loads(origin)


def _origin(store):
    keys = ("engine", "weights_sha256", "seed", "pool_sha256", "settings", "code", "packages")
    return {key: plain(store.attrs[key]) for key in keys}


def main() -> None:
    """Pack the chunks of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("chunks", help="folder of labels-*.h5")
    parser.add_argument("file", help="packed file to write")
    parser.add_argument(
        "--exclude", nargs="*", default=[], help="CSV files of compounds that judge: formula, prototype"
    )
    arguments = parser.parse_args()
    excluded = excluded_classes(arguments.exclude)
    kept = (one for one in read_chunks(arguments.chunks) if class_and_composition(one[0]) not in excluded)
    write_product(kept, arguments.file)
    _, labelled = read_product(arguments.file)
    print(f"{len(labelled)} compounds, {Path(arguments.file).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
