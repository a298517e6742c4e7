"""Relax cell and free coordinates of one shard with the symmetry kept."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.kept import digest_of_arrays
from phonoscreen.audit.shard import run_shard
from phonoscreen.stages.labels import read_outputs
from phonoscreen.stages.relaxing import relaxing_engine
from phonoscreen.structures.candidate import read_structures_by_id, write_structures
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_structures, structure_arrays


def main(job):
    initial = read_structures_by_id(job.input.structures)
    engine = relaxing_engine(job, job.params.reference)
    force_sets = read_outputs(job.input.get("force_sets"))
    tolerance = job.params.symmetry_tolerance_angstrom

    def relax_one(structure_id):
        return relax_structure(initial[structure_id], engine, structure_id, job.params.relax, tolerance)

    def own_inputs(structure_id):
        own = [force_sets[structure_id]] if structure_id in force_sets else []
        return digest_of_arrays(*structure_arrays(initial[structure_id]).values(), *own)

    run_shard(job, list(initial), relax_one, stage="relax_structures", own_inputs=own_inputs)
    write_structures(read_structures(job.output.arrays), job.output.structures)


run_job(snakemake, main)
