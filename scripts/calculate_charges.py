"""Born charges and dielectric tensors of the relaxed crystals of one shard."""

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.charges import CalculatedCharges, ChargesOfFiles, find_charges
from phonoscreen.structures.store import read_structures


def main(job):
    upstream = read_records(job.input.relaxed_records)
    crystals, settings = read_structures(job.input.relaxed), job.params.charges
    if settings["source"] == "files":
        source = ChargesOfFiles(job.params.folder)
    else:
        source = CalculatedCharges(engine_of(job, settings))

    def find(structure_id):
        return find_charges(source, structure_id, crystals[structure_id])

    run_shard(job, list(upstream["structure_id"]), find, stage="calculate_charges", upstream=upstream)


run_job(snakemake, main)
