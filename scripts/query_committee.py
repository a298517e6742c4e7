"""How far the committee disagrees on every displaced supercell of the unexplored structures of one shard."""

import json
from pathlib import Path

import h5py
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.forcefield.committee import Committee, Lookahead, uncertainty
from phonoscreen.forcefield.dataset import Supercells


def main(job):
    torch.set_num_threads(job.threads)
    manifest = read_records(job.input.manifest).set_index("structure_id")
    upstream = read_records(job.input.records)
    before = [json.loads(Path(path).read_text()) for path in job.input.get("convergence", [])]
    converged = any(verdict["converged"] for verdict in before)
    committee = Committee.load(job.input.weights, job.input.settings, job.resources.device)
    store = h5py.File(job.input.supercells)
    asked = upstream.structure_id[
        (upstream.status == "ok") & (upstream.structure_id.map(manifest.part) == "unexplored")
    ]
    ahead = Lookahead(committee, asked, lambda structure_id: Supercells.read(store[structure_id]))

    def compute(structure_id):
        part = manifest.part[structure_id]
        if part != "unexplored":
            return Outcome(status="skipped", reason=f"part {part}")
        if converged:
            return Outcome(status="skipped", reason="the rounds before have converged")
        epsilon = uncertainty(ahead.forces(structure_id)[0]).max(axis=1)
        return Outcome(
            values={
                "supercell_index": int(epsilon.argmax()),
                "epsilon_max_mev_per_angstrom": 1e3 * float(epsilon.max()),
                "epsilon_mev_per_angstrom": (1e3 * epsilon).tolist(),
            }
        )

    run_shard(job, list(upstream.structure_id), compute, stage="query_committee", upstream=upstream)


run_job(snakemake, main)
