"""What the spread of a published committee says of its errors: factors, in the model and on its card.

The errors are those of ``phonoscreen.analysis.model_comparison``, which judges compounds that no training saw.
"""

from pathlib import Path

import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.calibration import coverage_factor
from phonoscreen.forcefield.models.model_json import read_model_json, write_model_json
from phonoscreen.stages.transport import SPREADS

SEED = 61
TABLE_FILE = "judged.csv"
"""Table of the compounds judged, in the folder of the model."""
COMMAND = "python -m phonoscreen.analysis.model_comparison"
HEADING, LIMITS = "## Calibration of the spread", "## Limits"
EXPLANATION = """Compounds that no training saw, stable with the labels' forces and with the model's: how far their
numbers are apart, over the standard deviation of the members. The factor is found on half of them; on the other half so
many errors lie within one standard deviation, as it is and times the factor (an error bar: 68 %). The compounds are in
`judged.csv`; `python -m phonoscreen.analysis.model_comparison LABELS judged.csv` continues it and computes this."""
TABLE = """| spread | factor | within, as it is | within, times the factor | compounds: found on, checked on |
| --- | --- | --- | --- | --- |"""
LATTICE = """Lattice constants that the model relaxes to, against those of the labels, {compounds} compounds:
{median_percent:.2f} % apart (median), {percentile_90_percent:.2f} % (90th percentile)."""


def calibrations(table: pandas.DataFrame, seed: int = SEED) -> dict[str, dict[str, float]]:
    """Return ``coverage_factor`` of every spread that enough compounds have, by its column.

    Errors are those of the logarithm to the base 10 where the spread is in decades.
    """
    found = {}
    both = table[(table["status"] == "ok") & (table["status_reference"] == "ok")]
    for name, column in SPREADS.items():
        name = "p3_total_ps" if name == "p3_total" else name
        first, second = (both[own].to_numpy(float) for own in (f"{name}_reference", name))
        with numpy.errstate(invalid="ignore", divide="ignore"):
            difference = numpy.log10(second / first) if column.endswith("_decades") else second - first
        try:
            spreads = both[column].to_numpy(float)
            found[column] = coverage_factor(spreads, numpy.abs(difference), both["structure_id"].tolist(), seed)
        except StudyError:
            continue
    return found


def lattice_constants(table: pandas.DataFrame) -> dict[str, float]:
    """Return number, median and 90th percentile (per cent) of the deviation of the relaxed lattice constants."""
    away = 100 * (table["lattice_constant_ratio"].dropna().astype(float) - 1).abs()
    median, high = float(away.median()), float(away.quantile(0.9))
    return {"compounds": len(away), "median_percent": median, "percentile_90_percent": high}


def write_calibration(folder: Path, found: dict[str, dict[str, float]], lattice: dict[str, float]) -> None:
    """Put the factors into the ``model.json`` of a published model, with its digest, and the comparison on its card.

    Parameters
    ----------
    folder : of the published model
    found : of ``calibrations``
    lattice : of ``lattice_constants``
    """
    content = read_model_json(folder / "model.json")
    content["calibration"] = {column: facts["factor"] for column, facts in found.items()}
    write_model_json(content, folder / "model.json")
    card = folder / "README.md"
    before, _, after = card.read_text().partition(LIMITS)
    rows = [
        f"| `{column}` | {facts['factor']:.2f} | {100 * facts['within_raw']:.0f} % | {100 * facts['within']:.0f} % | "
        f"{facts['n_fitted']}, {facts['n_checked']} |"
        for column, facts in found.items()
    ]
    table = "\n".join([TABLE, *rows])
    part = f"{HEADING}\n\n{EXPLANATION}\n\n{table}\n\n{LATTICE.format(**lattice)}\n\n"
    with written_whole(card) as partial:
        partial.write_text(before.split(HEADING)[0] + part + LIMITS + after)
