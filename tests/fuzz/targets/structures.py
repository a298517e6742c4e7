"""Structure files, answers of services, and outputs of LOBSTER."""

import json
import shutil

import numpy
import yaml
from ase.build import bulk
from ase.io import write

from phonoscreen.audit.errors import StudyError
from tests.conftest import ROOT
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.targets.registry import target


def structure_files(folder):
    for name, options in (
        ("a.cif", {}),
        ("b.vasp", {"format": "vasp"}),
        ("c.extxyz", {}),
        ("POSCAR", {"format": "vasp"}),
    ):
        write(folder / name, bulk("NaCl", "rocksalt", a=5.6), **options)


@target(structure_files)
def structure_folder(folder):
    from phonoscreen.structures.sources import read_folder

    return [candidate.atoms for candidate in read_folder(folder)]


@target(lambda folder: shutil.copy(ROOT / "resources/pool.csv", folder / "pool.csv"))
def pool(folder):
    from phonoscreen.structures.sources import read_pool

    types = yaml.safe_load((ROOT / "resources/prototypes.yaml").read_text())
    return [candidate.atoms for candidate in read_pool(folder / "pool.csv", types)]


RECORD = {
    "name": "NaCl", "entry_id": 4061139, "duplicate_entry_id": 4061139, "spacegroup": "Fm-3m",
    "composition_generic": "AB", "natoms": 2, "delta_e": -2.1, "stability": -0.2,
    "unit_cell": [[0.0, 2.8, 2.8], [2.8, 0.0, 2.8], [2.8, 2.8, 0.0]], "sites": ["Na @ 0 0 0", "Cl @ 0.5 0.5 0.5"],
}  # fmt: skip


def service_page(records, announced):
    return {"links": {"next": None}, "meta": {announced: len(records), "more_data_available": False}, "data": records}


class RecordedPager:
    """Gives one recorded page, as ``Pager`` would after checking that it is a page."""

    def __init__(self, path):
        self.body = path.read_bytes()

    def fetch(self, url, params=None):
        from phonoscreen.structures.pages import problem_of_page

        if problem := problem_of_page(self.body):
            raise StudyError(problem)
        return self.body

    def be_slower(self, meta):
        pass


def answers(folder, kind, properties):
    from phonoscreen.structures.service_records import Request
    from phonoscreen.structures.services import candidates_of_snapshot, download

    request = Request("http://x", ["225-AB"], 0.0, 0.2, properties=properties)
    path = folder / "snapshot.parquet"
    download(kind, request, folder / "pages", path, RecordedPager(folder / "page.json"))
    return collected_atoms(candidates_of_snapshot(path, kind, request))


def collected_atoms(candidates):
    return [(c.structure_id, c.atoms) for c in candidates]


@target(
    lambda folder: (folder / "page.json").write_text(
        json.dumps(service_page([RECORD, {**RECORD, "entry_id": 2, "duplicate_entry_id": 2}], "data_available"))
    ),
    mutate=mutate_json,
)
def oqmd_answers(folder):
    return answers(folder, "oqmd", {})


OWN = {
    "_x_hull": 0.1, "lattice_vectors": RECORD["unit_cell"], "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]],
    "species_at_sites": ["Na", "Cl"], "species": [{"name": one, "chemical_symbols": [one]} for one in ("Na", "Cl")],
}  # fmt: skip


@target(
    lambda folder: (folder / "page.json").write_text(
        json.dumps(service_page([{"id": "1", "type": "structures", "attributes": OWN}], "data_returned"))
    ),
    mutate=mutate_json,
)
def optimade_answers(folder):
    return answers(folder, "optimade", {"hull_distance": "_x_hull"})


def small_cohp():
    from phonoscreen.bonding.cohp import Cohp

    energies = numpy.linspace(-5, 2, 15)
    curves = numpy.array([-numpy.exp(-((energies + 2) ** 2)), 0.5 * numpy.exp(-((energies + 1) ** 2))])
    return Cohp(
        energies, numpy.array([["Na", "Cl"], ["Cl", "Cl"]]), numpy.array([[0, 1], [1, 1]]),
        numpy.array([[0, 0, 0], [1, 0, 0]]), numpy.array([2.8, 4.0]), curves, numpy.array([-1.7, 0.8]),
        numpy.zeros(2),
    )  # fmt: skip


def lobster_files(folder):
    from phonoscreen.bonding.lobster import write_lobster

    write_lobster(small_cohp(), folder)


@target(lobster_files)
def lobster(folder):
    from phonoscreen.bonding.cohp import bonding_and_antibonding
    from phonoscreen.bonding.lobster import read_lobster

    cohp = read_lobster(folder)
    known = {name: value for name, value in vars(cohp).items() if name != "spilling"}  # NaN: not among these files
    return known, bonding_and_antibonding(cohp)


def stored_cohp(folder):
    import h5py

    from phonoscreen.bonding.stored import cohp_arrays, cohp_attributes
    from phonoscreen.crystal.constants import Crystal

    salt, cohp = Crystal.from_ase(bulk("NaCl", "rocksalt", a=5.6)), small_cohp()
    with h5py.File(folder / "0000.h5", "w") as store:
        group = store.create_group("nacl")
        for name, values in cohp_arrays(salt, cohp).items():
            group[name] = values
        group.attrs.update(cohp_attributes(cohp, "gpaw"))


@target(stored_cohp, mutate=mutate_bytes)
def cohp_of_a_study(folder):
    from phonoscreen.bonding.stored import find_stored

    crystal, cohp, _ = find_stored(folder, "nacl")
    return crystal.cell, cohp.curves, cohp.icohp_ev, cohp.below_ev
