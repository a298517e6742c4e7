"""Training data of one point of the learning curves: the first compounds of a stratified order."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.experiment.subsets import first_compounds
from phonoscreen.forcefield.dataset import assemble_dataset


def main(job):
    labels = ShardFiles(job.input.labels)
    manifest = read_records(job.input.manifest)
    training = manifest[(manifest.part == "training") & manifest.structure_id.isin(labels)]
    seed = derive_seed(job.params.seed, "learning_curve", int(job.wildcards.repeat))
    classes = dict(zip(training.structure_id, training.prototype))
    chosen = first_compounds(classes, int(job.wildcards.size), seed)
    table = assemble_dataset(
        {structure_id: labels[structure_id] for structure_id in chosen},
        ShardFiles(job.input.supercells),
        [],
        job.output.arrays,
        held_out_fraction=job.params.held_out_fraction,
        seed=seed,
        supercells_max=job.params.max_supercells_per_structure,
    )
    write_table(table, job.output.table)


run_job(snakemake, main)
