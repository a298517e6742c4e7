"""Growth of the training data over the rounds, training histories, and errors on untrained structures per round."""

from phonoscreen.analysis.forces import history_table, round_error_table, round_table
from phonoscreen.analysis.tables import trained_structures, write_tables
from phonoscreen.audit.job import run_job


def main(job):
    trained = trained_structures(job.input.datasets)
    write_tables(
        job.output,
        rounds=round_table(job.input.datasets, job.input.selections, job.input.convergences, job.params.frames),
        round_errors=round_error_table(job.input.validations, trained),
        histories=history_table(job.input.histories),
    )


run_job(snakemake, main)
