"""List every calculation of a study: finished, failed, or waiting to be run elsewhere."""

import json
import logging

import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.job import run_job
from phonoscreen.reference.registry import waiting_inputs
from phonoscreen.stages.calculations import summary, write_array


def main(job):
    table = pandas.concat([pandas.read_parquet(path) for path in job.input.tables], ignore_index=True)
    with written_whole(job.output.list) as partial:
        table.to_csv(partial, index=False)
    logging.getLogger("phonoscreen").info(json.dumps(summary(table), indent=1))
    if job.params.how["mode"] == "write_inputs":
        folder, command, log_name = waiting_inputs(job.params.reference)
        write_array(folder, command, log_name)


run_job(snakemake, main)
