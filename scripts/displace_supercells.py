"""Displace every atom of every supercell of one shard by a fixed length in a random direction."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.displaced_supercells import displace_structure


def main(job):
    ids = list(read_records(job.input.relaxed_records)["structure_id"])
    assignment = read_records(job.input.assignment)
    rows = assignment[assignment["structure_id"].isin(ids)].set_index("structure_id")

    with h5py.File(job.input.relaxed) as store:

        def displace(structure_id):
            settings = job.params.displacement_angstrom, job.params.seed
            return displace_structure(structure_id, store[structure_id], rows.loc[structure_id], *settings)

        run_shard(job, ids, displace, stage="displace_supercells", upstream=assignment)


run_job(snakemake, main)
