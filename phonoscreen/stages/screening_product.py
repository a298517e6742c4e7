"""The table of a screening as a data product: one row per structure, its origin in the file.

``python -m phonoscreen.stages.screening_product FOLDER FILE`` gathers the blocks that are complete in the folder
``results/screening`` of a screening, whether or not the others are still to come. Spreads are made error bars by the
calibration of the published model if its networks are those that screened; FOLDER may be a product, whose calibration
is then renewed.
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
from phonoscreen.audit.shipped import shipped
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json
from phonoscreen.stages.screening_table import COLUMNS, SPREAD

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

NAMES = ("networks", "forces_digest")
"""What names the model of a block: its networks; older blocks have the sha256 of its ``model.json`` instead."""


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
        other = [name for name in (*NAMES, "settings", "code") if origin.get(name) != first.get(name)]
        if other:
            raise StudyError(f"the block has another {other[0]} than the first one", where=str(path),
                             fix="snakemake --profile screening makes it again")  # fmt: skip
    table, order = read_records(records), pandas.read_parquet(pool)["structure_id"]
    places = pandas.Series(range(len(order)), index=order)
    table = table.iloc[numpy.argsort(places.loc[table["structure_id"]].to_numpy(), kind="stable")]
    origin = {**first, "pool_sha256": file_sha256(pool), "structures": len(table), "pool_structures": len(order)}
    return table.reset_index(drop=True), origin


def named_by_networks(origin: dict, folder: Path | None) -> dict:
    """Return an origin that names the networks that screened.

    Parameters
    ----------
    origin : of a block or a product
    folder : of the model that screened; needed where the origin has the sha256 of its ``model.json`` instead

    Raises
    ------
    StudyError
        If it has that, and the folder is not given or of another model.
    """
    if "networks" in origin:
        return origin
    known, path = origin["forces_digest"], folder / "model.json" if folder else None
    if path is None or not path.is_file() or file_sha256(path) != known:
        raise StudyError(
            f"the screening names its model by the sha256 of its model.json, {known[:16]}…, which is not that of "
            f"{path or 'a folder given'}", where="screening_product",
            fix="give the folder of the model that screened with --screened-with",
        )  # fmt: skip
    named = {name: value for name, value in origin.items() if name != "forces_digest"}
    return {**named, "networks": networks_digest(read_model_json(path))}


def calibrate(table: pandas.DataFrame, origin: dict, published: dict) -> tuple[pandas.DataFrame, dict]:
    """Return rows whose expected errors are those that the calibration of a published model gives, and their origin.

    Parameters
    ----------
    table : with the column ``SPREAD``
    origin : with ``networks``
    published : ``model.json`` of a published model; of other networks than those that screened, or never calibrated,
        it leaves the spread as it is, uncalibrated
    """
    same = networks_digest(published) == origin["networks"]
    factors = {SPREAD: published["calibration"][SPREAD]} if same and SPREAD in published.get("calibration", {}) else {}
    errors = table[SPREAD].astype(float) * factors.get(SPREAD, 1.0)
    return table.assign(kappa_p_error_decades=errors), {**origin, "calibration": factors}


def write_product(table: pandas.DataFrame, origin: dict, path: str | Path) -> None:
    """Write rows of a screening in a small form: numbers of four digits, the origin in the file's metadata.

    Parameters
    ----------
    table : rows with the columns of ``screening_table.COLUMNS`` and ``part``
    origin : what they come from
    path : Parquet file
    """
    if "reason" in table:
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
        if b"origin" not in (table.schema.metadata or {}) and {"structure_id", "source"} <= set(table.column_names):
            raise StudyError(
                "a table of phonoscreen screen, not of a screening of the pool", where=str(path),
                fix="screen the same structures with --potential NAME and another --output instead",
            )  # fmt: skip
        return table.to_pandas(), json.loads(table.schema.metadata[b"origin"])
    except StudyError:
        raise
    except (OSError, KeyError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise StudyError(f"no table of a screening: {error}", where=str(path),
                         fix="give a file that phonoscreen.stages.screening_product wrote") from error  # fmt: skip


def main() -> None:
    """Gather the complete blocks of a screening, or renew the calibration of a product."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="results/screening of a screening, or a product")
    parser.add_argument("file", type=Path, help="Parquet file to write")
    parser.add_argument("--model", type=Path, help="published model that calibrates (the one of the repository)")
    parser.add_argument("--screened-with", type=Path, metavar="FOLDER", help="model that screened, for older blocks")
    arguments = parser.parse_args()
    if arguments.folder.is_file():
        table, origin = read_product(arguments.folder)
    else:
        records = sorted((arguments.folder / "blocks").glob("[0-9]*.parquet"))
        origins = [path.with_suffix(".json") for path in records]
        table, origin = gather(records, origins, arguments.folder / "pool.parquet")
    published = arguments.model / "model.json" if arguments.model else shipped("resources/model/model.json")
    named = named_by_networks(origin, arguments.screened_with)
    table, origin = calibrate(table, named, read_model_json(published))
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    write_product(table, origin, arguments.file)
    factor = (
        f"error bars: spread times {origin['calibration'][SPREAD]:.2f}" if origin["calibration"] else "uncalibrated"
    )
    size = f"{arguments.file.stat().st_size / 1e6:.2f} MB"
    print(f"{len(table)} of {origin['pool_structures']} structures, {size}; {factor}")


if __name__ == "__main__":
    main()
