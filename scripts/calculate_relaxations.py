"""Relax one share of a shard by the DFT code of the study, or write or collect these calculations."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.calculations import calculate, relaxations, share_of
from phonoscreen.structures.candidate import read_structures_by_id


def main(job):
    structures, settings = read_structures_by_id(job.input.structures), job.params.reference
    tolerance, spacing = job.params.symmetry_tolerance_angstrom, settings["k_spacing_per_angstrom"]
    pieces = relaxations(structures, engine_of(job), job.params.relax, tolerance, spacing)
    write_table(calculate(share_of(pieces, int(job.wildcards.batch), job.params.jobs_per_shard)), job.output.table)


run_job(snakemake, main)
