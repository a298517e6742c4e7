"""Headline numbers of the kept screening of the pool beside the paper's, and their place in a summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import yaml

from phonoscreen.audit.shipped import shipped
from phonoscreen.stages.confirmed import KAPPA, compared_of, counts
from phonoscreen.stages.screening_product import read_product
from phonoscreen.stages.screening_table import SPREAD

if TYPE_CHECKING:
    from phonoscreen.analysis.document import Document


def published() -> dict[str, float]:
    """Return the paper's headline numbers by their key (``resources/published/numbers.yaml``)."""
    rows = yaml.safe_load(shipped("resources/published/numbers.yaml").read_text())
    return {row["key"]: row["value"] for row in rows}


def solved_of(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows with a conductivity."""
    return table[(table["status"] == "ok") & (table[KAPPA] > 0)]


def headline_rows(table: pandas.DataFrame, origin: dict, compared: pandas.DataFrame | None) -> list[list[str]]:
    """Return what was asked for, the number of the screening and that of the paper.

    Parameters
    ----------
    table, origin : see ``phonoscreen.stages.screening_product.read_product``
    compared : structures recomputed with the potential (``phonoscreen confirm --write``), or None
    """
    paper, solved = published(), solved_of(table)
    stable = (table["verdict"] == "stable").sum()
    rows = [
        ["structures screened", f"{len(table):,}", f"{paper['n_unexplored']:,}"],
        ["of these stable", share(stable, len(table)), share(paper["n_unexplored_stable"], paper["n_unexplored"])],
        ["with a conductivity", f"{len(solved):,}", f"{paper['n_kappa']:,}"],
        ["of these κ < 1 W/m/K", share((solved[KAPPA] < 1).sum(), len(solved)),
         share(paper["n_ultralow"], paper["n_kappa"])],
    ]  # fmt: skip
    if compared is not None:
        found = counts(compared)
        rows.append(["drawn ones with κ < 1 W/m/K confirmed by the potential of its labels",
                     share(found["low_confirmed"], found["low"]),
                     share(paper["untrained_confirmed"], paper["untrained_ultralow"])])  # fmt: skip
        rows.append(["others: stable and above 1 W/m/K", share(found["others_confirmed"], found["others"]), ""])
        rows.append(
            ["mean error of log10 κ where both have one", f"{found['mae_decades']:.3f}", f"{paper['kappa_mae']}"]
        )
    spread = solved["kappa_p_error_decades"].median()
    if numpy.isfinite(spread):
        factor = origin["calibration"].get(SPREAD)
        what = f"times its calibration factor {factor:.2f}" if factor else "uncalibrated: no error bar"
        rows.append([f"spread of log10 κ over the members, {what}, median", f"{spread:.2f}", ""])
    return rows


def add_screening(page: "Document", table: str | Path, compared: str | Path) -> None:
    """Add the headline numbers of the screening that the repository keeps to the summary of a study.

    Parameters
    ----------
    page : summary
    table, compared : files ``screening.parquet`` and ``confirmation.csv`` of ``resources/screening``
    """
    rows, origin = read_product(table)
    page.heading("The screening of the pool")
    page.paragraph(
        f"Not of this study: snakemake --profile screening, kept in resources/screening. Structures of the enumerated "
        f"pool of {origin['pool_structures']:,} from formula to conductivity with the forces of one published model "
        f"(networks {origin['networks'][:16]}…). docs/screening.md has what was found, by class, and the filters."
    )
    page.table(["", "here", "paper"], headline_rows(rows, origin, compared_of(compared)))


def share(part: Any, whole: Any) -> str:
    """Return a count and its percentage."""
    return f"{int(part):,} of {int(whole):,} ({percent(part, whole)})"


def percent(part: Any, whole: Any) -> str:
    """Return a percentage, a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "–"
