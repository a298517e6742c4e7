"""Train one member with changed settings and measure it on held-out structures."""

import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.experiment.ablation import measure


def main(job):
    torch.set_num_threads(job.threads)
    write_table(
        measure(job.input.dataset, job.params.seed, device=job.resources.device, **job.params.training),
        job.output.table,
    )


run_job(snakemake, main)
