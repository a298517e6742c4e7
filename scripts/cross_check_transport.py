"""Solve a few structures of each source of forces again with phono3py, from the same force constants."""

from pathlib import Path

import h5py
import pandas

from phonoscreen.audit.errors import StudyError, machine_named
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.stages.other_solvers import cross_check
from phonoscreen.stages.stored_force_constants import StoredForceConstants, read_crystal
from phonoscreen.stages.transport import Task, transport_of


def main(job):
    rows, left = [], {}
    for constants, solved in zip(job.input.force_constants, job.input.records, strict=True):
        source = Path(constants).parent.name
        relaxed = next(path for path in job.input.relaxed if Path(path).name == Path(constants).name)
        records = read_records(solved)
        with h5py.File(relaxed) as cells, StoredForceConstants(constants, job.input.bases) as store:
            for structure_id in records.loc[records["status"] == "ok", "structure_id"]:
                if left.setdefault(source, job.params.structures_per_source) == 0:
                    break
                left[source] -= 1
                row = {"structure_id": structure_id, "stage": "cross_check_transport", "status": "ok", "reason": ""}
                charges = store.charges(structure_id) if job.params.transport["non_analytic_correction"] else None
                task = Task(
                    read_crystal(cells[structure_id]), store.second_order(structure_id),
                    store.third_order(structure_id), charges=charges,
                )  # fmt: skip
                try:
                    with machine_named(f"{structure_id}, stage cross_check_transport"):
                        row |= cross_check(task, transport_of(job))
                except StudyError as error:
                    row |= {"status": "failed", "reason": str(error)}
                rows.append({**row, "source": source})
    columns = ["structure_id", "stage", "status", "reason", "source", "native_kappa_p_rta_w_per_m_k",
               "phono3py_kappa_p_rta_w_per_m_k", "relative_difference", "native_kappa_c_bare_w_per_m_k",
               "phono3py_kappa_c_w_per_m_k", "mesh"]  # fmt: skip
    write_table(pandas.DataFrame(rows, columns=columns), job.output.records)


run_job(snakemake, main)
