"""The enumerated pool in the order in which it is screened."""

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.stages.label_product import read_product
from phonoscreen.stages.screening_order import order_pool
from phonoscreen.structures.enumeration import enumerate_pool, read_rules, read_sizes


def main(job):
    known = pandas.concat([pandas.read_csv(path, dtype=str, keep_default_na=False) for path in job.input.known])
    pool = enumerate_pool(read_rules(job.input.rules), read_sizes(job.input.sizes), known, job.params.seed)
    roles = {record["structure_id"]: record["role"] for record, _ in read_product(job.input.labels)[1]}
    write_table(order_pool(pool, roles, job.params.blocks, job.params.seed, job.params.first), job.output.pool)


run_job(snakemake, main)
