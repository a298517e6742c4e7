"""Errors of one round's committee on the structures that no round trains on."""

import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_manifest, read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.forcefield.committee import Committee
from phonoscreen.stages.committee import validate_structure
from phonoscreen.structures.labelled_supercells import read_labelled


def main(job):
    torch.set_num_threads(job.threads)
    manifest, upstream = read_manifest(job.input.manifest), read_records(job.input.records)
    prototypes = manifest[manifest.part == "validation"].set_index("structure_id").prototype
    committee = Committee.load(job.input.weights, job.input.settings, job.resources.device)

    with ShardFiles(job.input.supercells) as supercells, ShardFiles(job.input.labels) as labels:

        def compute(structure_id):
            labelled = read_labelled(labels.group(structure_id), supercells.group(structure_id))
            return validate_structure(committee, labelled, prototypes[structure_id], int(job.wildcards.round))

        run_shard(job, list(prototypes.index), compute, stage="validate_round", upstream=upstream)


run_job(snakemake, main)
