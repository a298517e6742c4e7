"""Stability, frequency errors and a few band structures from reference and from predicted forces."""

import pandas

from phonoscreen.analysis.phonons import dispersion_table, inset_structures, phonon_table
from phonoscreen.analysis.tables import trained_structures, write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records


def main(job):
    records = {
        "reference": read_records(job.input.records_reference),
        "predicted": read_records(job.input.records_predicted),
    }
    arrays = {"reference": job.input.arrays_reference, "predicted": job.input.arrays_predicted}
    manifest = pandas.read_parquet(job.input.manifest)
    trained = trained_structures(job.input.datasets, manifest, job.input.compounds)
    phonons = phonon_table(manifest, records, arrays, trained)
    write_tables(job.output, phonons=phonons, dispersions=dispersion_table(inset_structures(phonons), arrays))


run_job(snakemake, main)
