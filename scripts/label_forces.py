"""Reference forces of the displaced supercells of one shard."""

import h5py
import numpy
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.reference.registry import make_engine
from phonoscreen.stages.labels import label_supercells


def main(job):
    upstream = read_records(job.input.supercell_records)
    parts = pandas.read_parquet(job.input.manifest).set_index("structure_id")["part"]
    counts = read_records(job.input.assignment).set_index("structure_id")["n_reference"]
    engine = make_engine(job.params.reference, job.threads, folder=f"{job.output.arrays}.calculations")

    with h5py.File(job.input.supercells) as store:

        def label(structure_id):
            if parts[structure_id] not in job.params.parts:
                return Outcome(status="skipped", reason=f"part {parts[structure_id]} gets no labels at the start")
            indices = numpy.arange(int(counts[structure_id]))
            return label_supercells(engine, structure_id, store[structure_id], indices)

        run_shard(job, list(upstream["structure_id"]), label, stage="label_forces", upstream=upstream)


run_job(snakemake, main)
