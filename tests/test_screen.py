"""``phonoscreen screen``: structures to conductivities, one row each, with the committee's spread."""

import json
import os
import subprocess
import sys
import tarfile

import h5py
import numpy
import pandas
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import get_supercell

from phonoscreen.__main__ import main
from phonoscreen.analysis.ranking import lines_of_ranking
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome
from phonoscreen.audit.shipped import shipped
from phonoscreen.commands import screen as command
from phonoscreen.force_constants.fit import FitterPool
from phonoscreen.force_constants.settings import FitSettings, OrderSettings, SupercellSettings
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.engine import CommitteeEngine
from phonoscreen.forcefield.models.equivariant import EquivariantPotential
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.reference.named import engine_of_name
from phonoscreen.stages import screening_folder
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.force_constants import fit_structure
from phonoscreen.stages.labels import label_supercells
from phonoscreen.stages.one_crystal import Choices
from phonoscreen.stages.screening import Progress, Screening, transport_of
from phonoscreen.stages.screening_forces import LabelledScreening, ModelForces, choices_of
from phonoscreen.stages.screening_sources import read_candidates
from phonoscreen.stages.screening_table import COLUMNS, row_of, table_of, with_error
from phonoscreen.stages.stored_force_constants import StoredForceConstants
from phonoscreen.stages.transport import Task, solve_structure
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.formulas import composition
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_crystal
from phonoscreen.structures.supercells import random_displacements
from phonoscreen.structures.third_order_reach import ThirdOrderReach
from phonoscreen.workflow.settings.check import check_settings
from tests.conftest import ROOT
from tests.forcefield_crystals import SETTINGS, perovskite

QUICK = {
    "supercell": {"min_length_angstrom": 7, "reference_min": 4, "network_min": 4},
    "force_constants": {"third_cutoff_angstrom": 3.0},
    "transport": {"mesh_density_angstrom": 12, "committee_mesh_density_angstrom": None},
}
CLOCKS = ["seconds", "relaxation_seconds", "force_seconds"]
EMT_NAME = "ase.calculators.emt:EMT"


@pytest.fixture
def metals(tmp_path):
    """Folder of two metals and a file that holds no structure, and a file of quick settings beside it."""
    folder = tmp_path / "metals"
    folder.mkdir()
    for symbol, a in (("Cu", 3.65), ("Al", 4.05)):
        write(folder / f"{symbol}.cif", bulk(symbol, "fcc", a=a, cubic=True))
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    return folder


def run(tmp_path, *arguments, output="out"):
    """Run the command with forces of effective-medium theory; return its table without clocks, by id."""
    code = main(["screen", *map(str, arguments), "--potential", EMT_NAME, "--settings", str(tmp_path / "quick.yaml"),
                 "--output", str(tmp_path / output)])  # fmt: skip
    table = pandas.read_parquet(tmp_path / output / "screen.parquet")
    return code, table.drop(columns=CLOCKS).set_index("structure_id")


def test_a_row_depends_on_its_structure_alone_and_a_bad_file_is_a_row(metals, tmp_path, capsys):
    (metals / "broken.cif").write_text("no crystal")
    (metals / "link.cif").symlink_to(tmp_path / "nowhere.cif")
    code, together = run(tmp_path, metals, "AlNi:caesium-chloride")
    assert code == 1 and list(together.index) == ["al", "cu", "broken", "link", "alni-221"]
    assert together.loc["broken", "status"] == "failed" and together.loc["broken", "reason"]
    assert together.loc["alni-221", "status"] == "unstable" and "imaginary" in together.loc["alni-221", "reason"]
    good = together.loc[["al", "cu"]]
    assert (good["status"] == "ok").all() and (good["kappa_p_w_per_m_k"] > 0).all()
    code, alone = run(tmp_path, metals / "Cu.cif", output="alone")
    assert code == 0
    columns = [name for name in together.columns if name != "source"]
    pandas.testing.assert_frame_equal(alone[columns], together.loc[["cu"], columns])
    printed = capsys.readouterr().out
    for words in ("3/5 broken: failed", "4/5 link: failed, cannot be opened", "2 ok, 2 failed, 1 unstable"):
        assert words in printed
    assert "lowest conductivity first" in printed
    csv = pandas.read_csv(tmp_path / "out/screen.csv")
    assert list(csv.columns) == list(COLUMNS) and len(csv) == 5


def test_one_crystal_gives_the_same_numbers_under_any_name_and_in_any_cell(tmp_path):
    """Displacements drawn by the name of the file had moved the conductivity of NaCl by 5 %."""
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    cube, primitive = bulk("Al", "fcc", a=4.05, cubic=True), bulk("Al", "fcc", a=4.05)
    turned = primitive.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    for name, atoms in (("cube", cube), ("other", cube), ("turned", turned), ("doubled", cube.repeat((2, 1, 1)))):
        write(tmp_path / f"{name}.vasp", atoms, direct=True)
    _, table = run(tmp_path, *sorted(tmp_path.glob("*.vasp")))
    for name in ("kappa_p_w_per_m_k", "kappa_c_w_per_m_k", "frequency_max_thz", "sound_velocity_m_per_s"):
        assert (table[name] > 0).all() and table[name].max() / table[name].min() < 1 + 1e-6, table[name].to_dict()


def test_an_interrupted_screening_goes_on_and_gives_the_same_table(metals, tmp_path, monkeypatch, capsys):
    _, whole = run(tmp_path, metals, output="whole")
    seen = []

    def killed(line):
        seen.append(line)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "_say", killed)
        assert main(["screen", str(metals), "--potential", EMT_NAME, "--settings", str(tmp_path / "quick.yaml"),
                     "--output", str(tmp_path / "out")]) == 130  # fmt: skip
    assert len(seen) == 1 and not (tmp_path / "out/screen.csv").exists()
    capsys.readouterr()
    _, resumed = run(tmp_path, metals)
    printed = capsys.readouterr().out
    assert "1/2 al: κ_p" in printed and "(kept" in printed.splitlines()[0] and "(kept" not in printed.splitlines()[1]
    pandas.testing.assert_frame_equal(resumed, whole)
    row = tmp_path / "out/structures/al/row.json"
    row.write_text(row.read_text().replace("ok", "ko"))  # damaged: computed again
    write(metals / "Cu.cif", bulk("Cu", "fcc", a=3.7, cubic=True))  # other content: computed again
    _, again = run(tmp_path, metals)
    assert "(kept" not in capsys.readouterr().out.split("lowest")[0]
    assert again["kappa_p_w_per_m_k"].tolist() == pytest.approx(whole["kappa_p_w_per_m_k"].tolist(), rel=0.05)


def test_a_row_that_was_kept_gets_the_error_of_a_calibration_made_since():
    row = row_of({"kappa_p_rta_std_decades": 0.1}, Outcome(), {})
    assert (row["kappa_p_error_decades"], row["calibrated"]) == (0.1, False)
    later = with_error(row, {"kappa_p_rta_std_decades": 2.0})
    assert (later["kappa_p_error_decades"], later["calibrated"]) == (0.2, True) and list(later) == list(row)


def test_other_settings_and_foreign_folders_are_refused(metals, tmp_path, capsys):
    run(tmp_path, metals / "Al.cif")
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump({**QUICK, "transport": {"mesh_density_angstrom": 13}}))
    assert main(["screen", str(metals), "--potential", EMT_NAME, "--settings", str(tmp_path / "quick.yaml"),
                 "--output", str(tmp_path / "out")]) == 2  # fmt: skip
    assert "transport.mesh_density_angstrom" in capsys.readouterr().err
    assert main(["screen", str(metals), "--potential", EMT_NAME, "--output", str(metals)]) == 2
    assert "Al.cif" in capsys.readouterr().err and not (metals / "screen.json").exists()
    with screening_folder.ScreeningFolder(tmp_path / "locked", {"forces": {}}, ""):
        with pytest.raises(StudyError, match="another run is writing"):
            screening_folder.ScreeningFolder(tmp_path / "locked", {"forces": {}}, "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.cif"], "no file or folder"),
        ([], "nothing to screen"),
        (["Cu:fcc", "--potential", "magic"], "unknown potential"),
        (["Cu:fcc", "--potential", ""], "unknown potential ''"),
        (["Cu:fcc", "--model", ""], "holds no model.json"),
        (["Cu:fcc", "--potential", "ase.calculators.emt:Nothing"], "module:Class"),
        (["Cu:fcc", "--potential", "ase:Atoms", "--potential-arguments", '{"magic": 1}'], "does not take"),
        (["Cu:fcc", "--potential", "collections:OrderedDict"], "no calculator"),
        (["Cu:fcc", "--potential-arguments", "{}"], "without --potential"),
        (["Cu:fcc", "--forces", "nowhere"], "no folder"),
        (["Cu:fcc", "--temperature", "-5", "--potential", EMT_NAME], "temperature_k"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["screen", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "screen").exists()


def test_what_the_settings_ask_of_a_fit_reaches_forces_that_exist_or_is_refused(tmp_path, capsys):
    """Method, sequence and sum rules had no effect with --forces, and a learning curve none at all."""
    section = check_settings({})["force_constants"]
    assert choices_of(section, by_pairs=True) == Choices(OrderSettings(third_cutoff_angstrom=None))
    changed = {"in_sequence": True, "rotational_sum_rules": False, "third_cutoff_angstrom": 4.0}
    changed["method"] = dict.fromkeys(section["method"], "lasso")
    assert choices_of(section | changed, by_pairs=True) == Choices(OrderSettings(4.0), True, "lasso", True, False)
    assert not choices_of(section | changed, by_pairs=False).insists_on_third
    with pytest.raises(StudyError, match="one method"):
        choices_of(section | {"method": {**section["method"], "third": "lasso"}}, by_pairs=True)
    (tmp_path / "mine.yaml").write_text("force_constants: {learning_curve: true}")
    assert main(["screen", "Cu:fcc", "--settings", str(tmp_path / "mine.yaml")]) == 2
    assert "learning curves" in capsys.readouterr().err


def test_a_terminal_without_greek_letters_ends_no_screening(metals, tmp_path):
    arguments = ["screen", "metals/Al.cif", "--potential", EMT_NAME, "--settings", "quick.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "phonoscreen", *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0 and r"\u03ba_p" in done.stdout, done.stderr


def test_a_space_group_names_a_structure_type_where_one_alone_has_the_counts():
    types = yaml.safe_load(shipped("resources/prototypes.yaml").read_text())["structure_types"]
    given = ["NaCl:Fm3m", "NaCl:225", "NaCl:F m -3 m", "ZnS:F-43m", "C:Fd-3m", "Cu3Au:Pm-3m", "NaCl:P1", "NaCl:Fx"]
    found, _ = read_candidates(given, types)
    assert [one.source_id for one in found[:5]] == ["NaCl:225-AB"] * 3 + ["ZnS:216-AB", "C:227-A"]
    assert [bool(one.problem) for one in found] == 5 * [False] + 3 * [True]
    assert "2 structure types of space group 221" in found[5].problem and "221-AB3-ReO3" in found[5].problem
    assert "0 structure types of space group 1" in found[6].problem and "unknown structure type" in found[7].problem


def test_formulas_of_no_crystal_and_elements_that_a_calculator_lacks_are_rows(metals, tmp_path):
    """A count of eleven digits took all memory and time: every atom of the formula was written out."""
    code, table = run(tmp_path, "Na99999999999Cl:rocksalt", "NaCl:rocksalt")
    assert code == 1 and list(table["status"]) == ["failed", "failed"]
    huge, unknown = table["reason"]
    assert "is of no crystal" in huge and "EMT: NotImplementedError: No EMT-potential for Na" in unknown
    with pytest.raises(StudyError, match="not a formula"):
        composition("(" * 5000 + "H" + ")" * 5000)


def test_formulas_stand_on_the_sites_of_their_structure_type(tmp_path):
    types = yaml.safe_load(shipped("resources/prototypes.yaml").read_text())["structure_types"]
    (tmp_path / "list").write_text("# salts\nNaCl\n KCl : 221-AB # the other type\n\nnonsense\nNaCl:magic\n")
    found, files = read_candidates(
        ["Cs2KIrCl6:elpasolite", "KIrCs2Cl6:225-ABC2D6"], types, tmp_path / "list", "rocksalt"
    )
    assert [one.structure_id for one in found[:4]] == [
        "cs2kircl6-225", "kircs2cl6-225", "nacl-225", "kcl-221"
    ] and not files  # fmt: skip
    numpy.testing.assert_allclose(found[0].atoms.positions, found[1].atoms.positions)
    assert [one.formula for one in found[:4]] == ["Cs2KIrCl6", "Cs2KIrCl6", "NaCl", "KCl"]
    assert found[4].atoms is None and "nonsense" in found[4].problem
    assert found[5].atoms is None and "rocksalt" in found[5].problem


def test_numbers_are_those_of_the_stages_of_a_study(metals, tmp_path):
    """Aluminium through the study's own files: relaxation, assignment, labels, fit, transport."""
    _, table = run(tmp_path, metals / "Al.cif")
    settings = json.loads((tmp_path / "out/screen.json").read_text())["settings"]
    engine = CalculatorEngine("ase", "emt", EMT())
    atoms = bulk("Al", "fcc", a=4.05, cubic=True)
    relaxed = relax_structure(atoms, engine, "al", settings["relax"], settings["filter"]["symmetry_tolerance_angstrom"])
    with h5py.File(tmp_path / "bases.h5", "w") as bases, h5py.File(tmp_path / "cells.h5", "w") as cells:
        group = cells.create_group("al")
        for name, array in relaxed.arrays.items():
            group[name] = array
        orders = OrderSettings.from_section(settings["force_constants"])
        supercell, no_types = SupercellSettings.from_section(settings["supercell"]), ThirdOrderReach({})
        assigned = BasisAssigner(bases, supercell, orders, no_types).assign(read_crystal(group))
        group["repetitions"] = [int(n) for n in assigned["repetitions"].split()]
        rng = numpy.random.default_rng(derive_seed(settings["seed"], "Al", "225-A", "displacements"))
        group["displacements"] = random_displacements(assigned["n_reference"], assigned["n_supercell_atoms"], 0.03, rng)
        labels = label_supercells(engine, "al", group, range(assigned["n_reference"]))
        own = cells.create_group("labels")
        for name, array in labels.arrays.items():
            own[name] = array
        fit_settings = FitSettings.from_section(settings["force_constants"])
        pool = FitterPool(bases, fit_settings)
        fitted = fit_structure(pool, {**assigned, "basis_key": assigned["basis_key"]}, own, group)
        with h5py.File(tmp_path / "constants.h5", "w") as constants:
            stored = constants.create_group("al")
            stored["parameters"] = fitted.arrays["parameters"]
            stored.attrs.update(fitted.attrs)
        crystal = read_crystal(group)
    with StoredForceConstants(tmp_path / "constants.h5", tmp_path / "bases.h5") as store:
        task = Task(crystal, store.second_order("al"), store.third_order("al"))
    solved = solve_structure(task, transport_of(settings))
    row = table.loc["al"]
    for name in ("kappa_p_w_per_m_k", "kappa_c_w_per_m_k", "kappa_p_rta_w_per_m_k", "sound_velocity_m_per_s",
                 "heat_capacity_j_per_mol_k", "msd_max_angstrom2", "kappa_p_mesh_error_percent"):  # fmt: skip
        assert row[name] == pytest.approx(solved.values[name], rel=1e-8, abs=1e-12, nan_ok=True), name
    assert row["lattice_constant_angstrom"] == pytest.approx(relaxed.values["lattice_constant_angstrom"], rel=1e-12)


class ScaledMetal:
    """A committee whose members give the forces of effective-medium theory times a factor each."""

    has_energy, cutoff_angstrom = True, 6.0

    def __init__(self, factors):
        self.members = list(factors)

    def supercell_forces(self, data):
        atoms = bulk("Al", "fcc", a=4.0)
        atoms.set_cell(data.crystal.cell, scale_atoms=True)
        perfect, forces = atoms.repeat([int(n) for n in data.repetitions]), []
        for moves in data.displacements:
            moved = perfect.copy()
            moved.positions += moves
            moved.calc = EMT()
            forces.append(moved.get_forces())
        return numpy.array(self.members)[:, None, None, None] * numpy.array(forces)

    def residual_forces(self, data):
        return numpy.zeros((len(self.members), data.n_atoms, 3))


SCALED = {"kind": "scaled", "settings": {}, "members": ["m"], "members_sha256": {"m": "0"}}


def test_members_that_are_unstable_are_counted_and_no_part_of_the_spread(tmp_path):
    """Forces times s: frequencies with sqrt(s); the member of negative forces is unstable."""
    settings = command._settings(_Arguments(tmp_path))
    spreads = {}
    for factors in ((1.0, 1.1, 1.2), (1.0, 1.1, 1.2, -0.2)):
        forces = ModelForces(ScaledMetal(factors), {**SCALED, "elements": [13]})
        forces.engine = CalculatorEngine("ase", "emt", EMT())
        progress = Progress()
        with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
            candidate = Candidate("al", "files", "al", "Al", bulk("Al", "fcc", a=4.0))
            outcome = Screening(forces, settings, bases, {}).solve(candidate, progress)
        row = row_of(progress.values, outcome, {"kappa_p_rta_std_decades": 1.5})
        assert row["status"] == "ok" and row["calibrated"]
        assert (row["members"], row["members_stable"], row["members_solved"]) == (len(factors), 3, 3)
        assert row["kappa_p_error_decades"] == pytest.approx(1.5 * row["kappa_p_rta_std_decades"])
        spreads[len(factors)] = row
    assert 0 < spreads[4]["kappa_p_rta_std_decades"] < 0.3
    for name in ("kappa_p_rta_std_decades", "sound_velocity_std_m_per_s", "heat_capacity_std_j_per_mol_k"):
        assert spreads[4][name] == pytest.approx(spreads[3][name], rel=1e-6), name
    # sound goes with the root of the forces
    expected = numpy.std(numpy.sqrt([1.0, 1.1, 1.2]), ddof=1) / numpy.sqrt(numpy.mean([1.0, 1.1, 1.2, -0.2]))
    found = spreads[4]["sound_velocity_std_m_per_s"] / spreads[4]["sound_velocity_m_per_s"]
    assert found == pytest.approx(expected, rel=1e-3)
    named = {**spreads[4], "structure_id": "al"}
    lines = lines_of_ranking(table_of([named]))
    assert any("3 of 4 members stable" in line for line in lines)


class _Arguments:
    """What the command line gives besides the structures."""

    temperature = None

    def __init__(self, folder):
        self.settings = folder / "quick.yaml"
        self.settings.write_text(yaml.safe_dump(QUICK))


def test_forces_on_disk_give_what_fit_and_bte_give(tmp_path, capsys):
    atoms = bulk("Cu", "fcc", a=3.59)
    write(tmp_path / "copper.vasp", atoms, direct=True)
    perfect, rng, frames = atoms.repeat(4), numpy.random.default_rng(3), []
    for moves in random_displacements(5, len(perfect), 0.03, rng):
        moved = perfect.copy()
        moved.positions += moves
        moved.calc = EMT()
        moved.get_forces()
        frames.append(moved)
    (tmp_path / "forces/copper").mkdir(parents=True)
    write(tmp_path / "forces/copper/labels.extxyz", frames)
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    assert main(["screen", str(tmp_path / "copper.vasp"), "Ag:fcc", "--forces", str(tmp_path / "forces"), "--settings",
                 str(tmp_path / "quick.yaml"), "--output", str(tmp_path / "out")]) == 1  # fmt: skip
    row = pandas.read_parquet(tmp_path / "out/screen.parquet").set_index("structure_id").loc["copper"]
    assert row["status"] == "ok" and not row["relaxed"] and row["members"] == 0
    assert main(["fit", str(tmp_path / "copper.vasp"), str(tmp_path / "forces/copper/labels.extxyz"), "--third-cutoff",
                 "3.0", "--output", str(tmp_path / "fitted")]) == 0  # fmt: skip
    assert main(["bte", str(tmp_path / "fitted"), "--grid", *row["mesh"].split(), "--isotopes", "--temperature", "300",
                 "--threads", "1", "--quiet"]) == 0  # fmt: skip
    kappa = numpy.loadtxt(tmp_path / "fitted/BTE.KappaTensorVsT_CONV").ravel()[1:10].reshape(3, 3)
    assert row["kappa_p_w_per_m_k"] == pytest.approx(numpy.trace(kappa) / 3, rel=1e-4)


def test_forces_in_an_archive_of_phonopy_are_taken_by_the_name_of_the_structure(tmp_path, capsys):
    """As phononDB has them: conventional cell, DIM in phonopy.conf, one displaced atom; the structure is primitive."""
    cube, inside = bulk("Cu", "fcc", a=3.59, cubic=True), tmp_path / "inside/mp-30"
    inside.mkdir(parents=True)
    write(inside / "POSCAR-unitcell", cube, format="vasp", direct=True)
    (inside / "phonopy.conf").write_text("DIM = 2 2 2\n")
    supercell = get_supercell(
        PhonopyAtoms(numbers=cube.numbers, cell=cube.cell, positions=cube.positions), numpy.diag([2, 2, 2])
    )
    moved = Atoms(
        numbers=supercell.numbers, cell=supercell.cell, positions=supercell.positions, pbc=True, calculator=EMT()
    )
    moved.positions[0, 0] += 0.01
    lines = ["32", "1", "", "1", "0.01 0 0", *(" ".join(f"{x:.8f}" for x in row) for row in moved.get_forces())]
    (inside / "FORCE_SETS").write_text("\n".join(lines) + "\n")
    (tmp_path / "forces").mkdir()
    with tarfile.open(tmp_path / "forces/Cu.tar.gz", "w:gz") as packed:
        packed.add(inside, "mp-30")
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", a=3.59), direct=True)
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK))
    arguments = ["screen", str(tmp_path / "Cu.vasp"), "--forces", str(tmp_path / "forces"), "--settings",
                 str(tmp_path / "quick.yaml"), "--output", str(tmp_path / "out")]  # fmt: skip
    assert main(arguments) == 1
    row = pandas.read_parquet(tmp_path / "out/screen.parquet").loc[0]
    assert row["verdict"] == "stable" and "no third order" in row["reason"]
    capsys.readouterr()
    assert main(["fit", str(inside / "POSCAR-unitcell"), str(inside / "FORCE_SETS"), "--supercell", "2", "2", "2",
                 "--output", str(tmp_path / "fitted")]) == 0  # fmt: skip
    assert row["frequency_max_thz"] == pytest.approx(json.loads(capsys.readouterr().out)["frequency_max_thz"], rel=1e-9)
    write(tmp_path / "Cu.vasp", bulk("Cu", "fcc", a=3.65), direct=True)
    assert main(arguments) == 1
    assert "of another crystal" in pandas.read_parquet(tmp_path / "out/screen.parquet").loc[0, "reason"]


def test_supercells_belong_to_the_structure_of_their_name_and_to_no_other(tmp_path):
    """A name may hold dots: mg-2 has no forces where only those of mg-2.5 are."""
    for name in ("MgO", "mg-2.5.extxyz", "a.b.OUTCAR.gz"):
        (tmp_path / name).touch()
    forces = LabelledScreening(tmp_path, {}, {})
    for structure_id, name in (("mgo", "MgO"), ("mg-2.5", "mg-2.5.extxyz"), ("a.b", "a.b.OUTCAR.gz")):
        assert forces.place(structure_id).name == name
    with pytest.raises(StudyError, match="0 folders or files named mg-2 "):
        forces.place("mg-2")


@pytest.mark.parametrize(("given", "words"), [('{"sigma": }', "is no JSON"), ("3", "names no arguments")])
def test_arguments_that_are_none_are_refused_with_the_form_that_is_wanted(given, words, capsys):
    with pytest.raises(SystemExit):
        main(["screen", "Cu.cif", "--potential", EMT_NAME, "--potential-arguments", given])
    assert words in capsys.readouterr().err


def test_a_misspelt_argument_of_a_calculator_is_refused():
    """ASE's Lennard-Jones potential takes any name: with "sigam" it would compute with the default of sigma."""
    name = "ase.calculators.lj:LennardJones"
    assert engine_of_name(name, {"sigma": 2.3, "rc": 7.0}).calculator().parameters["sigma"] == 2.3
    with pytest.raises(StudyError, match="knows no sigam") as refused:
        engine_of_name(name, {"sigam": 2.3})
    assert "sigma" in refused.value.fix


def test_files_of_other_programs_and_plots_are_written_where_asked(metals, tmp_path):
    run(tmp_path, metals / "Al.cif")
    assert [path.name for path in (tmp_path / "out/structures/al").iterdir()] == ["row.json"]
    run(tmp_path, metals / "Al.cif", "--plots", "--write", "shengbte", "phonopy")
    candidates, _ = read_candidates([tmp_path], {}, left_out=tmp_path / "out")
    assert sorted(one.structure_id for one in candidates) == ["metals-al", "metals-cu"]  # no POSCAR of the results
    found = {path.relative_to(tmp_path / "out/structures/al").as_posix() for path in (tmp_path / "out").rglob("*.*")
             if path.is_file() and "structures" in path.parts}  # fmt: skip
    assert {"bands.png", "kappa.png", "row.json", "phonopy/fc2.hdf5", "phonopy/phono3py.yaml"} <= found
    assert (tmp_path / "out/structures/al/shengbte/CONTROL").exists()


def test_files_that_cannot_be_written_leave_the_row_and_the_other_structures(metals, tmp_path, monkeypatch):
    def broken(*_):
        raise StudyError("no pen", where="figure")

    monkeypatch.setattr("phonoscreen.figures.screened.draw_bands", broken)
    code, table = run(tmp_path, metals, "--plots")
    assert code == 0 and (table["status"] == "ok").all() and table["warnings"].str.contains("no pen").all()


def test_stress_of_a_committee_is_the_slope_of_its_energy():
    torch.manual_seed(2)
    members = [EquivariantPotential({**SETTINGS, "kind": "equivariant", "cutoff_angstrom": 4.5}) for _ in range(2)]
    engine, rng, step = CommitteeEngine(Committee(members), "random"), numpy.random.default_rng(1), 1e-4
    atoms = perovskite()
    atoms.set_cell(atoms.cell.array @ (numpy.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=(5, 3))
    _, forces, stress = engine.evaluate(atoms)
    for a, b in ((0, 0), (1, 2), (2, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = numpy.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(engine.evaluate(moved)[0])
        slope = (energies[0] - energies[1]) / (2 * step * atoms.cell.volume)
        assert stress[a, b] == pytest.approx(slope, rel=1e-5, abs=1e-7)
    moved = [atoms.copy(), atoms.copy()]
    moved[0].positions[3, 1] += step
    moved[1].positions[3, 1] -= step
    slope = -(engine.evaluate(moved[0])[0] - engine.evaluate(moved[1])[0]) / (2 * step)
    assert forces[3, 1] == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_the_page_explains_every_column():
    page = (ROOT / "docs/screen.md").read_text()
    assert [f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items()] == [
        line for line in page.splitlines() if line.startswith("| `") and line.split("`")[1] in COLUMNS
    ]  # fmt: skip
