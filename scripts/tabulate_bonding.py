"""Bonding and antibonding of all structures beside their predicted thermal conductivity, and all of their bonds."""

import pandas

from phonoscreen.analysis.bonding import bonding_table, bonds_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard_files import ShardFiles


def main(job):
    manifest, records = pandas.read_parquet(job.input.manifest), read_records(job.input.bonding)
    table = bonding_table(manifest, records, read_records(job.input.transport_predicted))
    with ShardFiles(job.input.arrays) as arrays:
        write_tables(job.output, bonding=table, bonds=bonds_table(manifest, records, arrays))


run_job(snakemake, main)
