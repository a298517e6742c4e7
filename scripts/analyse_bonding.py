"""COHP of the relaxed primitive cells of one shard: kept records, and calculations where there is a conductivity."""

import h5py
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.bonding import Analyst
from phonoscreen.structures.store import read_crystal


def main(job):
    upstream = read_records(job.input.relaxed_records)
    transport = read_records(job.input.transport_records)
    solved = set(transport.loc[transport["status"] == "ok", "structure_id"])
    analyst = Analyst(
        pandas.read_parquet(job.input.manifest), job.params, next(iter(job.input.get("records", [])), None)
    )

    with h5py.File(job.input.relaxed) as relaxed:

        def compute(structure_id):
            return analyst.analyse(read_crystal(relaxed[structure_id]), structure_id, structure_id in solved)

        run_shard(job, list(upstream.structure_id), compute, stage="analyse_bonding", upstream=upstream)


run_job(snakemake, main)
