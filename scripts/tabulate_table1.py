"""Table 1: structures per class, calculated, unexplored and stable, beside the published counts."""

import pandas

from phonoscreen.analysis.classes import class_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records


def main(job):
    table = class_table(
        pandas.read_parquet(job.input.manifest),
        read_records(job.input.stability_reference),
        read_records(job.input.stability_predicted),
        job.input.published,
    )
    write_tables(job.output, table1=table)


run_job(snakemake, main)
