"""Fit the force constants of one shard to the forces on its displaced supercells."""

import h5py

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.lattice.fit import FitterPool
from phonoscreen.lattice.store import read_crystal


def main(job):
    upstream = read_records(job.input.forces_records)
    keys = read_records(job.input.assignment).set_index("structure_id")["basis_key"]

    with h5py.File(job.input.forces) as forces, h5py.File(job.input.supercells) as supercells:
        with h5py.File(job.input.bases) as bases:
            pool = FitterPool(bases, job.params.method, job.params.rotational_sum_rules)

            def fit(structure_id):
                group, supercell, key = forces[structure_id], supercells[structure_id], keys[structure_id]
                displacements = supercell["displacements"][:]
                if "supercell_index" in group:
                    displacements = displacements[group["supercell_index"][:]]
                optional = {x: group[x][:] for x in ("committee_forces", "residual_forces") if x in group}
                fitted = pool.fitter(key).fit(read_crystal(supercell), displacements, group["forces"][:], **optional)
                arrays = {"parameters": fitted.parameters}
                if fitted.parameters_committee is not None:
                    arrays["parameters_committee"] = fitted.parameters_committee
                return Outcome(values=fitted.quality, arrays=arrays, attrs={"basis_key": key})

            ids = list(upstream["structure_id"])
            run_shard(job, ids, fit, stage="fit_force_constants", upstream=upstream)


run_job(snakemake, main)
