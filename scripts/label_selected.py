"""Reference forces of the supercells that the committee asked for, one shard of one round."""

import h5py
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import run_shard
from phonoscreen.reference.registry import make_engine
from phonoscreen.stages.labels import label_supercells


def main(job):
    selection = pandas.read_parquet(job.input.selection)
    selection = selection[selection["shard"] == job.wildcards.shard]
    wanted = {name: sorted(rows) for name, rows in selection.groupby("structure_id")["supercell_index"]}
    # The potential is loaded only where there is something to label.
    engine = make_engine(job.params.reference, job.threads, f"{job.output.arrays}.calculations") if wanted else None

    with h5py.File(job.input.arrays) as store:

        def label(structure_id):
            return label_supercells(engine, structure_id, store[structure_id], wanted[structure_id])

        run_shard(job, sorted(wanted), label, stage="label_selected")


run_job(snakemake, main)
