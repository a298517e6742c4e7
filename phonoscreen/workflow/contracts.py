"""What the rules hand to each other, and the page that says it.

``python -m phonoscreen.workflow.contracts`` writes ``docs/contracts.md`` from ``schemas/products.yaml`` (files that
rules read) and ``schemas/tables`` (tables of the whole study, which figures and the summary read).
"""

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from phonoscreen.audit.shipped import shipped
from phonoscreen.workflow.code import ROOT

PAGE = "docs/contracts.md"
CONVENTIONS = """\
# Data contracts between the stages

What every file below `results/` holds. This page is made from `schemas/products.yaml` and `schemas/tables` (`python
-m phonoscreen.workflow.contracts`); tests compare both with a whole study.

Every stage works on shards: `{shard}` is `0000`, `0001`, …, and the manifest assigns structures to shards. `{source}`
is `reference` or `predicted`: the same rules of force constants and transport run on both kinds of forces. `{round}`
counts the rounds of the query by committee from 0 (initial training), `{member}` the members of the committee.

* Script `scripts/<rule>.py` = `def main(job)` plus `run_job(snakemake, main)` (`phonoscreen.audit.job`). `job.input`,
  `job.output`, `job.params` and `job.wildcards` carry the names of the rule. Stages that treat one structure after
  another use `phonoscreen.audit.shard.run_shard`.
* A **record** is a row with `structure_id, stage, status, reason, failure` in front, which the tables below do not
  repeat. The status is ok, unstable, not_converged, skipped or failed; `failure` says what a failed one is to blame
  on: structure, settings, engine or machine. For every stage the statuses sum to the manifest. Values of a record
  that is not ok may be absent.
* Arrays are HDF5 files with one group per structure id; records and tables are Parquet. "?" marks what may be absent.
* Lengths are in Å, energies in eV, forces in eV/Å, temperatures in K, frequencies in THz (not angular),
  conductivities in W/m/K; the unit stands in each column's name.
* The atoms of a structure's supercell have the order of `ase.Atoms.repeat` (see `phonoscreen/crystal/constants.py`).
* Random numbers come from `numpy.random.default_rng(derive_seed(seed, structure_id, purpose))`.
* Every output has a record `provenance/files/<its path>.json` with `path, sha256, n_bytes, rule, wildcards, options`
  (of the snakemake call), `provenance, provenance_sha256` (the job's provenance file) and a `seal` over these. A job
  compares its inputs with their records and refuses those that differ ([operations](operations.md#damaged-files)); an
  input outside `results/` has no record and is taken as it is.
* Text of other hands (ids, formulas, reasons) is escaped where it is shown. In CSV files a text that begins with `=`,
  `+`, `-` or `@` and is no number has an apostrophe in front; Parquet files hold it as it is.
"""


@dataclass(frozen=True)
class Product:
    """One file that a rule writes.

    Parameters
    ----------
    path : below ``results/``, with the wildcards of the rule
    rule : name of the rule
    rows : what a row is, for a table
    columns : meaning by name of the column; a name with "?" may be absent
    arrays : (shape, unit, meaning) by name of the data set of each structure
    attributes : of each structure's group, in words
    text : what the file holds, where it is neither table nor arrays
    """

    path: str
    rule: str
    rows: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    attributes: str = ""
    text: str = ""


def products() -> list[Product]:
    """Return the files that rules hand to each other, in the order of the flow."""
    return [
        Product(path, rule, **content)
        for rule, stage in _stages().items()
        for path, content in stage["products"].items()
    ]


def tables() -> dict[str, Any]:
    """Return the JSON schema of each table of the whole study by its name."""
    paths = sorted(shipped("schemas/tables").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def page() -> str:
    """Return the page in Markdown: conventions, the products of each rule, the tables of the study."""
    lines = [CONVENTIONS]
    for rule, stage in _stages().items():
        lines += [f"## `{rule}`", "", f"Reads {stage['inputs']}.", ""]
        for product in (product for product in products() if product.rule == rule):
            lines += _product_lines(product)
    lines += [
        "## Tables of the study", "",
        "`tables/<name>.parquet` (and `.csv`, for readers without Parquet) are all that figures and summary read.", "",
    ]  # fmt: skip
    for name, schema in tables().items():
        lines += [f"### `{name}`", "", f"{schema['title']}.", "", *_header("column", "type", "meaning")]
        lines += [
            _row(f"`{column}`", _type(about), about["description"])
            for column, about in schema["items"]["properties"].items()
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page into the repository."""
    (ROOT / PAGE).write_text(page())


def _stages() -> dict[str, Any]:
    return yaml.safe_load(shipped("schemas/products.yaml").read_text())


def _product_lines(product: Product) -> list[str]:
    """Return the lines about one file."""
    if product.text:
        return [f"**`{product.path}`**: {product.text}.", ""]
    if product.arrays:
        rows = [
            _row(f"`{name}`", _shape(shape), unit, meaning) for name, (shape, unit, meaning) in product.arrays.items()
        ]
        attributes = f" Attributes: {product.attributes}." if product.attributes else ""
        lines = [
            f"**`{product.path}`**: arrays of each structure.{attributes}",
            "",
            *_header("array", "shape", "unit", "meaning"),
        ]
        return [*lines, *rows, ""]
    lines = [f"**`{product.path}`**: one row per {product.rows}.", ""]
    if product.columns:
        lines += [
            *_header("column", "meaning"),
            *(_row(f"`{name}`", text) for name, text in product.columns.items()),
            "",
        ]
    return lines


def _shape(text: str) -> str:
    """Return "(3 3)" as "(3, 3)" and "(n)" as "(n,)"."""
    names = text.strip("()").split()
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _type(about: dict[str, Any]) -> str:
    """Return the type of a column in words, with the values it may have."""
    kinds = about["type"] if isinstance(about["type"], list) else [about["type"]]
    kind = " or ".join("absent" if kind == "null" else kind for kind in kinds)
    return f"{kind}: {', '.join(str(value) or 'empty' for value in about['enum'])}" if "enum" in about else kind


def _header(*names: str) -> list[str]:
    return [_row(*names), "|" + "---|" * len(names)]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
