"""Thermal conductivity of a few structures with the next larger supercell, from reference forces."""

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import run_shard
from phonoscreen.force_constants.settings import SupercellSettings
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.relaxing import relaxing_engine
from phonoscreen.stages.supercell_size import compare_supercells, not_possible, relaxed_primitive, small_structures
from phonoscreen.stages.transport import transport_of
from phonoscreen.structures.candidate import read_structures_by_id
from phonoscreen.structures.own_charges import OwnCharges
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.third_order_reach import ThirdOrderReach


def main(job):
    structures = read_structures_by_id(job.input.structures)
    asked, manifest = job.params.structures, pandas.read_parquet(job.input.manifest)
    chosen = small_structures(manifest, job.params.seed) if asked is None else asked
    supercell = SupercellSettings.from_section(job.params.supercell)
    relaxing = relaxing_engine(job, job.params.reference_relax, folder="relax")
    reach = ThirdOrderReach(read_prototypes(job.input.prototypes)["structure_types"])
    engine = engine_of(job, folder="supercells")

    def check(structure_id):
        if left_out := not_possible(engine):
            return left_out
        tolerance = job.params.symmetry_tolerance_angstrom
        atoms = relaxed_primitive(structures, structure_id, relaxing, job.params.relax, tolerance)
        return compare_supercells(
            atoms, structure_id, engine, supercell, job.params.force_constants, transport_of(job),
            job.params.supercell["displacement_angstrom"], job.params.seed, reach, OwnCharges(job.input.get("charges")),
        )  # fmt: skip

    run_shard(job, chosen, check, stage="check_supercells")


run_job(snakemake, main)
