"""Phonon properties and thermal conductivity of every stable structure of one shard."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.stages.solvers import choose_solver
from phonoscreen.stages.stored_force_constants import SINGLE, StoredForceConstants
from phonoscreen.stages.transport import transport_of
from phonoscreen.structures.store import read_crystal


def main(job):
    transport, upstream = transport_of(job), read_records(job.input.records)

    with h5py.File(job.input.relaxed) as relaxed:
        with StoredForceConstants(job.input.force_constants, job.input.bases) as store:
            solver = choose_solver(transport)

            def solve(structure_id):
                if store.second_order_alone(structure_id):
                    return Outcome(status="skipped", reason=SINGLE)
                crystal = read_crystal(relaxed[structure_id])
                return solver(store.task(structure_id, crystal, transport, transport["committee"]), transport)

            run_shard(job, list(upstream["structure_id"]), solve, stage="solve_bte", upstream=upstream)


run_job(snakemake, main)
