"""Write which expensive products were made with other settings or other code than the study has now."""

import json
from pathlib import Path

from phonoscreen.audit.job import run_job
from phonoscreen.audit.outdated import find_outdated, state


def main(job):
    found = state(find_outdated(job.params.current, planned={str(path) for path in job.input.products}))
    Path(job.output.state).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


run_job(snakemake, main)
