"""Collect candidates from a list of compounds, files, force sets, or the snapshot of a database service."""

from phonoscreen.audit.job import run_job
from phonoscreen.structures.candidate import write_candidates
from phonoscreen.structures.filters import allowed_classes
from phonoscreen.structures.force_sets import candidates_of_force_sets
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.services import candidates_of_snapshot, request_of
from phonoscreen.structures.sources import read_folder, read_pool


def main(job):
    source, prototypes = job.params.source, read_prototypes(job.input.prototypes)
    if source["kind"] == "pool":
        candidates = read_pool(source["path"], prototypes["structure_types"])
    elif source["kind"] == "files":
        candidates = read_folder(source["path"])
    elif source["kind"] == "force_sets":
        candidates = candidates_of_force_sets(*job.input.source)
    else:
        classes = allowed_classes(job.params.filter["classes"], prototypes["classes"])
        request = request_of(source, classes, job.params.filter)
        candidates = candidates_of_snapshot(source["snapshot"], source["kind"], request)
    write_candidates(candidates, job.output.structures, job.output.table)


run_job(snakemake, main)
