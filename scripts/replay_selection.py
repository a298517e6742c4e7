"""Active learning replayed on labelled compounds with one strategy and one seed."""

import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.experiment.selection_trial import Oracle, replay


def main(job):
    torch.set_num_threads(job.threads)
    manifest, labels = read_records(job.input.manifest), ShardFiles(job.input.labels)
    labelled = manifest[manifest.structure_id.isin(labels)]
    parts = {part: set(group.structure_id) for part, group in labelled.groupby("part")}
    oracle = Oracle(ShardFiles(job.input.supercells), labels, manifest, parts["training"], parts["validation"])
    selection, strategy, repeat = job.params.selection, job.wildcards.strategy, int(job.wildcards.repeat)
    table = replay(
        oracle, strategy, job.params.model["force_model"], job.params.model["training"], members=selection["members"],
        start=selection["compounds_start"], per_round=selection["compounds_per_round"], rounds=selection["rounds"],
        seed=derive_seed(job.params.seed, "replay", repeat),
    )  # fmt: skip
    write_table(table.assign(strategy=strategy, repeat=repeat), job.output.table)


run_job(snakemake, main)
