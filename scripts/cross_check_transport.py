"""Solve a few structures of each source of forces again with phono3py, from the same force constants."""

from pathlib import Path

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.stages.other_solvers import CROSS_CHECK, cross_check_shards
from phonoscreen.stages.transport import transport_of


def main(job):
    cells = {Path(path).name: path for path in job.input.relaxed}
    bases = {Path(path).name: path for path in job.input.bases}
    shards = [
        (
            Path(constants).parent.name,
            constants,
            read_records(solved),
            *(of[Path(constants).name] for of in (cells, bases)),
        )
        for constants, solved in zip(job.input.force_constants, job.input.records, strict=True)
    ]
    rows = cross_check_shards(shards, transport_of(job), job.params.structures_per_source)
    write_table(pandas.DataFrame(rows, columns=CROSS_CHECK), job.output.records)


run_job(snakemake, main)
