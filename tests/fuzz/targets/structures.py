"""Structure files, answers of services, and outputs of LOBSTER."""

import json
import shutil

import numpy
import yaml
from ase.build import bulk
from ase.io import write

from phonoscreen.audit.errors import StudyError
from tests.conftest import ROOT
from tests.fuzz.mutations import mutate_json
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
    """Gives one recorded page, as ``Pager`` would after checking that it is JSON with a list of data."""

    def __init__(self, path):
        self.text = path.read_bytes()

    def get(self, url, params=None):
        try:
            page = json.loads(self.text)
        except (ValueError, RecursionError):
            page = None
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise StudyError("no proper answer")
        return page


def collected_atoms(candidates):
    return [(c.structure_id, c.atoms) for c in candidates]


@target(
    lambda folder: (folder / "page.json").write_text(
        json.dumps(service_page([RECORD, {**RECORD, "entry_id": 2, "duplicate_entry_id": 2}], "data_available"))
    ),
    mutate=mutate_json,
)
def oqmd_answers(folder):
    from phonoscreen.structures.oqmd import collect_oqmd

    pager = RecordedPager(folder / "page.json")
    return collected_atoms(collect_oqmd("http://x", folder / "snapshot", ["225-AB"], 0.0, 0.2, pager))


@target(
    lambda folder: (folder / "page.json").write_text(
        json.dumps(
            service_page(
                [{"id": "1", "type": "structures", "attributes": {f"_oqmd_{k}": v for k, v in RECORD.items()}}],
                "data_returned",
            )
        )
    ),
    mutate=mutate_json,
)
def optimade_answers(folder):
    from phonoscreen.structures.oqmd import collect_optimade

    pager = RecordedPager(folder / "page.json")
    return collected_atoms(collect_optimade("http://x", folder / "snapshot", ["225-AB"], 0.0, 0.2, pager))


def lobster_files(folder):
    from phonoscreen.bonding.cohp import Cohp
    from phonoscreen.bonding.lobster import write_lobster

    energies = numpy.linspace(-5, 2, 15)
    curves = numpy.array([-numpy.exp(-((energies + 2) ** 2)), 0.5 * numpy.exp(-((energies + 1) ** 2))])
    write_lobster(
        Cohp(
            energies, numpy.array([["Na", "Cl"], ["Cl", "Cl"]]), numpy.array([[0, 1], [1, 1]]),
            numpy.array([[0, 0, 0], [1, 0, 0]]), numpy.array([2.8, 4.0]), curves, numpy.array([-1.7, 0.8]),
            numpy.zeros(2),
        ),
        folder,
    )  # fmt: skip


@target(lobster_files)
def lobster(folder):
    from phonoscreen.bonding.cohp import bonding_and_antibonding
    from phonoscreen.bonding.lobster import read_lobster

    cohp = read_lobster(folder)
    return cohp, bonding_and_antibonding(cohp)
