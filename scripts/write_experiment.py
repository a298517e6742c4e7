"""The experiment for a reader: the paper's numbers beside those of each model."""

from pathlib import Path

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.analysis.ledger import read_numbers
from phonoscreen.audit.job import run_job
from phonoscreen.experiment.report import report


def main(job):
    names = ("forces", "elements", "prototypes", "calibration", "properties", "promises", "selection")
    page = report(
        {name: pandas.read_parquet(getattr(job.input, name)) for name in names},
        {entry["key"]: entry["value"] for entry in read_numbers(job.input.numbers)},
        [(png, Path(text).read_text().strip()) for png, text in zip(job.input.figures, job.input.captions)],
        reference=reference_name(job.params.engine, job.params.model),
    )
    Path(job.output.markdown).write_text(page.markdown(Path(job.output.markdown).parent))
    Path(job.output.html).write_text(page.html())


run_job(snakemake, main)
