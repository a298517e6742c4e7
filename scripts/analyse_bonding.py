"""COHP of the relaxed primitive cells of one shard that have a thermal conductivity."""

import time

import h5py
import numpy
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.bonding.cohp import bonding_and_antibonding
from phonoscreen.bonding.engines import find_cohp, what_is_missing
from phonoscreen.bonding.selection import choose_structures
from phonoscreen.crystal.constants import Crystal


def main(job):
    manifest, upstream = pandas.read_parquet(job.input.manifest), read_records(job.input.relaxed_records)
    transport = read_records(job.input.transport_records)
    solved = set(transport.loc[transport["status"] == "ok", "structure_id"])
    chosen = choose_structures(manifest, job.params.structures_max, job.params.seed)
    store, missing = h5py.File(job.input.relaxed), what_is_missing(job.params.engine)

    def compute(structure_id):
        if structure_id not in chosen:
            return Outcome(status="skipped", reason=f"beyond bonding.structures_max = {job.params.structures_max}")
        if structure_id not in solved:
            return Outcome(status="skipped", reason="no thermal conductivity from the predicted forces")
        if missing:
            return Outcome(status="skipped", reason=missing)
        begin, group = time.process_time(), store[structure_id]
        crystal = Crystal(group["cell"][()], group["scaled_positions"][()], group["numbers"][()], None)
        cohp = find_cohp(crystal, structure_id, engine=job.params.engine, outputs=job.params.outputs)
        bonding, antibonding = bonding_and_antibonding(cohp)
        types = cohp.bond_types()
        return Outcome(
            values={
                "bonding_ev": bonding,
                "antibonding_ev": antibonding,
                "n_pairs": len(cohp.icohp_ev),
                "engine": job.params.engine,
                "icohp_strongest_ev": float(cohp.icohp_ev.min()),
                "seconds": time.process_time() - begin,
            },
            arrays={
                "energies_ev": cohp.energies_ev,
                "bond_types": numpy.array([name for name, _, _ in types], dtype=h5py.string_dtype()),
                "lengths_angstrom": [length for _, length, _ in types],
                "n_pairs": [len(members) for _, _, members in types],
                "cohp": [cohp.curves[members].mean(axis=0) for _, _, members in types],
                "icohp_ev": [cohp.icohp_ev[members].mean() for _, _, members in types],
            },
            attrs={"engine": job.params.engine},
        )

    run_shard(job, list(upstream.structure_id), compute, stage="analyse_bonding", upstream=upstream)


run_job(snakemake, main)
