"""Displace every atom of every supercell of one shard by a fixed length in a random direction."""

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.structures.store import read_structures, structure_arrays
from phonoscreen.structures.supercells import build_supercell, random_displacements


def main(job):
    relaxed = read_structures(job.input.relaxed)
    ids = list(read_records(job.input.relaxed_records)["structure_id"])
    assignment = read_records(job.input.assignment)
    rows = assignment[assignment["structure_id"].isin(ids)].set_index("structure_id")

    def displace(structure_id):
        row, atoms = rows.loc[structure_id], relaxed[structure_id]
        repetitions = tuple(int(n) for n in row["repetitions"].split())
        n_atoms = len(build_supercell(atoms, repetitions))
        if n_atoms != row["n_supercell_atoms"]:
            raise StudyError(f"supercell of {n_atoms} atoms, {row['n_supercell_atoms']} assigned", where=structure_id)
        rng = numpy.random.default_rng(derive_seed(job.params.seed, structure_id, "displacements"))
        moves = random_displacements(int(row["n_network"]), n_atoms, job.params.displacement_angstrom, rng)
        return Outcome(
            values={
                "n_supercells": len(moves),
                "n_supercell_atoms": n_atoms,
                "displacement_angstrom": job.params.displacement_angstrom,
            },
            arrays={**structure_arrays(atoms), "repetitions": numpy.array(repetitions), "displacements": moves},
        )

    run_shard(job, ids, displace, stage="displace_supercells", upstream=assignment)


run_job(snakemake, main)
