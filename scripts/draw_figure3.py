"""Figure 3: harmonic properties from predicted against reference forces."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.figure3 import draw
from phonoscreen.figures.style import save


def main(job):
    figure, caption = draw(
        pandas.read_parquet(job.input.transport),
        reference=reference_name(job.params.engine, job.params.model),
    )
    save(figure, caption, job.output)


run_job(snakemake, main)
