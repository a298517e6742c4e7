"""COHP of the relaxed primitive cells of one shard that have a thermal conductivity."""

import h5py
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.bonding.engines import what_is_missing
from phonoscreen.bonding.selection import choose_structures
from phonoscreen.stages.bonding import analyse_structure
from phonoscreen.structures.store import read_crystal


def main(job):
    manifest, upstream = pandas.read_parquet(job.input.manifest), read_records(job.input.relaxed_records)
    transport = read_records(job.input.transport_records)
    solved = set(transport.loc[transport["status"] == "ok", "structure_id"])
    chosen = choose_structures(manifest, job.params.structures_max, job.params.seed)
    missing = what_is_missing(job.params.engine)

    with h5py.File(job.input.relaxed) as relaxed:

        def compute(structure_id):
            if structure_id not in chosen:
                return Outcome(status="skipped", reason=f"beyond bonding.structures_max = {job.params.structures_max}")
            if structure_id not in solved:
                return Outcome(status="skipped", reason="no thermal conductivity from the predicted forces")
            if missing:
                return Outcome(status="skipped", reason=missing)
            crystal = read_crystal(relaxed[structure_id])
            return analyse_structure(crystal, structure_id, job.params.engine, job.params.outputs)

        run_shard(job, list(upstream.structure_id), compute, stage="analyse_bonding", upstream=upstream)


run_job(snakemake, main)
