"""Gather the labelled supercells of the training part and of all selections into one dataset."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_manifest, write_table
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.forcefield.dataset import assemble_dataset


def main(job):
    manifest = read_manifest(job.input.manifest)
    training = set(manifest.structure_id[manifest.part == "training"])
    rounds = {}
    for path in job.input.get("selected_labels", []):  # results/rounds/{round}/…
        parts = path.split("/")
        rounds.setdefault(parts[parts.index("rounds") + 1], []).append(path)
    labels = {name: path for name, path in ShardFiles(job.input.labels).items() if name in training}
    table = assemble_dataset(
        labels,
        ShardFiles(job.input.supercells),
        [ShardFiles(rounds[number]) for number in sorted(rounds, key=int)],
        job.output.arrays,
        held_out_fraction=job.params.held_out_fraction,
        seed=job.params.seed,
        supercells_max=job.params.max_supercells_per_structure,
    )
    write_table(table, job.output.table)


run_job(snakemake, main)
