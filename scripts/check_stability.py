"""Phonon frequencies of one shard along the band path and on a mesh; imaginary ones mean unstable."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.phonons.stability import check_stability
from phonoscreen.stages.stored_force_constants import StoredForceConstants
from phonoscreen.structures.store import read_crystal


def main(job):
    upstream = read_records(job.input.records)

    with h5py.File(job.input.relaxed) as relaxed:
        with StoredForceConstants(job.input.force_constants, job.input.bases) as store:

            def check(structure_id):
                verdict = check_stability(
                    read_crystal(relaxed[structure_id]),
                    store.second_order(structure_id),
                    job.params.imaginary_threshold_thz,
                    store.second_order_committee(structure_id),
                    store.charges(structure_id) if job.params.non_analytic_correction else None,
                )
                return Outcome(
                    values=verdict.values, arrays=verdict.arrays, status=verdict.status, reason=verdict.reason
                )

            run_shard(job, list(upstream["structure_id"]), check, stage="check_stability", upstream=upstream)


run_job(snakemake, main)
