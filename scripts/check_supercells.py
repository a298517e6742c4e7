"""Thermal conductivity of a few structures with the next larger supercell, from reference forces."""

import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import run_shard
from phonoscreen.force_constants.settings import SupercellSettings
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.supercell_size import compare_supercells, small_structures
from phonoscreen.stages.transport import transport_of
from phonoscreen.structures.candidate import read_structures_by_id
from phonoscreen.structures.prototypes import classify
from phonoscreen.structures.relaxation import relax


def main(job):
    structures = read_structures_by_id(job.input.structures)
    chosen = job.params.structures
    if chosen is None:
        chosen = small_structures(pandas.read_parquet(job.input.manifest), job.params.seed)
    supercell = SupercellSettings.from_section(job.params.supercell)
    relaxing = engine_of(job, job.params.reference_relax, folder="relax")
    engine = engine_of(job, folder="supercells")
    tolerance = job.params.symmetry_tolerance_angstrom

    def check(structure_id):
        if structure_id not in structures:
            raise StudyError(
                "not among the candidates", where=f"{structure_id}, stage check_supercells",
                fix="correct supercell_check.structures",
            )  # fmt: skip
        relaxed = relax(
            classify(structures[structure_id], tolerance).atoms,
            lambda moved, step: relaxing.evaluate(moved, f"{structure_id}/relax-{step}"),
            tolerance_angstrom=tolerance,
            **job.params.relax,
        )
        atoms = classify(relaxed.atoms, tolerance).atoms
        return compare_supercells(
            atoms, structure_id, engine, supercell, job.params.force_constants, transport_of(job),
            job.params.supercell["displacement_angstrom"], job.params.seed,
        )  # fmt: skip

    run_shard(job, chosen, check, stage="check_supercells")


run_job(snakemake, main)
