"""Gather the rows of the ablation."""

import pandas

from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job


def main(job):
    rows = pandas.concat([pandas.read_parquet(path) for path in job.input], ignore_index=True)
    write_tables(job.output, ablation=rows)


run_job(snakemake, main)
