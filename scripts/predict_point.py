"""Forces of one point of a learning curve on compounds never seen and on as many known ones."""

import h5py
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.experiment.subsets import compounds_to_predict
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.supercells import Supercells


def main(job):
    torch.set_num_threads(job.threads)
    upstream = read_records(job.input.records)
    sets = compounds_to_predict(read_records(job.input.manifest), read_records(job.input.dataset), job.params.seed)
    committee = Committee.load(job.input.weights, job.input.settings, job.resources.device)
    store = h5py.File(job.input.supercells)

    def compute(structure_id):
        if structure_id not in sets:
            return Outcome(status="skipped", reason="not among the compounds of the experiment's phonons")
        data = Supercells.read(store[structure_id])
        forces = committee.supercell_forces(data)
        arrays = {"forces": forces.mean(axis=0), "residual_forces": committee.residual_forces(data).mean(axis=0)}
        if len(forces) > 1:
            arrays["committee_forces"] = forces.astype("float32")
        return Outcome(values={"set": sets[structure_id]}, arrays=arrays)

    run_shard(job, list(upstream.structure_id), compute, stage="predict_point", upstream=upstream)


run_job(snakemake, main)
