"""Figure 5: bonding and antibonding, coloured by thermal conductivity."""

import pandas

from phonoscreen.analysis.comparison import cohp_name, reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.figures.figure5 import draw
from phonoscreen.figures.style import save


def main(job):
    figure, caption = draw(
        pandas.read_parquet(job.input.bonding),
        reference=reference_name(job.params.engine, job.params.model),
        engine=cohp_name(job.params.bonding_engine),
    )
    save(figure, caption, job.output)


run_job(snakemake, main)
