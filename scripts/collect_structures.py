"""Collect candidates from a list of compounds, a folder of files, the OQMD or an OPTIMADE service."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.structures.candidate import candidate_table, write_structures
from phonoscreen.structures.oqmd import collect_optimade, collect_oqmd
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.sources import read_folder, read_pool


def main(job):
    source, prototypes = job.params.source, read_prototypes(job.input.prototypes)
    if source["kind"] == "pool":
        candidates = read_pool(source["path"], prototypes["structure_types"])
    elif source["kind"] == "files":
        candidates = read_folder(source["path"])
    else:
        collect = {"oqmd": collect_oqmd, "optimade": collect_optimade}[source["kind"]]
        candidates = collect(source["url"], source["snapshot"], prototypes["classes"], *job.params.energy_limits)
    structures = {one.structure_id: one.atoms for one in candidates if one.atoms is not None}
    write_structures(structures, job.output.structures)
    write_table(candidate_table(candidates), job.output.table)


run_job(snakemake, main)
