"""Forces of the published model and of universal potentials on structures no round was trained on."""

import pandas

from phonoscreen.analysis.forces import component_table, force_error_table
from phonoscreen.analysis.tables import trained_structures, validation_structures, write_tables
from phonoscreen.audit.job import run_job


def main(job):
    manifest = pandas.read_parquet(job.input.manifest)
    untrained = validation_structures(manifest, trained_structures(job.input.datasets, manifest, job.input.compounds))
    forces = job.input.labels, job.input.predicted, job.input.baselines, untrained
    write_tables(
        job.output,
        force_errors=force_error_table(*forces),
        force_components=component_table(*forces, job.params.components_max),
    )


run_job(snakemake, main)
