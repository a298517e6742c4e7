"""Conductivity of a few structures against q mesh, broadening and third-order cutoff."""

import h5py
import pandas

from phonoscreen.analysis.convergence import convergence
from phonoscreen.analysis.refit import read_samples
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.lattice.store import read_crystal


def main(job):
    wanted, rows = job.params.convergence["structures"], []
    for forces, supercells in zip(job.input.forces, job.input.supercells, strict=True):
        with h5py.File(forces) as labelled, h5py.File(supercells) as displaced:
            for structure_id in [name for name in wanted if name in labelled]:
                group, supercell = labelled[structure_id], displaced[structure_id]
                found = convergence(
                    read_crystal(supercell), tuple(int(n) for n in supercell["repetitions"][:]),
                    read_samples(group, supercell),
                    job.params.force_constants, job.params.transport, job.params.convergence,
                )  # fmt: skip
                rows += [{"structure_id": structure_id, "source": job.params.convergence["source"], **r} for r in found]
    if not rows:
        raise StudyError(
            f"none of the structures {wanted} has forces from the source {job.params.convergence['source']}",
            where="stage converge_transport", fix="choose convergence.structures anew",
        )  # fmt: skip
    write_table(pandas.DataFrame(rows), job.output.table)


run_job(snakemake, main)
