"""Figure S4: mean square displacement of each element."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.figureS4 import draw
from phonoscreen.figures.style import save


def main(job):
    figure, caption = draw(
        pandas.read_parquet(job.input.elements),
        reference=reference_name(job.params.engine, job.params.model),
        temperature_k=job.params.temperature_k,
    )
    save(figure, caption, job.output)


run_job(snakemake, main)
