"""Errors of a published model against DFT that it has not learned from, on its card.

``python -m tests.benchmarks.real_dft --published FOLDER --card`` measures them on compounds of phonondb and writes
``dft.csv`` beside the model, a row per compound, and a section of the card: by role, by class and by element.
"""

import json
from pathlib import Path

import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.forcefield.publish import error_table

DFT_FILE = "dft.csv"
"""Table of the compounds that DFT judges, in the folder of the model."""
ROLES = {"teacher_test": "not seen by the potential of the labels either", "kappa_103": "mostly seen by it"}
"""Roles of phonondb's compounds that judge and are never trained on, in words."""
HEADING, FOLLOWING = "## Errors against DFT", ("Calibration", "Limits")
"""Of the section, and of those that may follow it."""
EXPLANATION = """Compounds of phonondb@kyoto-u 2018-04-17 (A. Togo, CC BY 4.0; VASP, PBEsol, single atoms displaced by
0.01 A) that this model has not learned from; `python -m tests.benchmarks.real_dft --published FOLDER --card` writes
them to `dft.csv`. Errors of forces over their root mean square, those of frequencies over their range for compounds
that DFT finds stable."""


def dft_section(table: pandas.DataFrame) -> str:
    """Return the section of the card, Markdown.

    Parameters
    ----------
    table : a row per compound with ``role, class, force_rmse_relative, frequency_rmse_relative, stable_dft,
        stable_predicted`` and ``squares_by_element`` (JSON of ``phonoscreen.forcefield.validation.squares_by_element``)
    """
    lines = [HEADING, "", EXPLANATION, "",
             "| compounds | number | force error, median | frequency error, mean (median) | verdicts right |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for role, words in ROLES.items():
        mine = table[table["role"] == role]
        if len(mine):
            frequency = 100 * mine.loc[mine["stable_dft"], "frequency_rmse_relative"]
            right = int((mine["stable_dft"] == mine["stable_predicted"]).sum())
            lines.append(
                f"| `{role}`: {words} | {len(mine)} | {100 * mine['force_rmse_relative'].median():.1f} % | "
                f"{frequency.mean():.1f} % ({frequency.median():.1f} %) | {right} |"
            )
    squares = [json.loads(text) for text in table["squares_by_element"]]
    classes = [(name, numpy.sum(list(one.values()), axis=0)) for name, one in zip(table["class"], squares)]
    elements = [item for one in squares for item in one.items()]
    return "\n".join([*lines, "", *error_table("class", classes), "", *error_table("element", elements)]) + "\n"


def write_dft_section(folder: Path) -> None:
    """Put what ``dft.csv`` in the folder of a published model says on its card, in place of what stands there.

    Parameters
    ----------
    folder : of the published model
    """
    card = folder / "README.md"
    parts = [part for part in card.read_text().split("\n## ") if not part.startswith(HEADING[3:])]
    place = next(number for number, part in enumerate(parts) if part.startswith(FOLLOWING))
    parts.insert(place, dft_section(pandas.read_csv(folder / DFT_FILE))[3:])
    with written_whole(card) as partial:
        partial.write_text("\n## ".join(parts))
