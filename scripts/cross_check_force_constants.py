"""Fit the force constants of a few structures of each source again with hiphive and with symfc, to the same forces."""

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.stages.independent_fits import COLUMNS, compare_structures, smallest_structures
from phonoscreen.structures.own_charges import OwnCharges


def main(job):
    rows, assignment = [], read_records(job.input.assignment)
    charges = OwnCharges(job.input.get("charges"))
    shells = assignment.set_index("structure_id")["third_shell"]
    for source in job.params.sources:
        fitted = read_records(getattr(job.input, f"records_{source}"))
        chosen = smallest_structures(fitted, assignment, job.params.structures_per_source)
        with ShardFiles(getattr(job.input, f"forces_{source}")) as forces:
            with ShardFiles(job.input.supercells) as supercells:
                found = compare_structures(chosen, forces, supercells, charges, shells, job.params.force_constants)
        rows += [{**row, "source": source} for row in found]
    write_table(pandas.DataFrame(rows, columns=COLUMNS), job.output.records)


run_job(snakemake, main)
