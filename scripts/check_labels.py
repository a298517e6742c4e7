"""Take out labels whose forces show a mistake, one shard."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.checked_labels import LabelChecker


def main(job):
    upstream = read_records(job.input.records)
    keys = read_records(job.input.assignment).set_index("structure_id")["basis_key"]

    with h5py.File(job.input.labels) as labels, h5py.File(job.input.supercells) as supercells:
        with h5py.File(job.input.bases) as bases:
            checker = LabelChecker(bases)

            def check(structure_id):
                return checker.check(keys[structure_id], labels[structure_id], supercells[structure_id])

            run_shard(job, list(upstream["structure_id"]), check, stage="check_labels", upstream=upstream)


run_job(snakemake, main)
