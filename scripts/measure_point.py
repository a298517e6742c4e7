"""Force errors of one point of a learning curve, atom by atom."""

import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.experiment.forces import point_errors
from phonoscreen.forcefield.committee import Committee


def main(job):
    torch.set_num_threads(job.threads)
    manifest, labels = read_records(job.input.manifest), ShardFiles(job.input.labels)
    dataset = read_records(job.input.dataset)
    unseen = set(manifest.structure_id[manifest.part == "validation"]) & set(labels)
    atoms = point_errors(
        Committee.load(job.input.weights, job.input.settings, job.resources.device),
        ShardFiles(job.input.supercells),
        labels,
        set(dataset.structure_id[dataset.split == "training"]),
        unseen,
        job.params.trained_supercells,
    )
    write_table(atoms, job.output.atoms)


run_job(snakemake, main)
