"""How many structures left each stage with which status, and the time per supercell of both kinds of forces."""

import pandas

from phonoscreen.analysis.statuses import status_counts, timing_table
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records

STAGES = {
    ("relax_structures", ""): "relaxed",
    ("build_symmetry_bases", ""): "assignment",
    ("displace_supercells", ""): "supercells",
    ("calculate_charges", ""): "charges",
    ("label_forces", ""): "labels",
    ("check_labels", ""): "checked_labels",
    ("predict_forces", ""): "predicted",
    ("fit_force_constants", "reference"): "force_constants_reference",
    ("fit_force_constants", "predicted"): "force_constants_predicted",
    ("check_stability", "reference"): "stability_reference",
    ("check_stability", "predicted"): "stability_predicted",
    ("solve_bte", "reference"): "transport_reference",
    ("solve_bte", "predicted"): "transport_predicted",
    ("analyse_bonding", ""): "bonding",
}


def main(job):
    manifest = pandas.read_parquet(job.input.manifest)
    there = {stage: job.input.get(name) for stage, name in STAGES.items()}  # charges are on request
    records = {stage: read_records(paths) for stage, paths in there.items() if paths}
    timed = (records[stage, ""] for stage in ("displace_supercells", "label_forces", "predict_forces"))
    timings = timing_table(manifest, *timed)
    write_tables(job.output, status=status_counts(records, len(manifest)), timings=timings)


run_job(snakemake, main)
