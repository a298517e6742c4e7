"""Everything that reads what others wrote: seed inputs, made small from model crystals, and how each is read.

A target returns what it accepted, which must be finite, or raises ``StudyError``; nothing else. Add one for every new
reader: a function of a folder, under a function that returns the seed files.
"""

import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy
import pandas
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from phonoscreen.audit.errors import StudyError
from tests.conftest import ROOT, Named
from tests.fuzz.mutations import mutate_bytes, mutate_json, mutate_text

TARGETS = {}
REPETITIONS = (2, 2, 2)


@dataclass(frozen=True, eq=False)
class Target:
    """Something that reads files.

    Parameters
    ----------
    name : of the target
    seeds : function without arguments that returns sound files, a dict of bytes by name
    call : function of the folder that holds them; returns what was accepted
    mutate : function of (bytes, random) that changes a file
    mutations : the same for single files; None for those that stay as they are
    """

    name: str
    seeds: Callable
    call: Callable
    mutate: Callable = mutate_text
    mutations: dict = field(default_factory=dict)


def target(seeds, **options):
    """Register a function of a folder as a target; ``seeds`` is called once with an empty folder to fill."""

    def register(call):
        name = call.__name__
        TARGETS[name] = Target(name, functools.cache(lambda: _filled(seeds)), call, **options)
        return call

    return register


def _filled(seeds):
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        seeds(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}
    finally:
        shutil.rmtree(folder)


# Force constants and ShengBTE's files -------------------------------------------------------------------------------


@functools.cache
def rocksalt():
    """Crystal, second-order and third-order force constants of a model."""
    from tests import transport_models

    return transport_models.rocksalt(repetitions=REPETITIONS)


def shengbte_files(folder):
    from phonoscreen.formats.shengbte import write_directory

    born = numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)]), 2.4 * numpy.eye(3)
    write_directory(*rocksalt(), folder, mesh=(4, 4, 4), temperature_k=300, born=born[0], epsilon=born[1])


def only(name):
    """Return the seeds of a ShengBTE folder without its other files."""

    def seeds(folder):
        shengbte_files(folder)
        for path in folder.iterdir():
            if path.name != name:
                path.unlink()

    return seeds


@target(only("CONTROL"))
def control(folder):
    from phonoscreen.formats.control import read_control

    return read_control(folder / "CONTROL")


@target(only("FORCE_CONSTANTS_2ND"))
def force_constants_2nd(folder):
    from phonoscreen.formats.force_constants import read_second_order

    return read_second_order(folder / "FORCE_CONSTANTS_2ND", 2, REPETITIONS)


@target(only("FORCE_CONSTANTS_3RD"))
def force_constants_3rd(folder):
    from phonoscreen.formats.force_constants import read_third_order

    return read_third_order(folder / "FORCE_CONSTANTS_3RD", rocksalt()[0].cell)


@target(shengbte_files)
def shengbte_folder(folder):
    from phonoscreen.formats.bte_folder import read_folder

    problem = read_folder(folder)
    return problem.crystal, problem.second, problem.third, problem.mesh, problem.settings


def espresso_file(folder):
    from tests.test_bte_files import write_espresso

    crystal, second, _ = rocksalt()
    write_espresso(folder / "espresso.ifc2", second, crystal.numbers)


@target(espresso_file)
def espresso(folder):
    from phonoscreen.formats.espresso import read_espresso

    return read_espresso(folder / "espresso.ifc2", 2, REPETITIONS)


def hdf5_files(folder):
    from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5

    write_second_hdf5(rocksalt()[1], folder / "fc2.hdf5")
    write_third_hdf5(rocksalt()[2], REPETITIONS, folder / "fc3.hdf5")


@target(hdf5_files, mutate=mutate_bytes)
def force_constants_hdf5(folder):
    from phonoscreen.formats.phonopy import read_second_hdf5, read_third_hdf5

    second = read_second_hdf5(folder / "fc2.hdf5", 2, REPETITIONS)
    return second, read_third_hdf5(folder / "fc3.hdf5", rocksalt()[0], REPETITIONS)


# Displaced supercells ------------------------------------------------------------------------------------------------


def phonopy_program():
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = rocksalt()[0]
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)
    program = Phonopy(cell, REPETITIONS, primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements(distance=0.01)
    shape = (len(program.supercells_with_displacements), 16, 3)
    program.forces = numpy.random.default_rng(0).normal(0, 0.1, shape)
    program.nac_params = {
        "born": [1.1 * numpy.eye(3), -1.1 * numpy.eye(3)], "dielectric": 2.5 * numpy.eye(3), "factor": 14.4,
    }  # fmt: skip
    return program


@target(lambda folder: phonopy_program().save(folder / "phonopy_params.yaml", settings={"force_sets": True}))
def phonopy_yaml(folder):
    from phonoscreen.formats.displacements import read_phonopy_yaml

    return read_phonopy_yaml(folder / "phonopy_params.yaml")


def force_sets_file(folder):
    from phonopy.file_IO import write_FORCE_SETS

    write_FORCE_SETS(phonopy_program().dataset, filename=folder / "FORCE_SETS")


@target(force_sets_file)
def force_sets(folder):
    from phonoscreen.formats.displacements import read_force_sets

    return read_force_sets(folder / "FORCE_SETS", rocksalt()[0], REPETITIONS)


def born_file(folder):
    rows = [["14.4"], numpy.diag([2.5, 2.5, 2.5]).ravel(), *(s * numpy.eye(3).ravel() for s in (1.1, -1.1))]
    (folder / "BORN").write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n")


@target(born_file)
def born(folder):
    from phonoscreen.formats.displacements import read_born

    return read_born(folder / "BORN", rocksalt()[0])


def displaced(seed, n=2):
    """Return a displaced supercell of the model crystal with forces."""
    crystal, rng = rocksalt()[0], numpy.random.default_rng(seed)
    cell = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms = cell.repeat(n)
    atoms.positions += rng.normal(0, 0.01, atoms.positions.shape)
    forces = rng.normal(0, 0.1, atoms.positions.shape)
    atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=-3.0)
    return atoms


@functools.cache
def displaced_model():
    """Displaced supercells of a crystal with known force constants."""
    from tests.supercell_files import make_model

    return make_model(n_supercells=2)


def fit_input(structure, forces=None, **options):
    """What ``fit`` takes from files."""
    from phonoscreen.formats.fit_input import FitInput, read_fit_input

    data = read_fit_input(FitInput(str(structure), [] if forces is None else [str(forces)], **options))
    return data.crystal, data.displacements, data.forces, data.born, data.dielectric


def with_poscar(name, writer):
    """Return seeds: POSCAR, SPOSCAR and a file of displaced supercells."""

    def seeds(folder):
        write(folder / "POSCAR", displaced_model().unit_cell, format="vasp", direct=True)
        write(folder / "SPOSCAR", displaced_model().supercell, format="vasp", direct=True)
        writer(folder / name)

    return seeds


@target(with_poscar("forces.extxyz", lambda path: write(path, displaced_model().snapshots())))
def snapshots(folder):
    return fit_input(folder / "POSCAR", folder / "forces.extxyz")


@target(
    with_poscar("vasprun.xml", lambda path: supercell_files().write_vasprun(path, displaced_model().snapshots()[0]))
)
def vasprun(folder):
    return fit_input(folder / "POSCAR", folder / "vasprun.xml")


@target(with_poscar("DFSET", lambda path: supercell_files().write_dfset(path, displaced_model())))
def dfset(folder):
    return fit_input(folder / "POSCAR", folder / "DFSET", supercell=[str(folder / "SPOSCAR")])


def supercell_files():
    from tests import supercell_files as module

    return module


@target(lambda folder: supercell_files().write_tdep(folder / "tdep", displaced_model()))
def tdep(folder):
    return fit_input(folder / "tdep")


def phono3py_files(folder):
    from phono3py import Phono3py

    from phonoscreen.formats.born import phonopy_atoms

    program = Phono3py(phonopy_atoms(rocksalt()[0]), REPETITIONS, primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements(cutoff_pair_distance=3.0)
    forces = numpy.random.default_rng(0).normal(0, 0.1, (len(program.supercells_with_displacements), 16, 3))
    program.save(folder / "phono3py_disp.yaml", settings={"force_sets": False})
    numpy.savetxt(folder / "FORCES_FC3", forces.reshape(-1, 3))
    born_file(folder)


@target(phono3py_files)
def phono3py_folder(folder):
    return fit_input(folder)


def collected_files(folder):
    (folder / "nacl").mkdir()
    write(folder / "nacl/one.extxyz", [displaced(1), displaced(2)])
    born_file(folder / "nacl")


@target(collected_files)
def collected_outputs(folder):
    from phonoscreen.reference.collected import CollectedEngine

    crystal, engine = rocksalt()[0], CollectedEngine(folder)
    cell = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    return engine.forces(displaced(1), "nacl/0"), engine.charges(cell, "nacl")


# Structures ----------------------------------------------------------------------------------------------------------


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


# Bonding -------------------------------------------------------------------------------------------------------------


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


# Settings ------------------------------------------------------------------------------------------------------------


def checked_settings(folder):
    """Return the settings of the experiment's study, as ``profiles/experiment/Snakefile`` takes them."""
    from phonoscreen.workflow.experiment import check_experiment
    from phonoscreen.workflow.settings.files import check_files

    path = folder / "study.yaml"
    try:
        text = path.read_text()
        config = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError("Snakemake stops here") from error
    if not isinstance(config, dict):
        raise StudyError("Snakemake stops here")
    check_files([path])
    return check_experiment(config)


def study_yaml(folder):
    parts = ("config.yaml", "profiles/experiment/study.yaml")
    known, text = set(), []
    for section in "\n".join((ROOT / part).read_text() for part in parts).split("\n\n"):
        words = {line.partition(":")[0] for line in section.splitlines() if line[:1].isalpha()}
        if not words & known:
            text.append(section)
        known |= words
    (folder / "study.yaml").write_text("\n\n".join(text))


@target(study_yaml)
def settings_text(folder):
    return checked_settings(folder)


def study_json(folder):
    from phonoscreen.workflow.experiment import check_experiment

    (folder / "study.yaml").write_text(json.dumps(check_experiment({})))


@target(study_json, mutate=mutate_json)
def settings_values(folder):
    return checked_settings(folder)


# Models --------------------------------------------------------------------------------------------------------------


def published_model(folder):
    from phonoscreen.forcefield.models.files import save_model
    from phonoscreen.forcefield.models.registry import create_model
    from phonoscreen.forcefield.publish import publish_model
    from tests.forcefield_crystals import SETTINGS

    members = []
    for number in range(2):
        model = create_model({**SETTINGS, "kind": "equivariant", "hidden": [4], "channels": 2}, number)
        members.append((folder / f"{number}.safetensors", folder / f"{number}.json"))
        save_model(model, *members[-1], elements=[11, 17], label_engine="model", label_model="x", round=0)
    table = pandas.DataFrame({"split": [], "n_supercells": [], "n_environments": []})
    targets = [folder / f"member{number}.safetensors" for number in range(2)]
    publish_model(
        members, targets, folder / "model.json", folder / "card.md", dataset=table, dataset_path=members[0][1],
        validation=pandas.DataFrame({"status": []}), code="0", licence="CC-BY-4.0",
    )  # fmt: skip
    for path in [*sum(members, ()), folder / "card.md"]:
        path.unlink()


def loaded_model(folder):
    from phonoscreen.forcefield.neighbourhoods import atoms_neighbourhoods
    from phonoscreen.forcefield.publish import load_published

    committee, content = load_published(folder, "cpu")
    forces = committee.forces(atoms_neighbourhoods(bulk("NaCl", "rocksalt", a=5.6), committee.cutoff_angstrom))
    return forces, content


MODEL_MUTATIONS = {"model.json": mutate_json, "member0.safetensors": mutate_bytes, "member1.safetensors": None}


@target(published_model, mutations=MODEL_MUTATIONS)
def model(folder):
    return loaded_model(folder)


@target(published_model, mutations=MODEL_MUTATIONS)
def model_sealed_again(folder):
    """Altered by somebody who wrote the hashes anew."""
    from phonoscreen.audit.provenance import file_sha256
    from phonoscreen.forcefield.models.files import write_model_json

    try:
        content = json.loads((folder / "model.json").read_bytes())
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        if isinstance(content.get("members_sha256"), dict):
            content["members_sha256"]["member0.safetensors"] = file_sha256(folder / "member0.safetensors")
        write_model_json(content, folder / "model.json")
    return loaded_model(folder)


def prediction_files(folder):
    published_model(folder)
    write(folder / "in.extxyz", [bulk("NaCl", "rocksalt", a=5.6), displaced(3, 1)])


@target(
    prediction_files,
    mutations={"model.json": None, "member0.safetensors": None, "member1.safetensors": None},
)
def prediction(folder):
    from ase.io import read

    from phonoscreen.forcefield.predict import predict_files

    good, bad = predict_files([folder / "in.extxyz"], folder, folder / "out.extxyz", device="cpu")
    records = pandas.read_csv(folder / "out.extxyz.records.csv")
    assert len(records) == good + bad and (records.status == "ok").sum() == good
    return [atoms.get_forces() for atoms in read(folder / "out.extxyz", index=":")] if good else []


# The study's own files -----------------------------------------------------------------------------------------------


def study_files(folder):
    """Two jobs in a row: source.txt -> results/a.h5 -> results/b.parquet."""
    import h5py

    from phonoscreen.audit.job import Job
    from phonoscreen.audit.provenance import write_provenance

    def run(rule, source, product, compute):
        params, wildcards = Named(code="abc", temperature_k=300), Named(shard="0000")
        names = {"rule": rule, "params": params, "wildcards": wildcards, "threads": 1, "resources": Named()}
        job = Job(SimpleNamespace(input=[source], output=[product], **names))
        compute(product)
        write_provenance(job, [product], started=0.0)

    def arrays(path):
        with h5py.File(path, "w") as store:
            store["nacl/forces"] = numpy.linspace(-1, 1, 48).reshape(16, 3)

    with contextlib.chdir(folder):
        Path("results").mkdir()
        Path("source.txt").write_text("300 K")
        run("first", "source.txt", "results/a.h5", arrays)
        run("second", "results/a.h5", "results/b.parquet", write_some_records)


STUDY_MUTATIONS = {"source.txt": None, "results/a.h5": mutate_bytes, "results/b.parquet": mutate_bytes}


@target(study_files, mutations=STUDY_MUTATIONS)
def provenance(folder):
    from phonoscreen.audit.lineage import Lineage, describe, details
    from phonoscreen.audit.verify import verify_study

    verify_study(folder)
    lineage = Lineage(folder)
    node = lineage.trace("results/b.parquet")
    describe(node)
    if node.document:
        details(node.document)


@target(study_files, mutations=STUDY_MUTATIONS)
def job_inputs(folder):
    """What a job takes as its input is what the job before wrote."""
    from phonoscreen.audit.integrity import check_inputs

    products = ["results/a.h5", "results/b.parquet"]
    with contextlib.chdir(folder):
        check_inputs(products, where="a job")
        sound = TARGETS["job_inputs"].seeds()
        assert all(Path(path).read_bytes() == sound[path] for path in products)


def write_some_records(path):
    from phonoscreen.audit.records import write_records

    done = {"stage": "solve_bte", "status": "ok", "reason": "", "kappa_p_w_per_m_k": 3.0, "iterations": 12}
    write_records([{"structure_id": name, **done} for name in ("a", "b")], path)


@target(lambda folder: write_some_records(folder / "records.parquet"), mutate=mutate_bytes)
def records(folder):
    from phonoscreen.audit.records import read_records

    return len(read_records(folder / "records.parquet"))
