"""Forces of the published model on every displaced supercell of one shard."""

from pathlib import Path

import h5py
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.forcefield.committee import Lookahead
from phonoscreen.forcefield.publish import load_published
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.stages.committee import predicted_structure


def main(job):
    torch.set_num_threads(job.threads)
    upstream = read_records(job.input.records)
    committee, content = load_published(Path(job.input.model).parent, job.resources.device)
    good = upstream.structure_id[upstream.status == "ok"]

    with h5py.File(job.input.supercells) as store:
        ahead = Lookahead(committee, good, lambda structure_id: Supercells.read(store[structure_id]))

        def compute(structure_id):
            forces, seconds = ahead.forces(structure_id)
            return predicted_structure(committee, Supercells.read(store[structure_id]), forces, content, seconds)

        run_shard(job, list(upstream.structure_id), compute, stage="predict_forces", upstream=upstream)


run_job(snakemake, main)
