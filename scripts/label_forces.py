"""Reference forces of the displaced supercells of one shard."""

import h5py
import numpy
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.labels import inputs_of_labels, label_supercells, read_outputs


def main(job):
    upstream = read_records(job.input.supercell_records)
    parts = pandas.read_parquet(job.input.manifest).set_index("structure_id")["part"]
    counts = read_records(job.input.assignment).set_index("structure_id")["n_reference"]
    engine = engine_of(job)
    outputs = read_outputs(job.input.get("outputs"))

    with h5py.File(job.input.supercells) as store:

        def indices(structure_id):
            return numpy.arange(int(counts[structure_id]))

        def label(structure_id):
            if parts[structure_id] not in job.params.parts:
                return Outcome(status="skipped", reason=f"part {parts[structure_id]} gets no labels at the start")
            return label_supercells(engine, structure_id, store[structure_id], indices(structure_id))

        def own_inputs(structure_id):
            if parts[structure_id] not in job.params.parts:
                return None
            return inputs_of_labels(store[structure_id], indices(structure_id), outputs.get(structure_id))

        ids = list(upstream["structure_id"])
        run_shard(job, ids, label, stage="label_forces", upstream=upstream, own_inputs=own_inputs)


run_job(snakemake, main)
