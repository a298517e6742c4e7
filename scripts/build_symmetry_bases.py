"""Choose the supercells of one shard's structures and build the symmetry bases that they share."""

import h5py

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.force_constants.settings import OrderSettings, SupercellSettings
from phonoscreen.stages.assignment import BasisAssigner, assign_all
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.store import read_crystal_and_repetitions
from phonoscreen.structures.third_order_reach import ThirdOrderReach


def main(job):
    supercell = SupercellSettings.from_section(job.params.supercell)
    orders = OrderSettings.from_section(job.params.orders)
    types = read_prototypes(job.input.prototypes)["structure_types"]
    with written_whole(job.output.bases) as partial, h5py.File(partial, "w") as bases:
        assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(types))
        with h5py.File(job.input.arrays) as store:
            records = assign_all(
                assigner, read_records(job.input.records), lambda name: read_crystal_and_repetitions(store[name])
            )
    write_records(records, job.output.assignment)


run_job(snakemake, main)
