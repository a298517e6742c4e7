"""Conductivity of a few structures against q mesh, broadening and third-order cutoff."""

import h5py
import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import write_table
from phonoscreen.stages.convergence import convergence
from phonoscreen.stages.force_constants import read_samples
from phonoscreen.stages.stored_force_constants import read_crystal
from phonoscreen.stages.transport import transport_of


def smallest_labelled(paths):
    """Return the id of the structure with the smallest supercell among those that have forces, as a list."""
    sizes = []
    for path in paths:
        with h5py.File(path) as store:
            sizes += [(store[name]["forces"].shape[1], name) for name in store if "forces" in store[name]]
    return [name for _, name in sorted(sizes)[:1]]


def main(job):
    wanted, rows = job.params.convergence["structures"], []
    if wanted is None:
        wanted = smallest_labelled(job.input.forces)
    for forces, supercells in zip(job.input.forces, job.input.supercells, strict=True):
        with h5py.File(forces) as labelled, h5py.File(supercells) as displaced:
            for structure_id in [name for name in wanted if name in labelled]:
                group, supercell = labelled[structure_id], displaced[structure_id]
                found = convergence(
                    read_crystal(supercell), tuple(int(n) for n in supercell["repetitions"][:]),
                    read_samples(group, supercell),
                    job.params.force_constants, transport_of(job), job.params.convergence,
                )  # fmt: skip
                rows += [{"structure_id": structure_id, "source": job.params.convergence["source"], **r} for r in found]
    if not rows:
        raise StudyError(
            f"none of the structures {wanted} has forces from the source {job.params.convergence['source']}",
            where="stage converge_transport", fix="choose convergence.structures anew, or null",
        )  # fmt: skip
    write_table(pandas.DataFrame(rows), job.output.table)


run_job(snakemake, main)
