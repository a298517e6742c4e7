"""Train one member of the committee, warm from the round before."""

import json
import logging
from pathlib import Path

import pandas
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.model import load_model, save_model
from phonoscreen.forcefield.training import HISTORY, train_member


def main(job):
    torch.set_num_threads(job.threads)
    number, member = int(job.wildcards.round), int(job.wildcards.member)
    previous, convergence = job.input.get("previous", []), job.input.get("convergence", [])
    start = load_model(*previous, job.params.force_model["device"]) if previous else None
    checkpoint = Path(f"{job.output.weights}.checkpoint.{job.key}")
    if any(json.loads(Path(path).read_text())["selected"] == 0 for path in convergence):
        logging.info("nothing was selected in the round before: member %d is copied, not trained", member)
        model, history = start, pandas.DataFrame(columns=HISTORY)
    else:
        model, history = train_member(
            job.input.dataset, job.params.force_model, job.params.training,
            seed=job.params.seed, member=member, round_number=number, start=start, checkpoint=checkpoint,
            device=job.params.force_model["device"],
        )  # fmt: skip
    dataset = Dataset(job.input.dataset, model.cutoff_angstrom)
    save_model(
        model, job.output.weights, job.output.settings, elements=dataset.elements(), round=number, member=member,
        training=dict(job.params.training), label_engine=dataset.store.attrs["engine"],
        label_model=dataset.store.attrs["model"],
    )  # fmt: skip
    write_table(history, job.output.history)
    for stale in checkpoint.parent.glob(f"{Path(job.output.weights).name}.checkpoint.*"):
        stale.unlink()


run_job(snakemake, main)
