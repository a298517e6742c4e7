"""Collect candidates from a list of compounds, a folder of files, the OQMD or an OPTIMADE service."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.structures.candidate import candidate_table, write_structures
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.sources import read_folder, read_pool


def main(job):
    source, prototypes = job.params.source, read_prototypes(job.input.prototypes)
    if source["kind"] == "pool":
        candidates = read_pool(source["path"], prototypes["structure_types"])
    elif source["kind"] == "files":
        candidates = read_folder(source["path"])
    elif source["kind"] == "oqmd":
        from phonoscreen.structures.oqmd import collect_oqmd

        candidates = collect_oqmd(source["url"], source["snapshot"], prototypes["classes"])
    else:
        from phonoscreen.structures.optimade import collect_optimade

        candidates = collect_optimade(source["url"], source["snapshot"], prototypes["classes"])
    write_structures({one.structure_id: one.atoms for one in candidates if one.atoms is not None}, job.output.structures)
    write_table(candidate_table(candidates), job.output.table)


run_job(snakemake, main)  # noqa: F821
