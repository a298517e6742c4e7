"""Conductivity of a few structures against q mesh, broadening and third-order cutoff."""

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.stages.convergence import converge_structures
from phonoscreen.stages.transport import transport_of
from phonoscreen.structures.own_charges import OwnCharges


def main(job):
    shells = read_records(job.input.assignment).set_index("structure_id")["third_shell"]
    with ShardFiles(job.input.forces) as forces, ShardFiles(job.input.supercells) as supercells:
        charges = OwnCharges(job.input.get("charges"))
        rows = converge_structures(
            forces, supercells, charges, shells, job.params.force_constants, transport_of(job), job.params.convergence
        )
    write_table(pandas.DataFrame(rows), job.output.table)


run_job(snakemake, main)
