"""Recorded labels: a study that reads them gets what the potential would have calculated, or a refusal."""

import json

import h5py
import numpy
import pandas
import pytest
from ase.calculators.emt import EMT

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.formats.hidden_content import set_masses
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.reference.collected import CollectedEngine
from phonoscreen.reference.force_sets import ForceSetEngine
from phonoscreen.reference.registry import make_engine
from phonoscreen.stages.label_recording import Recorder, recorded, run
from phonoscreen.stages.labels import label_supercells
from phonoscreen.stages.supercell_size import not_possible, relaxed_primitive
from phonoscreen.structures.packed_labels import write_product
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.workflow.settings.study import Study

TYPES = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
RELAX, TOLERANCE = {"force_max_ev_per_angstrom": 0.001, "stress_max_gpa": 0.05, "steps_max": 60}, 0.01


@pytest.fixture(scope="module")
def settings():
    complete = Study().model_dump()
    complete["supercell"] |= {"min_length_angstrom": 7.0, "network_min": 2, "network_oversampling": 1.0}
    return {**complete, "relax": RELAX}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, settings):
    """Labels of two metals by the effective-medium theory, and a compound that it does not know."""
    place = tmp_path_factory.mktemp("recorded")
    rows = [("cu3au", "AuCu3", "221-AB3", "training"), ("pd3ni", "NiPd3", "221-AB3", "unexplored"),
            ("nacl", "NaCl", "225-AB", "training")]  # fmt: skip
    names = ["structure_id", "formula", "prototype", "part"]
    pandas.DataFrame(rows, columns=names).to_csv(place / "pool.csv", index=False)
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        run(Recorder(CalculatorEngine("ase", "emt", EMT()), settings, TYPES, bases), place / "pool.csv", TYPES,
            place / "kept")  # fmt: skip
    origin = {"engine": "emt", "seed": settings["seed"]}
    write_product(recorded(place / "pool.csv", place / "kept", origin), place / "labels.h5")
    return place


@pytest.fixture
def engine(folder):
    return make_engine({"engine": "recorded", "model": "emt", "file": str(folder / "labels.h5")}, 1)


def test_relaxed_crystals_and_forces_are_those_of_the_potential(engine, folder):
    own, start = CalculatorEngine("ase", "emt", EMT()), build_structure("AuCu3", "221-AB3", TYPES)
    here = relax_structure(start, engine, "cu3au", RELAX, TOLERANCE)
    there = relax_structure(start, own, "cu3au", RELAX, TOLERANCE)
    assert here.values["reference"] == "recorded: emt" and here.status == "ok"
    assert numpy.isnan(engine.seconds)  # looking forces up is no time that a model could be compared with
    # Two searches from different lattice constants end within the limit of the stress.
    assert here.arrays["cell"] == pytest.approx(there.arrays["cell"], abs=1e-3)
    with h5py.File(folder / "kept/cu3au.h5") as kept:
        group = {name: kept[name][()] for name in ("repetitions", "displacements")} | here.arrays
        assert here.arrays["scaled_positions"] == pytest.approx(kept["scaled_positions"][()], abs=1e-12)
    labels = label_supercells(engine, "cu3au", group, range(2)).arrays
    calculated = label_supercells(own, "cu3au", group, range(2)).arrays
    largest = numpy.abs(calculated["forces"]).max()
    assert labels["forces"] == pytest.approx(calculated["forces"], abs=1e-4 * largest)  # displacements of 1e-6 angstrom
    assert labels["residual_forces"] == pytest.approx(calculated["residual_forces"], abs=1e-4 * largest)
    assert labels["energies_ev"] == pytest.approx(calculated["energies_ev"], abs=1e-4)


def test_a_larger_supercell_cannot_be_asked_for(engine):
    """The check of the supercell's size is skipped with its reason, and is made where the reference calculates."""
    left_out = not_possible(engine)
    assert left_out.status == "skipped" and "calculates" in left_out.reason
    assert not_possible(CalculatorEngine("ase", "emt", EMT())) is None


def test_forces_that_others_calculated_cannot_be_asked_for_a_larger_supercell_either(tmp_path):
    """The check had failed for both structures, and with it the summary of a study on forces of one's own."""
    for engine in (CollectedEngine(tmp_path), ForceSetEngine(tmp_path, "PBE")):
        assert not_possible(engine).status == "skipped"


def test_the_check_of_the_supercell_refuses_a_crystal_that_is_not_relaxed():
    crystal = {"cu3au": build_structure("AuCu3", "221-AB3", TYPES)}
    engine = CalculatorEngine("ase", "emt", EMT())
    with pytest.raises(StudyError, match="not relaxed.* left after 1 steps"):
        relaxed_primitive(crystal, "cu3au", engine, {**RELAX, "steps_max": 1}, TOLERANCE)
    atoms = relaxed_primitive(crystal, "cu3au", engine, RELAX, TOLERANCE)
    wanted = relax_structure(crystal["cu3au"], engine, "cu3au", RELAX, TOLERANCE)
    assert numpy.array_equal(atoms.cell.array, wanted.arrays["cell"])


def test_a_known_crystal_says_how_it_was_relaxed_and_keeps_the_isotopes_of_the_structure(engine, folder):
    start = build_structure("AuCu3", "221-AB3", TYPES)
    natural = relax_structure(start, engine, "cu3au", RELAX, TOLERANCE)
    with h5py.File(folder / "kept/cu3au.h5") as kept:
        record = json.loads(kept.attrs["record"])
    for name in ("energy_ev_per_atom", "force_max_ev_per_angstrom", "pressure_gpa", "stress_max_gpa", "steps"):
        assert natural.values[name] == record[name]
    set_masses(start, {29: 64.9277897})  # copper-65
    heavy = relax_structure(start, engine, "cu3au", RELAX, TOLERANCE)
    assert "masses" not in natural.arrays
    assert heavy.arrays["masses"][heavy.arrays["numbers"] == 29] == pytest.approx(64.9277897)


def test_other_displacements_cells_and_structures_are_refused(engine, folder):
    here = relax_structure(build_structure("NiPd3", "221-AB3", TYPES), engine, "pd3ni", RELAX, TOLERANCE)
    with h5py.File(folder / "kept/pd3ni.h5") as kept:
        group = {name: kept[name][()] for name in ("repetitions", "displacements")} | here.arrays
    changes = {
        "differs by": {"displacements": -group["displacements"]}, "another cell": {"cell": 1.01 * group["cell"]},
        "atoms": {"repetitions": group["repetitions"] + 1,
                  "displacements": numpy.zeros((1, 4 * int(numpy.prod(group["repetitions"] + 1)), 3))},
    }  # fmt: skip
    for words, change in changes.items():
        with pytest.raises(StudyError, match=words):
            label_supercells(engine, "pd3ni", {**group, **change}, [0])
    with pytest.raises(StudyError, match="no labels are recorded"):
        relax_structure(build_structure("NaCl", "225-AB", TYPES), engine, "nacl", RELAX, TOLERANCE)
    with pytest.raises(StudyError, match="is recorded, not"):
        relax_structure(build_structure("AuCu3", "221-AB3", TYPES), engine, "pd3ni", RELAX, TOLERANCE)


def test_further_crystals_come_from_labels_of_other_supercells(folder, tmp_path):
    (first, arrays, origin), *others = recorded(folder / "pool.csv", folder / "kept", {"engine": "emt"})
    write_product([(first, arrays, origin)], tmp_path / "labels.h5")
    write_product([(first, arrays, origin), *others], tmp_path / "more.h5")
    files = {"file": str(tmp_path / "labels.h5"), "relaxed": str(tmp_path / "more.h5")}
    engine = make_engine({"engine": "recorded", "model": "emt", **files}, 1)
    start = build_structure("NiPd3", "221-AB3", TYPES)
    here = relax_structure(start, engine, "pd3ni", RELAX, TOLERANCE)
    assert here.status == "ok" and here.values["lattice_constant_angstrom"] > 3
    with pytest.raises(StudyError, match="atoms in another order or number"):
        engine.forces(start, "pd3ni/0")
    write_product([(*others[0][:2], {"engine": "another"})], tmp_path / "more.h5")
    with pytest.raises(StudyError, match="made with another"):
        make_engine({"engine": "recorded", "model": "emt", **files}, 1)


def test_labels_made_for_training_serve_where_their_supercells_are_those_of_the_study(folder, tmp_path):
    """They hold no undisplaced supercell: its forces are zero by symmetry, or it is refused."""
    (_, _, origin), (record, arrays, _), *_ = recorded(folder / "pool.csv", folder / "kept", {"engine": "emt"})
    own = {name: arrays[name][:-1] for name in ("displacements", "forces", "energies_ev", "stresses")}
    record = {**record, "energy_ev": record["energy_ev_per_atom"] * len(arrays["numbers"])}
    write_product([(record, {**arrays, **own}, origin)], tmp_path / "training.h5")
    files = {"file": str(folder / "labels.h5"), "relaxed": str(tmp_path / "training.h5")}
    first, second = (make_engine({"engine": "recorded", "model": "emt", **of}, 1) for of in (
        files, {"file": files["relaxed"]}))  # fmt: skip
    start = build_structure("NiPd3", "221-AB3", TYPES)
    group = relax_structure(start, second, "pd3ni", RELAX, TOLERANCE).arrays | {
        name: arrays[name] for name in ("repetitions", "displacements")}  # fmt: skip
    labels, known = (label_supercells(one, "pd3ni", group, range(2)).arrays for one in (second, first))
    assert numpy.array_equal(labels["forces"], known["forces"]) and not labels["residual_forces"].any()
    assert numpy.abs(known["residual_forces"]).max() < 1e-6
    moved = {
        **arrays,
        **own,
        "scaled_positions": arrays["scaled_positions"] + 0.02 * (arrays["numbers"] == 28)[:, None],
    }
    write_product([(record, moved, origin)], tmp_path / "free.h5")
    free = make_engine({"engine": "recorded", "model": "emt", "file": str(tmp_path / "free.h5")}, 1)
    with pytest.raises(StudyError, match="symmetry leaves atoms free"):
        label_supercells(free, "pd3ni", {**group, "scaled_positions": moved["scaled_positions"]}, [0])


def test_a_file_that_is_none_of_these_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("labels")
    for path in (tmp_path / "absent.h5", tmp_path / "text.h5"):
        with pytest.raises(StudyError):
            make_engine({"engine": "recorded", "model": "emt", "file": str(path)}, 1)


def test_finished_compounds_are_kept(folder, settings):
    class Refusing(CalculatorEngine):
        def forces(self, *_):
            raise AssertionError("nothing is left to be calculated")

        evaluate = forces

    before = {path.name: path.stat().st_mtime_ns for path in (folder / "kept").iterdir()}
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        run(
            Recorder(Refusing("ase", "emt", EMT()), settings, TYPES, bases), folder / "pool.csv", TYPES, folder / "kept"
        )
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "kept").iterdir()} == before
