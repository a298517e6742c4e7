"""Phonon properties and thermal conductivity of every stable structure of one shard."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.solvers import choose_solver
from phonoscreen.stages.stored_force_constants import StoredForceConstants, read_crystal
from phonoscreen.stages.transport import Task, transport_of


def main(job):
    transport, upstream = transport_of(job), read_records(job.input.records)

    with h5py.File(job.input.relaxed) as relaxed:
        with StoredForceConstants(job.input.force_constants, job.input.bases) as store:

            def read(structure_id):
                committee = ()
                if transport["committee"]:
                    seconds = store.second_order_committee(structure_id)
                    committee = tuple(zip(seconds, store.third_order_committee(structure_id), strict=True))
                return Task(
                    read_crystal(relaxed[structure_id]),
                    store.second_order(structure_id),
                    store.third_order(structure_id),
                    committee,
                    store.charges(structure_id) if transport["non_analytic_correction"] else None,
                )

            solver = choose_solver(transport)

            def solve(structure_id):
                return solver(read(structure_id), transport)

            run_shard(job, list(upstream["structure_id"]), solve, stage="solve_bte", upstream=upstream)


run_job(snakemake, main)
