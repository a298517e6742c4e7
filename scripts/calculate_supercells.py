"""Calculate one share of the supercells of a shard by the DFT code of the study, or write or collect them."""

import h5py
import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.reference.registry import engine_of
from phonoscreen.stages.calculations import calculate, refuse_failed_share, share_of, supercells


def main(job):
    upstream = read_records(job.input.supercell_records).set_index("structure_id")["status"]
    parts = pandas.read_parquet(job.input.manifest).set_index("structure_id")["part"]
    assignment = read_records(job.input.assignment).set_index("structure_id")
    wanted = [name for name, status in upstream.items() if status == "ok" and parts[name] in job.params.parts]
    counts = assignment["n_reference"] if wanted else {}  # before anything is relaxed there is no such column
    with h5py.File(job.input.supercells) as store:
        spacing = job.params.reference["k_spacing_per_angstrom"]
        pieces = supercells(store, counts, wanted, engine_of(job), spacing)
        mine = share_of(pieces, int(job.wildcards.batch), job.params.jobs_per_shard)
        table = calculate(mine)
    if job.params.how["mode"] == "run":
        refuse_failed_share(table, "calculate_supercells")
    write_table(table, job.output.table)


run_job(snakemake, main)
