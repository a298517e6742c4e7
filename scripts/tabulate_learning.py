"""Growth of the training data over the rounds, training histories, and errors on untrained structures per round."""

import pandas

from phonoscreen.analysis.learning import history_table, round_error_table, round_table
from phonoscreen.analysis.tables import trained_structures, validation_structures, write_tables
from phonoscreen.audit.job import run_job


def main(job):
    manifest = pandas.read_parquet(job.input.manifest)
    untrained = validation_structures(manifest, trained_structures(job.input.datasets, manifest, job.input.compounds))
    write_tables(
        job.output,
        rounds=round_table(job.input.datasets, job.input.selections, job.input.convergences, job.params.frames),
        round_errors=round_error_table(job.input.validations, untrained),
        histories=history_table(job.input.histories),
    )


run_job(snakemake, main)
