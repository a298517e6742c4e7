"""Phonon properties of all structures, modes of the compounds of figure 7, and displacements per element."""

import pandas

from phonoscreen.analysis.compounds import figure7_structures
from phonoscreen.analysis.tables import trained_structures, write_tables
from phonoscreen.analysis.transport import element_table, mode_table, transport_table
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records


def main(job):
    records = {
        "reference": read_records(job.input.records_reference),
        "predicted": read_records(job.input.records_predicted),
    }
    arrays = {"reference": job.input.arrays_reference, "predicted": job.input.arrays_predicted}
    manifest = pandas.read_parquet(job.input.manifest)
    compounds = figure7_structures(manifest, read_records(job.input.relaxed_records))
    write_tables(
        job.output,
        transport=transport_table(
            manifest, records, trained_structures(job.input.datasets, manifest, job.input.compounds)
        ),
        modes=mode_table(compounds, arrays),
        elements=element_table(job.input.relaxed, arrays, records),
    )


run_job(snakemake, main)
