"""Convergence of the conductivity with the choices of the calculation."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.convergence import draw
from phonoscreen.figures.style import save


def main(job):
    reference = reference_name(job.params.engine, job.params.model)
    figure, caption = draw(pandas.read_parquet(job.input.convergence), reference=reference)
    save(figure, caption, job.output)


run_job(snakemake, main)
