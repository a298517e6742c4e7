"""Born charges and dielectric tensors: their symmetry, VASP's outputs, GPAW, and the way through the stages."""

import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree

import ase.test
import h5py
import numpy
import pandas
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.io import read

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.response import born_charges, dielectric_tensor, displaced_atoms, field_directions
from phonoscreen.crystal.symmetry import find_symmetry
from phonoscreen.formats.output_charges import charges_file, read_charges
from phonoscreen.reference.calculations import read_calculations
from phonoscreen.reference.registry import engines, make_engine
from phonoscreen.reference.vasp_charges import VaspCharges
from phonoscreen.stages.charges import CalculatedCharges, ChargesOfFiles, find_charges
from phonoscreen.structures.own_charges import OwnCharges, blocked_without
from phonoscreen.workflow.inputs import charges_settings, output_files, output_folder
from phonoscreen.workflow.settings.check import check_settings

DFPT = Path(ase.test.__file__).parent / "testdata/vasp/vasprun_dfpt.xml"
"""VASP 6.3.2, PBE, LEPSILON, primitive NaCl; in ASE's own test data."""
VASP = {"engine": "vasp", "model": "PBE", "command": "false", "cutoff_ev": 400.0, "k_spacing_per_angstrom": 0.6,
        "k_points": "gamma_centred", "smearing_ev": 0.1, "charges": True}  # fmt: skip
GPAW = {**VASP, "engine": "gpaw", "command": None, "cutoff_ev": 250.0, "k_spacing_per_angstrom": 1.3,
        "k_points": "shifted"}  # fmt: skip


def sodium_chloride():
    return read(DFPT)


TRICLINIC = [[4.0, 0, 0], [0.4, 5.0, 0], [0.7, 0.3, 6.0]]
CRYSTALS = {
    "rocksalt": (bulk("MgO", "rocksalt", 4.2), 2, 1),
    "wurtzite": (bulk("ZnO", "wurtzite", a=3.25, c=5.2), 4, 2),
    "diamond": (bulk("Si"), 1, 1),
    "cesium chloride": (bulk("CsCl", "cesiumchloride", 4.1), 2, 1),
    # Inversion alone: two atoms that are one by symmetry, every component for itself.
    "triclinic": (Atoms("I2", [(0.3, 0.5, 0.6), (-0.3, -0.5, -0.6)], cell=TRICLINIC, pbc=True), 3, 6),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_few_displacements_and_fields_determine_everything(name):
    atoms, n_displaced, n_fields = CRYSTALS[name]
    crystal, rng = Crystal.from_ase(atoms), numpy.random.default_rng(7)
    symmetry, noise = find_symmetry(crystal), rng.normal(size=(len(atoms), 3, 3))
    charges = numpy.zeros_like(noise)
    for images, turn in zip(symmetry.atoms, symmetry.cartesian, strict=True):
        charges[images] += turn @ noise @ turn.T / len(symmetry.cartesian)
    displaced, fields = displaced_atoms(crystal), field_directions(crystal)
    assert (len(displaced), len(fields)) == (n_displaced, n_fields)
    found = born_charges(crystal, displaced, [charges[atom][:, axis] for atom, axis in displaced])
    assert found == pytest.approx(charges, abs=1e-12)
    tensor = rng.normal(size=(3, 3))
    tensor = (symmetry.cartesian @ (tensor + tensor.T) @ symmetry.cartesian.transpose(0, 2, 1)).mean(axis=0)
    along = [field @ tensor @ field for field in fields]
    assert dielectric_tensor(crystal, fields, along) == pytest.approx(tensor, abs=1e-12)


def test_charges_of_vasp_are_those_that_it_printed():
    crystal = Crystal.from_ase(sodium_chloride())
    born, dielectric = read_charges(DFPT, crystal)
    # The numbers of the file itself, before phonopy symmetrises them.
    assert born == pytest.approx(numpy.array([1.1467, -1.1467])[:, None, None] * numpy.eye(3), abs=2e-3)
    assert dielectric == pytest.approx(2.69584350 * numpy.eye(3), abs=1e-6)
    other = Crystal.from_ase(bulk("NaCl", "rocksalt", 5.0))
    with pytest.raises(StudyError, match="another crystal"):
        read_charges(DFPT, other)
    swapped = Crystal(crystal.cell, crystal.scaled_positions[::-1].copy(), crystal.numbers[::-1].copy(), crystal.masses)
    assert read_charges(DFPT, swapped)[0] == pytest.approx(born[::-1])


def printed_by_vasp():
    """Born charges of all atoms and dielectric tensor as the recorded file has them."""
    root = ElementTree.parse(DFPT).getroot()
    numbers = [[float(word) for word in v.text.split()] for v in root.findall(".//array[@name='born_charges']/set/v")]
    dielectric = root.find(".//varray[@name='epsilon']").findall("v")
    return numpy.array(numbers).reshape(2, 3, 3), numpy.array([[float(x) for x in v.text.split()] for v in dielectric])


def write_outcar(path, atoms, born, dielectric, ionic=False):
    """An OUTCAR of VASP as short as readers allow, its blocks laid out as VASP prints them."""
    ruler = " -------------------------------------"
    rows = [f"{'':6}{' '.join(f'{x:12.9f}' for x in vector)}{'':6}{' '.join(f'{x:12.9f}' for x in vector)}"
            for vector in atoms.cell.array]  # fmt: skip
    tensor = [ruler, *(f"{'':6}{' '.join(f'{x:12.6f}' for x in row)}" for row in dielectric), ruler, ""]
    charges = [
        line
        for n, one in enumerate(born, 1)
        for line in (f" ion {n:4d}", *(f"{k:5d} {' '.join(f'{x:12.5f}' for x in row)}" for k, row in enumerate(one, 1)))
    ]
    places = [" ".join(f"{x:13.5f}" for x in [*position, 0, 0, 0]) for position in atoms.positions]
    symbols = list(dict.fromkeys(atoms.get_chemical_symbols()))
    counts = "".join(f"{atoms.get_chemical_symbols().count(symbol):4d}" for symbol in symbols)
    other = [line.replace(" 2.", " 9.") for line in tensor]
    further = [" MACROSCOPIC STATIC DIELECTRIC TENSOR IONIC CONTRIBUTION ", *other] if ionic else []
    path.write_text("\n".join([
        " vasp.6.3.2 27Jun22", *(f" POTCAR:    PAW_PBE {symbol} 01Jan2000" for symbol in symbols * 2),
        f"   ions per type = {counts}", "",
        f"   number of dos      NEDOS =    301   number of ions     NIONS =  {len(atoms):5d}",
        "--------------------------------------- Iteration      1(   1)  ---------------------------------------",
        " MACROSCOPIC STATIC DIELECTRIC TENSOR (including local field effects in DFT)", *tensor,
        " BORN EFFECTIVE CHARGES (in e, cummulative output)", ruler, *charges, ruler, "",
        *further,
        "      direct lattice vectors                 reciprocal lattice vectors", *rows, "",
        " POSITION                                       TOTAL-FORCE (eV/Angst)", ruler, *places, ruler, "",
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", f" {ruler}", "  free  energy   TOTEN  =       -6.0 eV", "",
        "  energy  without entropy=       -6.0  energy(sigma->0) =       -6.0",
        " General timing and accounting informations for this job:", "",
    ]))  # fmt: skip


@pytest.mark.parametrize("cell", ["primitive", "conventional"])
def test_charges_are_taken_with_every_digit_from_either_output_of_vasp(cell, tmp_path):
    crystal, (printed, tensor) = Crystal.from_ase(sodium_chloride()), printed_by_vasp()
    mean = numpy.trace(printed[0] - printed[1]) / 6 * numpy.eye(3)  # cubic, and the sum of both is zero
    born, dielectric = read_charges(DFPT, crystal)
    assert born == pytest.approx(numpy.array([mean, -mean]), abs=1e-12)
    assert dielectric == pytest.approx(numpy.trace(tensor) / 3 * numpy.eye(3), abs=1e-12)
    atoms = sodium_chloride()
    if cell == "conventional":
        atoms = make_supercell(atoms, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    # The ions in the order of VASP's file: by species, as POSCAR had them.
    atoms = atoms[numpy.argsort(-atoms.numbers, kind="stable")]
    each = {number: printed[k] for k, number in enumerate(sodium_chloride().numbers)}
    for ionic in (False, True):  # phonons beside the charges: an ionic part follows, which is not the electronic one
        write_outcar(tmp_path / "OUTCAR", atoms, [each[number] for number in atoms.numbers], tensor, ionic)
        born, dielectric = read_charges(tmp_path / "OUTCAR", crystal)
        assert born == pytest.approx(numpy.array([mean, -mean]), abs=1e-5)  # five digits in OUTCAR
        assert dielectric == pytest.approx(numpy.trace(tensor) / 3 * numpy.eye(3), abs=1e-5)


def test_charges_of_fewer_atoms_or_without_the_symmetry_of_the_crystal_are_refused(tmp_path):
    crystal, (printed, tensor) = Crystal.from_ase(sodium_chloride()), printed_by_vasp()
    write_outcar(tmp_path / "OUTCAR", sodium_chloride(), printed[:1], tensor)
    with pytest.raises(StudyError, match=r"holds no Born charges[\s\S]*LEPSILON"):
        read_charges(tmp_path / "OUTCAR", crystal)
    skewed = printed + numpy.diag([0.5, 0, 0])
    write_outcar(tmp_path / "OUTCAR", sodium_chloride(), skewed, tensor)
    with pytest.raises(StudyError, match="do not belong together"):
        read_charges(tmp_path / "OUTCAR", crystal)


def test_an_output_without_charges_is_refused_with_the_remedy():
    path = DFPT.parent / "vasprun_pstress.xml"
    with pytest.raises(StudyError, match="LEPSILON"):
        read_charges(path, Crystal.from_ase(read(path)))


def test_inputs_of_vasp_ask_for_charges_and_its_output_gives_them(tmp_path):
    code, atoms = VaspCharges({**VASP, "mode": "write_inputs"}), sodium_chloride()
    code.write(atoms, tmp_path, "")
    assert "LEPSILON = .TRUE." in (tmp_path / "INCAR").read_text()
    # Sodium comes before chlorine in POSCAR as in the recorded output.
    (tmp_path / "vasprun.xml").write_bytes(DFPT.read_bytes())
    results = code.read(tmp_path, atoms)
    assert results["gap_ev"] > 4
    assert results["born_charges"][0] == pytest.approx(1.1467 * numpy.eye(3), abs=2e-3)
    assert code.identity(atoms) != {**code.identity(atoms), "charges": False}


def test_every_engine_that_calculates_charges_is_no_engine_of_its_own():
    assert not [name for name in engines() if name.endswith("_charges")]


@pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")
def test_gpaw_gives_the_charges_of_magnesium_oxide(tmp_path):
    atoms = bulk("MgO", "rocksalt", 4.25)
    engine = make_engine(GPAW, 1, tmp_path)
    outcome = find_charges(CalculatedCharges(engine), "mgo-225", atoms)
    # Literature (PBE, linear response): 1.97 to 1.98 e; these settings are coarse.
    assert outcome.arrays["born_charges"][0] == pytest.approx(1.98 * numpy.eye(3), abs=0.1)
    assert outcome.arrays["born_charges"].sum(axis=0) == pytest.approx(numpy.zeros((3, 3)), abs=1e-12)
    assert 2.5 < outcome.values["dielectric_mean"] < 7  # falls to about 3 with denser k points
    (kept,) = read_calculations(tmp_path / "finished/calculations.jsonl")
    assert (kept.label, kept.settings["charges"]) == ("mgo-225/charges", True)
    again = find_charges(CalculatedCharges(make_engine({**GPAW, "command": "false"}, 1, tmp_path)), "x", atoms)
    assert again.arrays["born_charges"] == pytest.approx(outcome.arrays["born_charges"], abs=1e-9)


def test_a_crystal_without_a_gap_has_no_charges_and_says_so():
    class Metal:
        name = "DFT"

        def results_of(self, atoms, label):
            return {"energy_ev": 0.0, "gap_ev": 0.0}

    outcome = find_charges(CalculatedCharges(Metal()), "cu", bulk("Cu"))
    assert (outcome.status, outcome.arrays, outcome.values["charges_from"]) == ("ok", {}, "")
    assert "no gap" in outcome.values["without_charges"]


def test_files_of_a_folder_serve_each_structure(tmp_path):
    (tmp_path / "nacl-225").mkdir()
    (tmp_path / "nacl-225/vasprun.xml").write_bytes(DFPT.read_bytes())
    config = {"charges": {"source": "files", "folder": str(tmp_path)}}
    assert output_files(output_folder(config, "charges")) == [str(tmp_path / "nacl-225/vasprun.xml")]
    source = ChargesOfFiles(tmp_path)
    found = find_charges(source, "nacl-225", sodium_chloride())
    assert found.values["charges_from"] == "vasprun.xml"
    assert found.values["dielectric_mean"] == pytest.approx(2.6958, abs=1e-4)
    assert "no BORN" in find_charges(source, "mgo-225", bulk("MgO", "rocksalt", 4.2)).values["without_charges"]
    lines = [f"{14.399652}", *(" ".join(map(str, numpy.ravel(t))) for t in (3 * numpy.eye(3), 2 * numpy.eye(3)))]
    (tmp_path / "nacl-225/BORN").write_text("\n".join([*lines, " ".join(map(str, (-2 * numpy.eye(3)).ravel()))]))
    assert charges_file(tmp_path / "nacl-225").name == "BORN"  # what the user made of it counts first


def test_charges_of_the_stage_replace_those_of_labels_and_their_failure_stops_the_fit(tmp_path):
    born, dielectric = numpy.ones((2, 3, 3)), numpy.eye(3)
    with h5py.File(tmp_path / "0.h5", "w") as store:
        store["a/born_charges"], store["a/dielectric"] = born, dielectric
        store.create_group("metal")
    own, none = OwnCharges(tmp_path / "0.h5"), OwnCharges(None)
    with_labels = (2 * born, dielectric)
    assert own.of("a", with_labels)[0] == pytest.approx(born)
    assert own.of("metal", with_labels) is None
    assert none.of("a", with_labels) is with_labels
    forces = pandas.DataFrame(
        {"structure_id": ["a", "b", "c"], "stage": "check_labels", "status": ["ok", "ok", "failed"], "reason": ""}
    )
    charges = pandas.DataFrame({"structure_id": ["a", "b", "c"], "stage": "calculate_charges",
                                "status": ["ok", "failed", "failed"], "reason": ["", "no", "no"]})  # fmt: skip
    mixed = blocked_without(forces, charges)
    assert mixed["stage"].tolist() == ["check_labels", "calculate_charges", "check_labels"]
    assert mixed["status"].tolist() == ["ok", "failed", "failed"]
    assert blocked_without(forces, None) is forces


def test_settings_of_charges_contradict_what_cannot_be(tmp_path):
    base = yaml.safe_load(Path("config.yaml").read_text()) if Path("config.yaml").exists() else {}
    with pytest.raises(StudyError, match="no folder"):
        check_settings({**base, "charges": {"source": "files"}})
    with pytest.raises(StudyError, match="does not"):
        check_settings({**base, "charges": {"source": "calculated"}, "reference": {"engine": "sevennet"}})
    config = check_settings({**base, "charges": {"source": "calculated"}, "reference": {"engine": "gpaw"}})
    found = charges_settings(config)
    assert (found["engine"], found["charges"], found["k_spacing_per_angstrom"]) == ("gpaw", True, 0.3)
    json.dumps(found)


def test_the_stage_writes_charges_and_a_record_for_every_structure(tmp_path):
    from phonoscreen.audit.records import read_records, write_records
    from phonoscreen.structures.store import structure_arrays
    from tests.small_study import run_script

    (tmp_path / "my_charges/nacl-225").mkdir(parents=True)
    (tmp_path / "my_charges/nacl-225/vasprun.xml").write_bytes(DFPT.read_bytes())
    with h5py.File(tmp_path / "relaxed.h5", "w") as store:
        for name, atoms in (("nacl-225", sodium_chloride()), ("mgo-225", bulk("MgO", "rocksalt", 4.2))):
            for key, array in structure_arrays(atoms).items():
                store[f"{name}/{key}"] = array
    statuses = {"nacl-225": "ok", "mgo-225": "ok", "kcl-225": "not_converged"}
    records = [{"structure_id": name, "stage": "relax_structures", "status": status,
                "reason": "" if status == "ok" else "forces"} for name, status in statuses.items()]  # fmt: skip
    write_records(records, tmp_path / "relaxed.parquet")
    output = {"arrays": str(tmp_path / "charges.h5"), "records": str(tmp_path / "charges.parquet")}
    inputs = {"relaxed": str(tmp_path / "relaxed.h5"), "relaxed_records": str(tmp_path / "relaxed.parquet")}
    params = {"charges": {"source": "files"}, "folder": str(tmp_path / "my_charges")}
    run_script("calculate_charges", input=inputs, output=output, params=params)
    found = read_records(output["records"]).set_index("structure_id")
    assert found["status"].to_dict() == {"nacl-225": "ok", "mgo-225": "ok", "kcl-225": "skipped"}
    assert found.loc["nacl-225", "charges_from"] == "vasprun.xml"
    assert "no BORN" in found.loc["mgo-225", "without_charges"]
    charges = OwnCharges(output["arrays"])
    assert charges.of("nacl-225", None)[0][0] == pytest.approx(1.1467 * numpy.eye(3), abs=2e-3)
    assert charges.of("mgo-225", None) is None
    # The statuses of the stage sum to its structures, and what goes on is not stopped by a crystal without charges.
    forces = pandas.DataFrame({"structure_id": ["nacl-225", "mgo-225"], "stage": "x", "status": "ok", "reason": ""})
    assert blocked_without(forces, read_records(output["records"]))["status"].tolist() == ["ok", "ok"]
