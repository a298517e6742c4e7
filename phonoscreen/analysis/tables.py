"""Tables of the whole study, gathered from the shards; the only thing that figures and summary read."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.foreign_text import csv_cell
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.structures.formulas import composition_key

if TYPE_CHECKING:
    Paths = str | os.PathLike | Iterable[str | os.PathLike]

IDENTITY = ["structure_id", "formula", "space_group_number", "formula_type", "prototype", "part"]


def write_tables(output: Any, **tables: "pandas.DataFrame") -> None:
    """Write each table as Parquet and, for readers without Parquet, as CSV (in which no text is a formula).

    Parameters
    ----------
    output : outputs of the job; ``<name>`` and ``<name>_csv`` are the paths of the table called ``name``
    tables : DataFrames by name
    """
    for name, table in tables.items():
        write_table(table, getattr(output, name))
        texts = table.select_dtypes(include=["object", "string"]).columns
        harmless = table.assign(**{name: table[name].map(csv_cell) for name in texts})
        with written_whole(getattr(output, f"{name}_csv")) as partial:
            harmless.to_csv(partial, index=False, lineterminator="\n")


def take(records: "pandas.DataFrame", columns: Sequence[str], *, stage: str) -> "pandas.DataFrame":
    """Return id, status and some values of a stage's records; values of structures that are not ok may be absent.

    Parameters
    ----------
    records : DataFrame of records
    columns : names of the values
    stage : name of the stage, for the message

    Raises
    ------
    StudyError
        If a column is absent although a structure is ok.
    """
    missing = [name for name in columns if name not in records.columns]
    if missing and (records["status"] == "ok").any():
        raise StudyError(
            f"records lack the columns {missing}", where=f"stage {stage}", fix=f"run the rule {stage} again"
        )
    return records.reindex(columns=["structure_id", "status", *columns])


def with_identity(manifest: "pandas.DataFrame", table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return a table with formula, space group, class and part of each structure in front, sorted by id."""
    order = [name for name in table.columns if name not in IDENTITY]
    joined = manifest[IDENTITY].merge(table, on="structure_id", how="inner", validate="one_to_many")
    by = [name for name in ("structure_id", "source") if name in joined.columns]
    return joined[IDENTITY + order].sort_values(by, ignore_index=True)


def trained_structures(datasets: "Paths", manifest: "pandas.DataFrame", compounds: "Paths" = ()) -> set[str]:
    """Return the ids of all structures that the force model has learned from.

    Parameters
    ----------
    datasets : paths ``rounds/{round}/dataset.parquet``
    manifest : of the study
    compounds : the list of compounds (``formula, space_group_number``) of the published model that round 0 began with,
        where there is one; structures of the same reduced formula and space group count as trained on
    """
    trained = set(read_records(datasets)["structure_id"]) if len(paths_of(datasets)) else set()
    for path in paths_of(compounds):
        rows: Any = pandas.read_csv(path, keep_default_na=False).itertuples()
        known = {(composition_key(row.formula), int(row.space_group_number)) for row in rows}
        listed: Any = manifest.itertuples()
        trained |= {row.structure_id for row in listed
                    if (composition_key(row.formula), int(row.space_group_number)) in known}  # fmt: skip
    return trained


def validation_structures(manifest: "pandas.DataFrame", trained: Iterable[str]) -> set[str]:
    """Return the ids of the structures errors are measured on: part "validation", never trained on.

    Structures outside the training part that the query left alone are no fair sample: it left them because the
    committee agreed on them.
    """
    return set(manifest.loc[manifest["part"] == "validation", "structure_id"]) - set(trained)


def paths_of(value: "Paths") -> list[str]:
    """Return a list of paths from an input that is one path or a list of them."""
    return [str(value)] if isinstance(value, (str, os.PathLike)) else [str(path) for path in value]


def round_of(path: str | os.PathLike) -> int:
    """Return the number of the round a path below ``rounds/{round}`` belongs to."""
    parts = Path(path).parts
    try:
        return int(parts[parts.index("rounds") + 1])
    except (ValueError, IndexError):
        raise StudyError(f"{path} is not below a folder rounds/<number>") from None


def member_of(path: str | os.PathLike) -> int:
    """Return the number of the committee member a path below ``members/{member}`` belongs to."""
    parts = Path(path).parts
    return int(parts[parts.index("members") + 1])


def evenly(n: int, most: int) -> NDArray:
    """Return at most ``most`` indices spread evenly over ``range(n)``."""
    return numpy.unique(numpy.linspace(0, n - 1, min(n, most)).round().astype(int)) if n else numpy.arange(0)
