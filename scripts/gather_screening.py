"""One table of all structures that were screened."""

from phonoscreen.audit.job import run_job
from phonoscreen.stages.screening_product import gather, write_product


def main(job):
    write_product(*gather(job.input.records, job.input.origins, job.input.pool), job.output.table)


run_job(snakemake, main)
