"""What is known of published networks when a model is published again: kept of the same networks, dropped of others."""

import shutil
from pathlib import Path

import pandas
import yaml

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json
from phonoscreen.forcefield.publish import default_model_path
from phonoscreen.stages.dft_judgement import DFT_FILE, write_dft_section
from phonoscreen.stages.screening_product import read_product
from phonoscreen.stages.spread_calibration import (
    COMMAND,
    TABLE_FILE,
    calibrations,
    lattice_constants,
    write_calibration,
)

SCREENED, COMPARED = "resources/screening/screening.parquet", "resources/dft_comparison.yaml"
"""Products of the repository that the published networks have made."""


def keep_judgement(before: Path, fresh: Path) -> None:
    """Take over the comparisons of a model with its labels and with DFT, and the calibration, of the same networks.

    Parameters
    ----------
    before : folder of what is published now, if anything is
    fresh : folder of what is to be published in its place
    """
    if networks_of(before) == networks_of(fresh) and (before / TABLE_FILE).is_file():
        shutil.copyfile(before / TABLE_FILE, fresh / TABLE_FILE)
        judged = pandas.read_csv(fresh / TABLE_FILE)
        write_calibration(fresh, calibrations(judged), lattice_constants(judged))
    if networks_of(before) == networks_of(fresh) and (before / DFT_FILE).is_file():
        shutil.copyfile(before / DFT_FILE, fresh / DFT_FILE)
        write_dft_section(fresh)


def networks_of(folder: Path) -> str:
    """Return what names the networks published in a folder, "" where there is no model that can be read."""
    try:
        return networks_digest(read_model_json(folder / "model.json"))
    except (StudyError, KeyError, TypeError):
        return ""


def to_run_again(target: Path, labels: Path) -> list[str]:
    """Return what is missing or belongs to other networks than the published ones, each with its command.

    Parameters
    ----------
    target : folder of the published model
    labels : kept labels whose test compounds judge
    """
    content, lines = read_model_json(target / "model.json"), []
    if "calibration" not in content:
        command = f"{COMMAND} {labels} {target / TABLE_FILE} --model {target} --write"
        lines.append(f"not compared with its labels, spread uncalibrated: {command}")
    if target.resolve() != default_model_path().resolve():
        return lines
    screened, compared = shipped(SCREENED), shipped(COMPARED)
    if read_product(screened)[1].get("networks") != networks_digest(content):
        lines.append(f"{SCREENED} is of other networks: docs/screening.md says how to repeat it")
    if yaml.safe_load(compared.read_text())["about"].get("published_networks") != networks_digest(content):
        lines.append(f"{COMPARED} is of other networks: snakemake --profile dft, then "
                     f"python -m phonoscreen.analysis.dft_gathering . {COMPARED}")  # fmt: skip
    return lines
