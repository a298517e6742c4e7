"""Download what the OQMD or an OPTIMADE service answers to the study into one snapshot."""

import shutil

from phonoscreen.audit.job import run_job
from phonoscreen.structures.filters import allowed_classes
from phonoscreen.structures.pages import Pager
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.services import download, request_of


def main(job):
    source = job.params.source
    classes = allowed_classes(job.params.filter["classes"], read_prototypes(job.input.prototypes)["classes"])
    request = request_of(source, classes, job.params.filter)
    pages = job.work / "pages" / request.digest()
    download(source["kind"], request, pages, job.output.snapshot, Pager(pause_s=source["request_pause_s"]))
    shutil.rmtree(pages)


run_job(snakemake, main)
