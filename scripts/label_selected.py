"""Reference forces of the supercells that the committee asked for, one shard of one round."""

import h5py
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.shard import run_shard
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.labels import inputs_of_labels, label_supercells, read_outputs


def main(job):
    selection = pandas.read_parquet(job.input.selection)
    selection = selection[selection["shard"] == job.wildcards.shard]
    wanted = {name: sorted(rows) for name, rows in selection.groupby("structure_id")["supercell_index"]}
    # The potential is loaded only where there is something to label.
    engine = engine_of(job) if wanted else None
    outputs = read_outputs(job.input.get("outputs"))

    with h5py.File(job.input.arrays) as store:

        def label(structure_id):
            return label_supercells(engine, structure_id, store[structure_id], wanted[structure_id])

        def own_inputs(structure_id):
            return inputs_of_labels(store[structure_id], wanted[structure_id], outputs.get(structure_id))

        run_shard(job, sorted(wanted), label, stage="label_selected", own_inputs=own_inputs)


run_job(snakemake, main)
