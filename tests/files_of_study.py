"""How many files a study of the paper's size keeps: those of its plan, and what finished jobs keep beside them."""

import os
from collections import Counter
from pathlib import Path

from phonoscreen.workflow.plan import plan_study
from phonoscreen.workflow.resources import COSTS


def files_of_a_job(folder):
    """The most files that one finished job of each rule keeps beside its products, by rule."""
    most = {}
    for rule in COSTS:
        records = list((folder / "results/provenance" / rule).glob("*.json"))
        kept = [
            sum(path.is_file() for path in place.rglob("*")) for place in (folder / "results/work" / rule).glob("*")
        ]
        if records:
            most[rule] = 3 + max(kept, default=0)  # provenance, log and benchmark file
    return most


def study_of_the_paper(root):
    """Jobs and files of each rule of the study of ``config.yaml``, with the files that a finished study shows."""
    there = Path.cwd()
    os.chdir(root)
    try:
        _, planned = plan_study(["--profile", "slurm"])
    finally:
        os.chdir(there)
    jobs = Counter(job.rule for job in planned if job.rule in COSTS)
    products = Counter()
    for job in planned:
        products[job.rule] += 3 * len(job.outputs)  # each with its record, and with the entry of Snakemake
    return jobs, products
