"""List the existing outputs of every structure with the digests of their content, shard by shard."""

import json
from pathlib import Path

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.names import file_name


def main(job):
    manifest, folder = pandas.read_parquet(job.input.manifest), Path(job.params.folder)
    found = {}
    for path in job.input.files:
        relative = Path(path).relative_to(folder)
        found.setdefault(relative.parts[0], {})[relative.as_posix()] = job.inputs[path]
    for path in job.output.indices:
        ids = manifest.loc[manifest["shard"] == Path(path).stem, "structure_id"]
        index = {structure_id: found.get(file_name(structure_id), {}) for structure_id in ids}
        Path(path).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


run_job(snakemake, main)
