"""Relax one share of a shard by the DFT code of the study, or write or collect these calculations."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.calculations import calculate, refuse_failed_share, relaxations, share_of
from phonoscreen.structures.candidate import read_structures_by_id


def main(job):
    structures, settings = read_structures_by_id(job.input.structures), job.params.reference
    tolerance, spacing = job.params.symmetry_tolerance_angstrom, settings["k_spacing_per_angstrom"]
    pieces = relaxations(structures, engine_of(job), job.params.relax, tolerance, spacing)
    table = calculate(share_of(pieces, int(job.wildcards.batch), job.params.jobs_per_shard))
    if job.params.how["mode"] == "run":
        refuse_failed_share(table, "calculate_relaxations")
    write_table(table, job.output.table)


run_job(snakemake, main)
