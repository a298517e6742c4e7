"""Collect the forces that others calculated, of all crystals of a folder."""

from phonoscreen.audit.job import run_job
from phonoscreen.structures.force_sets import collect_force_sets


def main(job):
    output = job.output
    collect_force_sets(
        job.params.folder, output.sets, output.calculations, output.digests, job.work / "unpacked",
        allowed=job.params.allow_mixed,
    )  # fmt: skip


run_job(snakemake, main)
