"""``phonoscreen progress``: how far every stage of a study is, and tables of what is there so far.

Only files of finished shards are read, so that the command can run at any time beside the study and changes nothing.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records, read_table

STAGES = (
    "relaxed", "bases", "supercells", "labels", "checked_labels", "predicted",
    *(f"{stage}/{source}" for stage in ("force_constants", "stability", "transport")
      for source in ("reference", "predicted")),
    "bonding",
)  # fmt: skip
"""Folders of the stages that go shard by shard, in the order of the flow."""
MARK = "so_far"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a parser of the command line."""
    parser = subparsers.add_parser("progress", help=__doc__, description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the study's results")
    parser.add_argument("--tables", type=Path, metavar="FOLDER", help="write the records that are there to this folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the progress, write tables if asked; 0 if every shard of every stage is there, else 1."""
    shards = shards_of(arguments.results)
    found = {stage: records_so_far(arguments.results, stage, shards) for stage in STAGES}
    table = progress(found, shards)
    complete = bool((table["shards"] == len(shards)).all())
    mark = "complete" if complete else "SO FAR, NOT COMPLETE"
    print(f"{mark}: {sum(shards.values())} structures in {len(shards)} shards")
    print(table.to_string(index=False))
    if arguments.tables:
        for path in write_tables(found, shards, arguments.tables):
            print(path, file=sys.stderr)
    return 0 if complete else 1


def shards_of(results: Path) -> dict[str, int]:
    """Return the number of structures of each shard, from the manifest.

    Raises
    ------
    StudyError
        If there is no manifest yet.
    """
    path = results / "structures/manifest.parquet"
    if not path.is_file():
        raise StudyError(
            f"{path} does not exist", fix="name the results of a study with --results, or wait for its first jobs"
        )
    counts = read_table(path)["shard"].astype(str).value_counts().sort_index()
    return {str(shard): int(n) for shard, n in counts.items()}


def records_so_far(results: Path, stage: str, shards: dict[str, int]) -> dict[str, pandas.DataFrame]:
    """Return the records of the finished shards of one stage, by shard."""
    paths = {shard: results / stage / f"{shard}.parquet" for shard in shards}
    return {shard: read_records([path]) for shard, path in paths.items() if path.is_file()}


def progress(found: dict[str, dict[str, pandas.DataFrame]], shards: dict[str, int]) -> pandas.DataFrame:
    """Return shards that are there and structures by status, for each stage.

    Returns
    -------
    DataFrame with ``stage, shards, of_shards, structures``, a column for each status that occurs, and ``waiting``, the
    structures of the shards that are not there; the statuses and ``waiting`` sum to the manifest
    """
    rows: list[dict[str, Any]] = []
    for stage, tables in found.items():
        row: dict[str, Any] = {"stage": stage, "shards": len(tables), "of_shards": len(shards)}
        for table in tables.values():
            for status, n in table["status"].value_counts().items():
                row[str(status)] = row.get(str(status), 0) + int(n)
        rows.append({**row, "waiting": sum(n for shard, n in shards.items() if shard not in tables)})
    table = pandas.DataFrame(rows).fillna(0)
    numbers = table.columns.drop("stage")
    table[numbers] = table[numbers].astype(int)
    return table[[*table.columns.drop("waiting"), "waiting"]]


def write_tables(found: dict[str, dict[str, pandas.DataFrame]], shards: dict[str, int], folder: Path) -> list[Path]:
    """Write the records of each stage as CSV; name and first column say that they are what is there so far."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for stage, tables in found.items():
        path = folder / f"{stage.replace('/', '_')}.{MARK}.csv"
        path.unlink(missing_ok=True)
        if tables:
            parts = [table.assign(shard=shard) for shard, table in tables.items()]
            together = pandas.concat(parts, ignore_index=True)
            together.insert(0, MARK, f"{len(tables)} of {len(shards)} shards")
            with written_whole(path) as partial:
                together.to_csv(partial, index=False)
            written.append(path)
    return written
