"""Forces of the published model on every displaced supercell of one shard."""

from pathlib import Path

import h5py
import numpy
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.forcefield.committee import Lookahead, uncertainty
from phonoscreen.forcefield.dataset import Supercells
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.publish import load_published


def main(job):
    torch.set_num_threads(job.threads)
    upstream = read_records(job.input.records)
    committee, content = load_published(Path(job.input.model).parent, job.resources.device)
    store = h5py.File(job.input.supercells)
    ids = list(upstream.structure_id)
    ahead = Lookahead(committee, upstream.structure_id[upstream.status == "ok"], lambda i: Supercells.read(store[i]))

    def compute(structure_id):
        data = Supercells.read(store[structure_id])
        forces, seconds = ahead.forces(structure_id)
        perfect = committee.perfect_crystal_forces(data).mean(axis=0)
        unseen = sorted(set(data.crystal.numbers.tolist()) - set(content["elements"]))
        return Outcome(
            values={
                "force_rms_ev_per_angstrom": float(numpy.sqrt((forces.mean(axis=0) ** 2).mean())),
                "epsilon_max_mev_per_angstrom": 1e3 * float(uncertainty(forces).max()),
                "perfect_crystal_force_max_mev_per_angstrom": 1e3 * float(numpy.abs(perfect).max()),
                "seconds_per_supercell": seconds / len(data.displacements),
                "elements_not_trained": " ".join(SYMBOLS[number] for number in unseen),
            },
            arrays={
                "forces": forces.mean(axis=0),
                "committee_forces": forces.astype(numpy.float32),
                "residual_forces": committee.residual_forces(data).mean(axis=0),
            },
            attrs={"engine": content["kind"], "model": content["code"]},
        )

    run_shard(job, ids, compute, stage="predict_forces", upstream=upstream)


run_job(snakemake, main)
