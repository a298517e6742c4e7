"""Figure S2: growth of the training data and supercells recommended in each round."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.figureS2 import draw
from phonoscreen.figures.style import save


def main(job):
    figure, caption = draw(
        pandas.read_parquet(job.input.rounds),
        pandas.read_parquet(job.input.histories),
        reference=reference_name(job.params.engine, job.params.model),
    )
    save(figure, caption, job.output)


run_job(snakemake, main)
