"""The structures of one block of the pool, from relaxation to conductivity, with the forces of a published model."""

from pathlib import Path

import pandas
import torch

from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import run_shard
from phonoscreen.forcefield.publish import load_published
from phonoscreen.stages.screening_block import BlockScreening
from phonoscreen.stages.screening_product import write_origin
from phonoscreen.structures.prototypes import read_prototypes


def main(job):
    torch.set_num_threads(1)  # small crystals: threads of their own would only wait
    settings = {**job.params.settings, "transport": {**job.params.settings["transport"]}}
    pool = pandas.read_parquet(job.input.pool)
    rows = pool[pool["block"] == int(job.wildcards.block)].set_index("structure_id", drop=False)
    committee, content = load_published(Path(job.input.model[0]).parent, job.resources.device)
    types = read_prototypes(job.input.prototypes)["structure_types"]
    with BlockScreening(committee, content, settings, types) as screening:
        run_shard(job, list(rows.index), lambda name: screening.solve(rows.loc[name]), stage="screen_block")
        write_origin(job.output.origin, screening.origin, job.params.code)


run_job(snakemake, main)
