"""The table of a screening as a data product: one row per structure, its origin in the file.

``python -m phonoscreen.stages.screening_product FOLDER FILE`` gathers the blocks that are complete in the folder
``results/screening`` of a screening, whether or not the others are still to come.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256, packages
from phonoscreen.audit.records import read_records
from phonoscreen.stages.screening_table import COLUMNS

LEFT_OUT = (
    "reason", "forces", "forces_digest", "temperature_k", "calibrated", "iterations", "repetitions", "n_supercells",
    "relaxation_steps", "relaxation_seconds", "force_seconds", "warnings", "rotational_sum_rules", "relaxed",
    "space_group", "heat_capacity_std_j_per_mol_k", "msd_max_std_angstrom2", "sound_velocity_std_m_per_s",
    "p3_total_std_decades", "force_rms_mev_per_angstrom", "heat_capacity_j_per_mol_k", "members",
    "frequency_min_std_thz", "n_atoms", "kappa_c_mesh_error_percent",
)  # fmt: skip
"""Columns of a row that the product does not keep: the same in all rows, of the calculation, or found from others."""

KEPT = ["structure_id", "part", *(name for name in COLUMNS if name not in LEFT_OUT and name != "structure_id"), "why"]
"""Columns of the product; ``why`` is the beginning of the reason of a row that is not ok."""

DIGITS = 4
"""Significant digits of a number."""

REASON_LENGTH = 60


def write_origin(path: str | Path, origin: dict, code: str) -> None:
    """Write what the rows of a block come from as JSON: model, settings, code, packages."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps({**origin, "code": code, "packages": packages()}, sort_keys=True) + "\n")


def gather(
    records: Iterable[str | Path], origins: Iterable[str | Path], pool: str | Path
) -> tuple[pandas.DataFrame, dict]:
    """Return the rows of some blocks in the order of the pool, and their common origin.

    Parameters
    ----------
    records, origins : tables and JSON files of the blocks, in the same order
    pool : table of ``phonoscreen.stages.screening_order.order_pool``

    Raises
    ------
    StudyError
        If there are no blocks, or their models, settings or code differ.
    """
    records = [Path(path) for path in records]
    found = {path: json.loads(Path(path).read_text()) for path in map(Path, origins)}
    if not records:
        raise StudyError("no block is complete", where=str(pool), fix="snakemake --profile screening")
    first: dict[str, Any] = {}
    for path, origin in found.items():
        first = first or origin
        other = [name for name in ("forces_digest", "settings", "code") if origin[name] != first[name]]
        if other:
            raise StudyError(f"the block has another {other[0]} than the first one", where=str(path),
                             fix="snakemake --profile screening makes it again")  # fmt: skip
    table, order = read_records(records), pandas.read_parquet(pool)["structure_id"]
    places = pandas.Series(range(len(order)), index=order)
    table = table.iloc[numpy.argsort(places.loc[table["structure_id"]].to_numpy(), kind="stable")]
    origin = {**first, "pool_sha256": file_sha256(pool), "structures": len(table), "pool_structures": len(order)}
    return table.reset_index(drop=True), origin


def write_product(table: pandas.DataFrame, origin: dict, path: str | Path) -> None:
    """Write rows of a screening in a small form: numbers of four digits, the origin in the file's metadata.

    Parameters
    ----------
    table : rows with the columns of ``screening_table.COLUMNS`` and ``part``
    origin : what they come from
    path : Parquet file
    """
    table = table.assign(why=table["reason"].fillna("").str.split("\n").str[0].str[:REASON_LENGTH])
    table = table[[name for name in KEPT if name in table]].copy()
    for name in table.columns[table.dtypes == "float64"]:
        table[name] = rounded(table[name].to_numpy()).astype("float32")
    written = pyarrow.Table.from_pandas(table, preserve_index=False)
    metadata = {**(written.schema.metadata or {}), b"origin": json.dumps(origin, sort_keys=True).encode()}
    with written_whole(path) as partial:
        pyarrow.parquet.write_table(
            written.replace_schema_metadata(metadata), partial, compression="zstd", compression_level=19
        )


def rounded(values: numpy.ndarray) -> numpy.ndarray:
    """Return numbers with ``DIGITS`` significant digits."""
    with numpy.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (DIGITS - 1 - numpy.floor(numpy.log10(numpy.abs(values))))
    usable = numpy.isfinite(scale) & (scale > 0)
    return numpy.where(
        usable, numpy.round(values * numpy.where(usable, scale, 1.0)) / numpy.where(usable, scale, 1.0), values
    )


def read_product(path: str | Path) -> tuple[pandas.DataFrame, dict]:
    """Return the rows of a product and their origin.

    Raises
    ------
    StudyError
        If the file is no product of a screening.
    """
    try:
        table = pyarrow.parquet.read_table(path)
        return table.to_pandas(), json.loads(table.schema.metadata[b"origin"])
    except (OSError, KeyError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise StudyError(f"no table of a screening: {error}", where=str(path),
                         fix="give a file that phonoscreen.stages.screening_product wrote") from error  # fmt: skip


def main() -> None:
    """Gather the complete blocks of a screening."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="results/screening of a screening")
    parser.add_argument("file", type=Path, help="Parquet file to write")
    arguments = parser.parse_args()
    records = sorted((arguments.folder / "blocks").glob("[0-9]*.parquet"))
    origins = [path.with_suffix(".json") for path in records]
    table, origin = gather(records, origins, arguments.folder / "pool.parquet")
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    write_product(table, origin, arguments.file)
    print(f"{len(table)} of {origin['pool_structures']} structures, {arguments.file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
