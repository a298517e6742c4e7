"""Conductivity of a few structures against q mesh and broadening."""

from pathlib import Path

import h5py
import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.lattice.store import StoredForceConstants, read_crystal
from phonoscreen.transport.convergence import convergence
from phonoscreen.transport.stage import settings_of


def main(job):
    settings, sample = job.params.convergence, job.params.convergence["structures"]
    rows = []
    for constants, solved in zip(job.input.force_constants, job.input.records, strict=True):
        relaxed = next(path for path in job.input.relaxed if Path(path).name == Path(constants).name)
        records = read_records(solved)
        wanted = [i for i in records.loc[records["status"] == "ok", "structure_id"] if i in sample]
        with h5py.File(relaxed) as cells, StoredForceConstants(constants, job.input.bases) as store:
            for structure_id in wanted:
                found = convergence(
                    read_crystal(cells[structure_id]), store.second_order(structure_id),
                    store.third_order(structure_id), settings_of(job.params.transport),
                    job.params.transport["mesh_density_angstrom"], densities=settings["densities_angstrom"],
                    scalebroads=settings["scalebroads"],
                )  # fmt: skip
                rows += [{"structure_id": structure_id, "source": Path(constants).parent.name, **row} for row in found]
    if not rows:
        raise StudyError(f"none of the structures {sample} was solved", fix="choose convergence.structures anew")
    write_table(pandas.DataFrame(rows), job.output.table)


run_job(snakemake, main)
