"""The study on DFT that the repository holds runs from its recorded calculations, without the code that made them."""

import json

import numpy
import pytest
import yaml
from ase.build import bulk

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.reference.calculations import CalculationStore, read_calculations
from phonoscreen.reference.gpaw import GpawCode
from phonoscreen.reference.programs import CalculationError, ProgramEngine
from phonoscreen.stages import dft_product
from phonoscreen.stages.dft_product import gather_calculations
from phonoscreen.stages.label_product import read_product
from phonoscreen.structures.prototypes import classify, read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.sources import read_pool
from phonoscreen.structures.supercells import build_supercell, displaced_supercell, random_displacements
from phonoscreen.workflow.inputs import engine_settings
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT

CALCULATIONS = ROOT / "resources/labels/dft_calculations.jsonl"


@pytest.fixture(scope="module")
def config():
    return check_settings(yaml.safe_load((ROOT / "profiles/dft/study.yaml").read_text()))


@pytest.fixture(scope="module")
def labelled():
    _, compounds = read_product(ROOT / "resources/labels/dft_labels.h5")
    return {record["structure_id"]: (record, arrays) for record, arrays in compounds if arrays}


def recorded_engine(config, purpose, folder):
    """The engine of the profile with a program that fails: what is not recorded is an error."""
    settings = {**engine_settings(config["reference"], purpose), "command": "false", "tasks": 1}
    return ProgramEngine(GpawCode(settings), folder / "run", CalculationStore(folder / purpose, others=[CALCULATIONS]))


def test_relaxations_and_labels_follow_from_the_recorded_calculations(config, labelled, tmp_path):
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    pool = {one.structure_id: one.atoms for one in read_pool(ROOT / "resources/dft_pool.csv", types)}
    relaxing, engine = (recorded_engine(config, purpose, tmp_path) for purpose in ("relax", "supercell"))
    for structure_id in sorted(labelled):
        record, arrays = labelled[structure_id]
        outcome = relax_structure(
            classify(pool[structure_id], 0.01).atoms, relaxing, structure_id, config["relax"], 0.01
        )
        assert outcome.status == "ok"
        assert outcome.values["lattice_constant_angstrom"] == pytest.approx(record["lattice_constant_angstrom"])
        assert outcome.arrays["cell"] == pytest.approx(arrays["cell"], abs=1e-9)
        atoms = pool[structure_id].__class__(
            numbers=arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True
        )
        supercell = build_supercell(atoms, arrays["repetitions"])
        rng = numpy.random.default_rng(derive_seed(config["seed"], structure_id, "displacements"))
        moves = random_displacements(len(arrays["forces"]), len(supercell), 0.03, rng)
        for move, forces in zip(moves, arrays["forces"], strict=True):
            found = engine.forces(displaced_supercell(supercell, move), structure_id)[1]
            assert found == pytest.approx(forces, abs=1e-4)  # 16-bit integers of the largest force
            assert engine.seconds > 1  # the time of the calculation, not of looking it up
    strange = displaced_supercell(supercell, 2 * moves[0])
    with pytest.raises(CalculationError):
        engine.forces(strange, "unknown/0")


def test_the_end_of_a_search_is_taken_for_its_own_crystal_alone(config, tmp_path):
    """The search has changed since the calculations were made, and would go another way and end a bit elsewhere."""
    engine, ends = recorded_engine(config, "relax", tmp_path), []
    for start in (5.5, 5.8):
        crystal = classify(bulk("NaCl", "rocksalt", a=start), 0.01).atoms
        outcome = relax_structure(crystal, engine, "nacl-225", config["relax"], 0.01)
        ends.append(outcome.values["lattice_constant_angstrom"])
    assert ends[0] == ends[1] == pytest.approx(5.679, abs=1e-3)
    for other in ("cesiumchloride", "zincblende"):
        with pytest.raises(CalculationError):
            crystal = classify(bulk("NaCl", other, a=4.0), 0.01).atoms
            relax_structure(crystal, engine, "nacl-225", config["relax"], 0.01)


def test_every_calculation_says_with_what_it_was_made():
    calculations = read_calculations(CALCULATIONS)
    assert {one.settings["functional"] for one in calculations} == {"PBE"}
    assert all(one.about["version"] and not one.failure for one in calculations)
    # Plane waves: forces are the gradient of the energy, and their sum is zero but for the grid of the functional.
    assert max(numpy.abs(one.results["forces"].sum(axis=0)).max() for one in calculations) < 0.02


def test_the_kept_form_is_made_from_the_files_of_all_jobs(tmp_path):
    folder = tmp_path / "results/work/calculations"
    calculations = read_calculations(CALCULATIONS)[:5]
    for number, one in enumerate([*calculations, calculations[0]]):
        CalculationStore(folder, f"job{number % 3}").add(one)
    (tmp_path / "out").mkdir()
    assert gather_calculations(tmp_path, tmp_path / "out/kept.jsonl") == 5
    assert len(read_calculations(tmp_path / "out/kept.jsonl")) == 5
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept.jsonl"]
    json.loads((tmp_path / "out/kept.jsonl").read_text().splitlines()[0].split(" ", 2)[2])
    for path in folder.iterdir():
        path.unlink()
    CalculationStore(folder, "job").add(read_calculations(CALCULATIONS)[5])
    assert gather_calculations(tmp_path, tmp_path / "out/kept.jsonl") == 6, "what was not calculated again is kept"


def test_a_kept_form_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    folder, kept = tmp_path / "results/work/calculations", tmp_path / "kept.jsonl"
    CalculationStore(folder, "job").add(read_calculations(CALCULATIONS)[0])
    kept.write_text("before")
    monkeypatch.setattr(dft_product.CalculationStore, "add", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        gather_calculations(tmp_path, kept)
    assert kept.read_text() == "before" and not list(tmp_path.glob(".*"))
