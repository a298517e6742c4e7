"""Train one member at one point of a learning curve."""

import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.experiment.subsets import training_for_size
from phonoscreen.forcefield.dataset import Dataset
from phonoscreen.forcefield.models.files import save_model
from phonoscreen.forcefield.training import train_member


def main(job):
    torch.set_num_threads(job.threads)
    settings, size = job.params.model["force_model"], int(job.wildcards.size)
    training = training_for_size(job.params.model["training"], size, job.params.largest)
    checkpoint = job.work / f"checkpoint.{job.key}"
    job.work.mkdir(parents=True, exist_ok=True)
    member = int(job.wildcards.member)
    model, history = train_member(
        job.input.dataset, settings, training, seed=derive_seed(job.params.seed, "point", int(job.wildcards.repeat)),
        member=member, round_number=0, checkpoint=checkpoint, device=job.resources.device,
    )  # fmt: skip
    dataset = Dataset(job.input.dataset, model.cutoff_angstrom)
    save_model(
        model, job.output.weights, job.output.settings, elements=dataset.elements(), round=0, member=member,
        training=dict(training), label_engine=dataset.store.attrs["engine"], label_model=dataset.store.attrs["model"],
    )  # fmt: skip
    write_table(history, job.output.history)
    for stale in job.work.glob("checkpoint.*"):
        stale.unlink()


run_job(snakemake, main)
