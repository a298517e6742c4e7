"""Train one member of the committee, warm from the round before."""

import json
import logging
import shutil
from pathlib import Path

import pandas
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.forcefield.member import train_to_files
from phonoscreen.forcefield.models.model_json import read_model_json, write_model_json
from phonoscreen.forcefield.training import HISTORY


def main(job):
    torch.set_num_threads(job.threads)
    number, previous = int(job.wildcards.round), [str(path) for path in job.input.get("previous", [])]
    convergence = job.input.get("convergence", [])
    if any(json.loads(Path(path).read_text())["selected"] == 0 for path in convergence):
        logging.info("nothing was selected in the round before: the member is copied, not trained")
        shutil.copyfile(previous[0], job.output.weights)
        write_model_json({**read_model_json(previous[1]), "round": number}, job.output.settings)
        write_table(pandas.DataFrame(columns=HISTORY), job.output.history)
        return
    warm = number == 0 or job.params.training["warm_start"]
    train_to_files(
        job.input.dataset, job.params.force_model, job.params.training, weights=job.output.weights,
        model=job.output.settings, history=job.output.history, seed=job.params.seed,
        member=int(job.wildcards.member), round_number=number, key=job.key, start=previous if warm else None,
        device=job.resources.device, processes=job.resources.processes, folder=job.work,
    )  # fmt: skip


run_job(snakemake, main)
