"""Figure 4: thermal conductivity against the largest mean square displacement."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.figure4 import draw
from phonoscreen.figures.style import save


def main(job):
    figure, caption = draw(
        pandas.read_parquet(job.input.transport),
        reference=reference_name(job.params.engine, job.params.model),
    )
    save(figure, caption, job.output)


run_job(snakemake, main)
