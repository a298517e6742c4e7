"""How far the committee disagrees on every displaced supercell of the unexplored structures of one shard."""

import json
from pathlib import Path

import h5py
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.forcefield.committee import Committee, Lookahead
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.stages.committee import disagreement


def main(job):
    torch.set_num_threads(job.threads)
    part = read_records(job.input.manifest).set_index("structure_id").part
    upstream = read_records(job.input.records)
    before = [json.loads(Path(path).read_text()) for path in job.input.get("convergence", [])]
    converged = any(verdict["converged"] for verdict in before)
    committee = Committee.load(job.input.weights, job.input.settings, job.resources.device)
    asked = upstream.structure_id[(upstream.status == "ok") & (upstream.structure_id.map(part) == "unexplored")]

    with h5py.File(job.input.supercells) as store:
        ahead = Lookahead(committee, asked, lambda structure_id: Supercells.read(store[structure_id]))

        def compute(structure_id):
            if part[structure_id] != "unexplored":
                return Outcome(status="skipped", reason=f"part {part[structure_id]}")
            if converged:
                return Outcome(status="skipped", reason="the rounds before have converged")
            return disagreement(ahead.forces(structure_id)[0])

        run_shard(job, list(upstream.structure_id), compute, stage="query_committee", upstream=upstream)


run_job(snakemake, main)
