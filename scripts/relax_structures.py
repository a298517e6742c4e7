"""Relax cell and free coordinates of one shard with the symmetry kept."""

import json

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.reference.engine import make_engine
from phonoscreen.structures.candidate import read_structures_by_id, write_structures
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.relaxation import free_coordinates, lattice_constant_angstrom, relax
from phonoscreen.structures.store import read_structures, structure_arrays


def main(job):
    initial = read_structures_by_id(job.input.structures)
    engine = make_engine(job.params.reference, job.threads, folder=f"{job.output.records}.calculations")
    tolerance = job.params.symmetry_tolerance_angstrom

    def relax_one(structure_id):
        atoms = initial[structure_id]
        before = classify(atoms, tolerance)
        result = relax(
            before.atoms,
            lambda moved, step: engine.evaluate(moved, f"{structure_id}/relax-{step}"),
            tolerance_angstrom=tolerance,
            **job.params.relax,
        )
        after = classify(result.atoms, tolerance)
        if after.prototype != before.prototype or len(after.atoms) != len(before.atoms):
            raise StudyError(f"the symmetry changed from {before.prototype} to {after.prototype}", where=structure_id)
        values = {
            "lattice_constant_angstrom": lattice_constant_angstrom(after.atoms),
            "energy_ev_per_atom": result.energy_ev / len(atoms),
            "force_max_ev_per_angstrom": result.force_max_ev_per_angstrom,
            "pressure_gpa": result.pressure_gpa,
            "steps": result.steps,
            "free_coordinates": json.dumps(free_coordinates(after.atoms, tolerance)),
            "reference": engine.name,
        }
        if not result.converged:
            reason = f"{result.force_max_ev_per_angstrom:.4f} eV/angstrom, {result.pressure_gpa:.3f} GPa left"
            return Outcome(values=values, status="not_converged", reason=reason)
        return Outcome(values=values, arrays=structure_arrays(after.atoms))

    run_shard(job, list(initial), relax_one, stage="relax_structures")
    write_structures(read_structures(job.output.arrays), job.output.structures)


run_job(snakemake, main)  # noqa: F821
