"""Two-dimensional map of the structure vectors, one per structure, at the centre of its cell."""

import pandas

from phonoscreen.analysis.embedding import embedding_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job


def main(job):
    manifest = pandas.read_parquet(job.input.manifest)
    write_tables(
        job.output, embedding=embedding_table(manifest, job.input.relaxed, job.params.force_model, job.params.seed)
    )


run_job(snakemake, main)
