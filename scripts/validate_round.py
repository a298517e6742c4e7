"""Errors of one round's committee on the structures that no round trains on."""

import h5py
import numpy
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import Supercells
from phonoscreen.forcefield.validation import force_errors


def main(job):
    torch.set_num_threads(job.threads)
    manifest = read_records(job.input.manifest)
    ids = list(manifest.structure_id[manifest.part == "validation"])
    supercells, labels = files_of(job.input.supercells), files_of(job.input.labels)
    committee = Committee.load(job.input.weights, job.input.settings, job.params.device)

    def compute(structure_id):
        data = Supercells.read(supercells[structure_id][structure_id])
        group = labels[structure_id][structure_id]
        data.displacements = data.displacements[numpy.asarray(group["supercell_index"][:], dtype=int)]
        forces = committee.supercell_forces(data)
        errors = force_errors(forces, committee.perfect_crystal_forces(data), group["forces"][:])
        return Outcome(values={"round": int(job.wildcards.round), "engine": str(group.attrs["engine"]), **errors})

    run_shard(job, ids, compute, stage="validate_round", upstream=read_records(job.input.records))


def files_of(paths):
    stores = [h5py.File(path) for path in paths]
    return {structure_id: store for store in stores for structure_id in store}


run_job(snakemake, main)
