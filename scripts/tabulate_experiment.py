"""Tables of the experiment."""

import pandas

from phonoscreen.analysis.forces import force_error_table
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.experiment import measures as experiment


def main(job):
    manifest, sources = pandas.read_parquet(job.input.manifest), job.params.sources
    unseen = set(manifest.structure_id[manifest.part == "validation"])
    atoms = experiment.read_points(job.params.points, job.input.points)
    records = {name: read_records(of_source(job.input.forces_records, name)) for name in sources}
    phonons = experiment.phonon_pairs(
        manifest,
        sources,
        by_source(job.input.stability_records, sources, read_records),
        by_source(job.input.stability_arrays, sources, list),
        by_source(job.input.transport_records, sources, read_records),
        {name: dict(table.query("status == 'ok'")[["structure_id", "set"]].values) for name, table in records.items()},
    )
    calibration, bins = experiment.calibration_tables(atoms, job.params.seed)
    tables = {
        "forces": experiment.force_table(atoms, force_error_table([], [], job.input.baselines, unseen)),
        "structures": experiment.structure_table(atoms),
        "elements": experiment.group_table(atoms, manifest, "element"),
        "prototypes": experiment.group_table(atoms, manifest, "prototype"),
        "calibration": calibration,
        "bins": bins,
        "phonons": phonons,
        "properties": experiment.property_table(phonons),
        "promises": experiment.promise_table(atoms, phonons, job.params.seed),
        "selection": pandas.concat([pandas.read_parquet(path) for path in job.input.replays], ignore_index=True),
    }
    for name, table in tables.items():
        write_table(table, getattr(job.output, name))


def of_source(paths, source):
    return [path for path in paths if path.split("/")[-2] == source]


def by_source(paths, sources, read):
    return {source: read(of_source(paths, source)) for source in ("reference", *sources)}


run_job(snakemake, main)
