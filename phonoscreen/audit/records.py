"""Records: every structure leaves every stage with a status and, if not ok, a reason.

For each stage the statuses sum to the manifest, so every count of the study is a count of records.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import FAILURES, StudyError, culprit, is_accepted, machine_named

STATUSES = ("ok", "unstable", "not_converged", "skipped", "failed")
REQUIRED = ("structure_id", "stage", "status", "reason")
WHOLE = "whole_numbers"
FAILURE = "failure"
"""Column beside them: what a failed record is to blame on, one of ``FAILURES``; empty for the others."""


def write_table(table: pandas.DataFrame, path: str | Path) -> None:
    """Write a table as Parquet; the file appears under its name only when complete."""
    with written_whole(path) as partial:
        table.to_parquet(partial, index=False)


def write_records(records: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Write the records of one stage and shard.

    Parameters
    ----------
    records : list of dicts with ``structure_id, stage, status, reason`` and the stage's values
    path : Parquet file

    Raises
    ------
    ValueError
        If a record lacks a required key, has an unknown status or failure, appears twice, or is not ok without
        a reason.
    """
    for record in records:
        missing = [key for key in REQUIRED if key not in record]
        if missing:
            raise ValueError(f"record {record.get('structure_id')!r} lacks {missing}")
        if record["status"] not in STATUSES:
            raise ValueError(f"{record['structure_id']}: unknown status {record['status']!r}, not one of {STATUSES}")
        if record["status"] != "ok" and not record["reason"]:
            raise ValueError(f"{record['structure_id']}: status {record['status']} needs a reason")
        if _failure(record) not in (FAILURES if record["status"] == "failed" else ("",)):
            raise ValueError(f"{record['structure_id']}: status {record['status']}, failure {record[FAILURE]!r}")
    ids = [record["structure_id"] for record in records]
    if len(set(ids)) != len(ids):
        raise ValueError(f"structures recorded twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    names = [*REQUIRED, FAILURE]
    table = pandas.DataFrame(
        [{**{key: record[key] for key in REQUIRED}, FAILURE: _failure(record), **record} for record in records]
    )
    if not records:
        table = pandas.DataFrame({key: pandas.Series(dtype="str") for key in names})
    # Counts with gaps become floating-point numbers: noted, so that they can be counts again when the gaps are filled.
    gaps = [str(name) for name in table if table[name].dtype.kind == "f" and table[name].isna().any()]
    whole = [name for name in gaps if all(type(record.get(name, 0)) is int for record in records)]
    if whole:
        table.attrs[WHOLE] = whole
    write_table(table, path)


def _failure(record: dict[str, Any]) -> str:
    return str(record.get(FAILURE, "structure" if record["status"] == "failed" else ""))


def refuse_common_failure(records: Sequence[dict[str, Any]], stage: str) -> None:
    """Refuse the records of a shard whose structures all failed for one reason.

    Such a reason is hardly one of the structures: a wrong setting, an engine that is not what it should be, outputs
    that are not there. Structures that were skipped do not count, and a single one may fail.

    Parameters
    ----------
    records : of one shard
    stage : name of the stage; accepted if ``accept_failed_shards`` of the settings names it

    Raises
    ------
    StudyError
        Naming the reason, what is to blame and the way to accept it.
    """
    tried = [record for record in records if record["status"] != "skipped"]
    reasons = count_reasons(tried, examples=1)
    if len(tried) < 2 or len(reasons) > 1 or any(record["status"] != "failed" for record in tried):
        return
    if is_accepted(stage):
        return
    (_, _, count, ids), blame = reasons[0], _failure(tried[0])
    raise StudyError(
        f"all {count} structures that were tried failed for one reason, {ids[0]} first: {tried[0]['reason']}",
        where=f"stage {stage}; to blame: {blame} ({FAILURES[blame]})",
        fix="mend it and run the same command again: these structures are then tried again; or take the failures as "
        f"the result: accept_failed_shards: [{stage}] in the settings (--config 'accept_failed_shards=[{stage}]')",
        blame=blame,
    )


def count_reasons(
    records: pandas.DataFrame | Sequence[dict[str, Any]], examples: int = 3
) -> list[tuple[str, str, int, list[str]]]:
    """Count the reasons of the records that are not ok, the most frequent first.

    Reasons that differ in numbers, quoted words or the names of structures count as one.

    Parameters
    ----------
    records : DataFrame, or list of dicts, with ``structure_id, status, reason``
    examples : ids shown per reason

    Returns
    -------
    list of (status, reason, count, list of ids)
    """
    rows: Any = records.to_dict("records") if isinstance(records, pandas.DataFrame) else records
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] != "ok":
            first = str(row["reason"]).splitlines()[0] if row["reason"] else ""
            named = rf"(?<![\w.-]){re.escape(str(row['structure_id']))}(?![\w-])"
            kind = re.sub(named, "…", first)
            kind = re.sub(r"'[^']*'|(?<![\w.-])-?\d+(\.\d+)?(e[+-]?\d+)?(?![\w-])", "…", kind)
            kind = re.sub(r"(same structure as) \S+", r"\1 another", kind)
            groups.setdefault((row["status"], kind), []).append(row)
    counted = []
    for (status, kind), members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        alike = {str(row["reason"]).splitlines()[0] for row in members}
        ids = [row["structure_id"] for row in members[:examples]]
        counted.append((status, alike.pop() if len(alike) == 1 else kind, len(members), ids))
    return counted


def read_records(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pandas.DataFrame:
    """Return the records of one or several shards as one table.

    Parameters
    ----------
    paths : a path or a list of paths

    Returns
    -------
    pandas.DataFrame in the order of the files

    Raises
    ------
    StudyError
        If a file is no complete Parquet file.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    tables = [read_table(path) for path in paths]
    tables = [table for table in tables if len(table)] or tables[:1]
    return pandas.concat(tables, ignore_index=True)


def read_manifest(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pandas.DataFrame:
    """Return the manifest of a study, or of some of its shards, in the order of the structure ids.

    Parameters
    ----------
    paths : a path or a list of paths
    """
    return read_records(paths).sort_values("structure_id", ignore_index=True)


def read_table(path: str | os.PathLike[str]) -> pandas.DataFrame:
    """Return one table of a study.

    Raises
    ------
    StudyError
        If the file is no complete Parquet file.
    """
    try:
        return pandas.read_parquet(path)
    except Exception as error:  # the reader raises whatever a damaged file leads it to
        raise StudyError(
            f"{path} cannot be read: {str(error)[:200]}", fix="make it again: phonoscreen verify prints the command"
        ) from error


def attempted(structure_id: str, stage: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record of what was computed for a structure, outside of a shard; a refusal is its reason.

    Parameters
    ----------
    structure_id, stage : of the record
    compute : function that returns the values of the record

    Raises
    ------
    MachineError
        If the machine is to blame.
    """
    record: dict[str, Any] = {"structure_id": structure_id, "stage": stage, "status": "ok", "reason": ""}
    try:
        with machine_named(f"{structure_id}, stage {stage}"):
            return record | compute()
    except StudyError as error:
        return record | {"status": "failed", "reason": str(error), FAILURE: culprit(error)}
