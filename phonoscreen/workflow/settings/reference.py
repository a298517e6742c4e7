"""The JSON schema and the reference page of all settings, made from their typed source.

``python -m phonoscreen.workflow.settings.reference`` writes ``schemas/config.schema.json`` and ``docs/settings.md``.
"""

import json
from pathlib import Path

from phonoscreen.workflow.code import ROOT
from phonoscreen.workflow.settings.describe import in_words, settings_of
from phonoscreen.workflow.settings.experiment import ExperimentStudy
from phonoscreen.workflow.settings.screening import ScreeningStudy

SCHEMA = "schemas/config.schema.json"
PAGE = "docs/settings.md"


class EveryStudy(ScreeningStudy, ExperimentStudy):
    """Every setting: of a study, of the experiment and of the screening."""


def schema() -> str:
    """Return the JSON schema of a study (with the sections of the experiment and of the screening) as text."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **EveryStudy.model_json_schema()}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def page() -> str:
    """Return the reference page in Markdown: one table for each section."""
    lines = [
        "# Settings",
        "",
        "Every setting of a study: what it may be, its default and its meaning. [P]: stated in the paper; [OWN]: our",
        "decision. This page, `schemas/config.schema.json` and the check of a study have one source,",
        "`phonoscreen.workflow.settings` (`python -m phonoscreen.workflow.settings.reference` writes both files).",
        "",
        "A study has layers: `config.yaml`, the profile's `study.yaml`, your own file, the command line.",
        "The later one wins, value by value.",
        "",
        "```",
        "snakemake --profile laptop --configfile mine.yaml",
        "snakemake --profile laptop --config 'transport={temperature_k: 600}'",
        "```",
    ]
    last = None
    for place, section, name, field in settings_of(EveryStudy):
        where = place.rpartition("/")[0]
        if where != last:
            title = f"`{where}`" if where else "The study"
            lines += ["", f"## {title}", "", section.__doc__.strip(), ""]
            lines += ["| setting | value | default | meaning |", "|---|---|---|---|"]
            last = where
        default = json.dumps(field.default, ensure_ascii=False, default=lambda value: value.model_dump())
        cells = [f"`{name}`", in_words(field, name), f"`{default}`", " ".join((field.description or "").split())]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files into the repository."""
    Path(ROOT / SCHEMA).write_text(schema())
    Path(ROOT / PAGE).write_text(page())


if __name__ == "__main__":
    main()
