"""Errors of one round's committee on the structures that no round trains on."""

import json

import h5py
import numpy
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.dataset import Supercells
from phonoscreen.forcefield.validation import force_errors, squares_by_element


def main(job):
    torch.set_num_threads(job.threads)
    manifest = read_records(job.input.manifest)
    prototypes = manifest[manifest.part == "validation"].set_index("structure_id").prototype
    supercells, labels = files_of(job.input.supercells), files_of(job.input.labels)
    committee = Committee.load(job.input.weights, job.input.settings, job.resources.device)

    def compute(structure_id):
        data = Supercells.read(supercells[structure_id][structure_id])
        group = labels[structure_id][structure_id]
        data.displacements = data.displacements[numpy.asarray(group["supercell_index"][:], dtype=int)]
        forces = committee.supercell_forces(data)
        reference = group["forces"][:]
        errors = force_errors(forces, committee.perfect_crystal_forces(data), reference)
        numbers = numpy.tile(data.crystal.numbers, data.n_atoms // len(data.crystal.numbers))
        return Outcome(
            values={
                "round": int(job.wildcards.round),
                "engine": str(group.attrs["engine"]),
                "prototype": prototypes[structure_id],
                "squares_by_element": json.dumps(squares_by_element(forces.mean(axis=0), reference, numbers)),
                **errors,
            }
        )

    run_shard(job, list(prototypes.index), compute, stage="validate_round", upstream=read_records(job.input.records))


def files_of(paths):
    stores = [h5py.File(path) for path in paths]
    return {structure_id: store for store in stores for structure_id in store}


run_job(snakemake, main)
