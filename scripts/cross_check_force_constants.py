"""Fit the force constants of a few structures of each source again with hiphive and with symfc, to the same forces."""

import h5py
import pandas

from phonoscreen.audit.errors import StudyError, machine_named
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_table
from phonoscreen.stages.force_constants import read_samples
from phonoscreen.stages.independent_fits import PROGRAMS, compare, smallest_structures
from phonoscreen.stages.stored_force_constants import read_crystal

COLUMNS = ["structure_id", "stage", "status", "reason", "source", "program", "n_supercells", "second_cutoff_angstrom",
           "third_cutoff_angstrom", "second_relative_difference", "third_relative_difference",
           "frequency_difference_max_thz"]  # fmt: skip


def main(job):
    rows, assignment = [], read_records(job.input.assignment)
    for source in job.params.sources:
        fitted = read_records(getattr(job.input, f"records_{source}"))
        chosen = smallest_structures(fitted, assignment, job.params.structures_per_source)
        for forces, supercells in zip(getattr(job.input, f"forces_{source}"), job.input.supercells, strict=True):
            with h5py.File(forces) as labels, h5py.File(supercells) as cells:
                for structure_id in [name for name in chosen if name in labels]:
                    cell, samples = cells[structure_id], read_samples(labels[structure_id], cells[structure_id])
                    crystal, repetitions = read_crystal(cell), tuple(int(n) for n in cell["repetitions"][:])
                    for program in PROGRAMS:
                        row = {"structure_id": structure_id, "stage": "cross_check_force_constants", "status": "ok",
                               "reason": "", "source": source, "program": program}  # fmt: skip
                        try:
                            with machine_named(f"{structure_id}, stage cross_check_force_constants"):
                                row |= compare(crystal, repetitions, samples, job.params.force_constants, program)
                        except StudyError as error:
                            row |= {"status": "failed", "reason": str(error)}
                        rows.append(row)
    write_table(pandas.DataFrame(rows, columns=COLUMNS), job.output.records)


run_job(snakemake, main)
