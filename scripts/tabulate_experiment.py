"""Tables of the experiment."""

import pandas

from phonoscreen.analysis.forces import force_error_table
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.experiment.measures import all_tables, phonon_pairs, read_points


def main(job):
    manifest, sources = pandas.read_parquet(job.input.manifest), job.params.sources
    unseen = set(manifest.structure_id[manifest.part == "validation"])
    atoms = read_points(job.params.points, job.input.points)
    forces = {name: read_records(of_source(job.input.forces_records, name)) for name in sources}
    phonons = phonon_pairs(
        manifest,
        sources,
        by_source(job.input.stability_records, sources, read_records),
        by_source(job.input.stability_arrays, sources, list),
        by_source(job.input.transport_records, sources, read_records),
        {name: dict(table.query("status == 'ok'")[["structure_id", "set"]].values) for name, table in forces.items()},
    )
    baselines = force_error_table([], [], job.input.baselines, unseen)
    replays = [pandas.read_parquet(path) for path in job.input.replays]
    for name, table in all_tables(manifest, atoms, baselines, phonons, replays, job.params.seed).items():
        write_table(table, getattr(job.output, name))


def of_source(paths, source):
    return [path for path in paths if path.split("/")[-2] == source]


def by_source(paths, sources, read):
    return {source: read(of_source(paths, source)) for source in ("reference", *sources)}


run_job(snakemake, main)
