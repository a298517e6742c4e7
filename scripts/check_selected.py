"""The same check of the labels that the committee asked for in one round, all shards."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.force_constants.basis import open_bases
from phonoscreen.stages.checked_labels import LabelChecker


def main(job):
    upstream = read_records(job.input.records)
    keys = read_records(job.input.assignment).set_index("structure_id")["basis_key"]

    with ShardFiles(job.input.labels) as labels, ShardFiles(job.input.supercells) as supercells:
        with open_bases(job.input.bases) as bases:
            checker = LabelChecker(bases)

            def check(structure_id):
                return checker.check(keys[structure_id], labels.group(structure_id), supercells.group(structure_id))

            run_shard(job, list(upstream["structure_id"]), check, stage="check_selected", upstream=upstream)


run_job(snakemake, main)
