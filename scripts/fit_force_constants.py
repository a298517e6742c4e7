"""Fit the force constants of one shard to the forces on its displaced supercells."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.stages.force_constants import fit_structure
from phonoscreen.structures.own_charges import OwnCharges, blocked_without


def main(job):
    own = job.input.get("charges_records")
    upstream = blocked_without(read_records(job.input.forces_records), read_records(own) if own else None)
    charges = OwnCharges(job.input.get("charges"))
    assigned = read_records(job.input.assignment).set_index("structure_id")
    settings = FitSettings.from_section(job.params.fit)

    with h5py.File(job.input.forces) as forces, h5py.File(job.input.supercells) as supercells:
        with h5py.File(job.input.bases) as bases:
            pool = FitterPool(bases, settings)

            def fit(structure_id):
                return fit_structure(
                    pool, assigned.loc[structure_id], forces[structure_id], supercells[structure_id],
                    job.params.learning_curve, charges,
                )  # fmt: skip

            ids = list(upstream["structure_id"])
            run_shard(job, ids, fit, stage="fit_force_constants", upstream=upstream)


run_job(snakemake, main)
