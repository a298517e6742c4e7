"""One table of all structures that were screened."""

from phonoscreen.audit.job import run_job
from phonoscreen.forcefield.models.model_json import read_model_json
from phonoscreen.stages.screening_product import calibrate, gather, write_product


def main(job):
    table, origin = gather(job.input.records, job.input.origins, job.input.pool)
    write_product(*calibrate(table, origin, read_model_json(job.input.model)), job.output.table)


run_job(snakemake, main)
