"""The same check of the labels that the committee asked for in one round, all shards."""

from contextlib import ExitStack

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.checked_labels import LabelChecker


def main(job):
    upstream = read_records(job.input.records)
    keys = read_records(job.input.assignment).set_index("structure_id")["basis_key"]

    with ExitStack() as opened:
        bases = opened.enter_context(h5py.File(job.input.bases))
        labels, supercells = {}, {}
        for found, paths in ((labels, job.input.labels), (supercells, job.input.supercells)):
            for path in paths:
                store = opened.enter_context(h5py.File(path))
                found.update(dict.fromkeys(store, store))
        checker = LabelChecker(bases)

        def check(structure_id):
            return checker.check(
                keys[structure_id], labels[structure_id][structure_id], supercells[structure_id][structure_id]
            )

        run_shard(job, list(upstream["structure_id"]), check, stage="check_selected", upstream=upstream)


run_job(snakemake, main)
