"""Bonding and antibonding of all structures beside their predicted thermal conductivity."""

import pandas

from phonoscreen.analysis.bonding import bonding_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records


def main(job):
    table = bonding_table(
        pandas.read_parquet(job.input.manifest),
        read_records(job.input.bonding),
        read_records(job.input.transport_predicted),
    )
    write_tables(job.output, bonding=table)


run_job(snakemake, main)
