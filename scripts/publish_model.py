"""Publish the committee of the last round."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.forcefield.publish import publish_model


def main(job):
    publish_model(
        list(zip(job.input.weights, job.input.settings, strict=True)),
        list(job.output.weights),
        job.output.settings,
        job.output.card,
        dataset=read_records(job.input.dataset_table),
        dataset_path=job.input.dataset,
        validation=read_records(job.input.validation),
        code=job.params.code,
        licence=job.params.licence,
    )


run_job(snakemake, main)
