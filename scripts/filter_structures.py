"""Filter candidates, find their classes, draw parts and divide them into shards."""

from pathlib import Path

import pandas

from phonoscreen.analysis.offered import offered_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_records, write_table
from phonoscreen.stages.division import keep_division, read_division
from phonoscreen.structures.candidate import read_structures_by_id, write_structures
from phonoscreen.structures.filters import allowed_classes
from phonoscreen.structures.manifest import build_manifest
from phonoscreen.structures.prototypes import read_prototypes


def main(job):
    table = pandas.read_parquet(job.input.table)
    classes = allowed_classes(job.params.filter["classes"], read_prototypes(job.input.prototypes)["classes"])
    manifest, records, primitive = build_manifest(
        table, read_structures_by_id(job.input.structures), classes, job.params.filter, job.params.shards,
        job.params.seed, job.threads, read_division(job),
    )  # fmt: skip
    for path, table_path in zip(job.output.initial, job.output.of_shard, strict=True):
        rows = manifest[manifest["shard"] == Path(path).stem].reset_index(drop=True)
        write_structures({name: primitive[name] for name in rows["structure_id"]}, path)
        write_table(rows, table_path)
    write_records(records, job.output.records)
    write_table(manifest, job.output.manifest)
    keep_division(job, manifest)
    offered = offered_table(pandas.DataFrame(records), table, manifest, job.input.published)
    write_tables(job.output, offered=offered)


run_job(snakemake, main)
