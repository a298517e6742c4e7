"""VASP as an engine: inputs, remedies, potentials that never leave their library, outputs of several versions."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from phonoscreen.reference.calculations import read_calculations
from phonoscreen.reference.k_points import irreducible_k_points, k_grid, k_point_groups
from phonoscreen.reference.programs import CalculationError
from phonoscreen.reference.registry import make_engine
from phonoscreen.reference.vasp import VaspCode
from phonoscreen.stages.calculations import write_array
from tests.supercell_files import write_vasprun

SETTINGS = {
    "engine": "vasp", "model": "PBE", "command": "vasp_std", "cutoff_ev": 520, "k_spacing_per_angstrom": 0.3,
    "k_points": "gamma_centred", "smearing_ev": 0.05,
}  # fmt: skip


@pytest.fixture
def salt():
    atoms = bulk("NaCl", "rocksalt", a=5.7).repeat((2, 1, 1))
    atoms.rattle(0.02, seed=3)
    return atoms


def tags(folder):
    return dict(line.split(" = ") for line in (folder / "INCAR").read_text().splitlines())


@pytest.mark.parametrize(("model", "tag"), [("PBE", "PE"), ("PBEsol", "PS")])
def test_the_functional_of_the_settings_is_that_of_incar(tmp_path, library, salt, model, tag):
    from pymatgen.io.vasp.sets import MPRelaxSet

    code = VaspCode({**SETTINGS, "model": model})
    code.write(salt, tmp_path, "")
    assert tags(tmp_path)["GGA"] == tag
    assert model in code.name
    assert code.settings["functional"] == model
    assert MPRelaxSet.CONFIG["INCAR"]["ENCUT"] == 520  # the cutoff of the Materials Project


@pytest.mark.parametrize(
    ("remedy", "tag", "value"), [("electrons", "ALGO", "All"), ("symmetry", "ISYM", "0"), ("memory", "NCORE", "1")]
)
def test_a_remedy_changes_how_and_never_what_is_calculated(tmp_path, library, salt, remedy, tag, value):
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    code = VaspCode(SETTINGS)
    code.write(salt, tmp_path / "0", "")
    code.write(salt, tmp_path / "1", remedy)
    before, after = tags(tmp_path / "0"), tags(tmp_path / "1")
    assert after[tag] == value
    physics = ("GGA", "ENCUT", "EDIFF", "ISMEAR", "SIGMA", "PREC", "LREAL", "ISPIN")
    assert {key: before[key] for key in physics} == {key: after[key] for key in physics}


@pytest.mark.parametrize(
    ("grid", "centred", "count"),
    [((8, 8, 8), True, 29), ((4, 4, 4), True, 8), ((4, 4, 4), False, 10), ((1, 1, 1), True, 1)],
)
def test_irreducible_k_points_of_a_face_centred_cubic_crystal(grid, centred, count):
    """The textbook numbers: 29 and 8 with Gamma; the shifted grid of 4, in the primitive cell, has 10 and not 8."""
    crystal = bulk("Si", "diamond", a=5.43)
    assert irreducible_k_points(crystal, grid, centred) == count
    crystal.rattle(0.01, seed=1)  # time reversal alone is left
    halves = {True: (numpy.prod(grid) + 2 ** sum(n % 2 == 0 for n in grid)) // 2, False: numpy.prod(grid) // 2}[centred]
    assert irreducible_k_points(crystal, grid, centred) == halves


def test_mpi_tasks_share_k_points_where_there_are_enough_of_them(tmp_path, library, salt):
    assert [k_point_groups(*pair) for pair in ((1, 9), (8, 3), (6, 100), (7, 3), (4, 1))] == [1, 2, 6, 1, 1]
    code = VaspCode({**SETTINGS, "tasks": 16})
    code.write(salt, tmp_path, "")
    count = irreducible_k_points(salt, k_grid(salt.cell, SETTINGS["k_spacing_per_angstrom"]), True)
    assert 16 % int(tags(tmp_path)["KPAR"]) == 0 and 1 < int(tags(tmp_path)["KPAR"]) <= count
    assert code.identity(salt) == VaspCode(SETTINGS).identity(salt)  # calculations finished with other tasks stay
    code.write(salt, tmp_path, "memory")
    assert tags(tmp_path)["KPAR"] == "1"
    VaspCode(SETTINGS).write(salt, tmp_path, "")
    assert "KPAR" not in tags(tmp_path)


def test_k_points_are_centred_or_shifted(tmp_path, library, salt):
    code = VaspCode({**SETTINGS, "k_points": "shifted"})
    code.write(salt, tmp_path, "")
    assert "Monkhorst-Pack" in (tmp_path / "KPOINTS").read_text()
    code.write(salt, tmp_path, "k_points")
    assert "Gamma" in (tmp_path / "KPOINTS").read_text()


@pytest.mark.parametrize(
    ("printed", "failure"),
    [
        ("VERY BAD NEWS! internal error in subroutine IBZKPT", "k_points"),
        ("internal error in subroutine SGRCON", "symmetry"),
        ("BRMIX: very serious problems", "electrons"),
        ("forrtl: severe (41): insufficient virtual memory", "memory"),
        ("something else", "unfinished"),
    ],
)
def test_the_class_of_a_failure_is_what_vasp_says(tmp_path, salt, printed, failure):
    (tmp_path / "vasp.log").write_text(printed)
    with pytest.raises(CalculationError) as caught:
        VaspCode(SETTINGS).read(tmp_path, salt)
    assert caught.value.failure == failure


def recorded(atoms, path):
    """A vasprun.xml for a POSCAR: forces that tell the atoms apart."""
    order = numpy.argsort(atoms.numbers, kind="stable")
    forces = numpy.arange(3.0 * len(atoms)).reshape(-1, 3) / 10
    grouped = atoms[order]
    grouped.calc = SinglePointCalculator(grouped, forces=forces[order], energy=-1.0)
    write_vasprun(path, grouped)
    text = path.read_text()
    stress = '<varray name="stress"><v>-10.0 0.0 0.0</v><v>0.0 -10.0 0.0</v><v>0.0 0.0 -10.0</v></varray>'
    at = text.rindex("<energy>", 0, text.rindex("</calculation>"))
    path.write_text(text[:at] + stress + text[at:])
    return forces


def test_a_run_leaves_the_hash_of_its_potentials_and_nothing_of_them(tmp_path, library, salt):
    forces = recorded(salt, tmp_path / "recorded.xml")
    program = tmp_path / "vasp.py"
    program.write_text(f"import shutil; shutil.copy({str(tmp_path / 'recorded.xml')!r}, 'vasprun.xml')")
    engine = make_engine({**SETTINGS, "command": f"{sys.executable} {program}"}, 1, tmp_path / "run")
    energy, found, stress = engine.evaluate(salt, "nacl/0")
    assert energy == -1.0
    assert found == pytest.approx(forces, abs=1e-9)  # in the order of the atoms that were given
    assert stress == pytest.approx(numpy.eye(3) * 10 / 1602.1766208, rel=1e-6)
    (kept,) = read_calculations(tmp_path / "run/finished/calculations.jsonl")
    potcar = "".join((library / f"potpaw_PBE/{name}/POTCAR").read_text() for name in ("Na_pv", "Cl"))
    assert kept.about["potcar_sha256"] == hashlib.sha256(potcar.encode()).hexdigest()
    assert kept.about["potentials"] == ["PAW_PBE Na_pv 19Sep2006", "PAW_PBE Cl 19Sep2006"]
    assert kept.about["version"] == "5.4.4"
    everything = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"secret numbers" not in everything


def test_other_potentials_are_another_calculation_and_a_machine_without_any_takes_what_there_is(
    tmp_path, library, salt, monkeypatch
):
    recorded(salt, tmp_path / "recorded.xml")
    program, runs = tmp_path / "vasp.py", tmp_path / "runs"
    copy = f"import shutil; shutil.copy({str(tmp_path / 'recorded.xml')!r}, 'vasprun.xml')"
    program.write_text(f"{copy}; open({str(runs)!r}, 'a').write('r')")

    def forces(**changes):
        settings = {**SETTINGS, "command": f"{sys.executable} {program}", **changes}
        make_engine(settings, 1, tmp_path / "run").forces(salt, "nacl/0")
        return len(runs.read_text())

    assert (forces(), forces()) == (1, 1)
    other = library / "potpaw_PBE/Cl/POTCAR"
    other.write_text(other.read_text().replace("19Sep2006", "06Sep2000"))
    assert (forces(), forces()) == (2, 2)
    monkeypatch.delenv("VASP_PP_PATH")
    assert (forces(), forces(mode="collect")) == (2, 2)


def test_inputs_for_another_machine_hold_no_potential_and_name_those_needed(tmp_path, library, salt, monkeypatch):
    settings = {**SETTINGS, "mode": "write_inputs", "command": None}
    engine = make_engine(settings, 1, tmp_path / "inputs")
    with pytest.raises(CalculationError, match="its inputs are written"):
        engine.forces(salt, "nacl/0")
    folder = tmp_path / "inputs/nacl/0"
    assert sorted(path.name for path in folder.iterdir()) == ["INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"]
    assert (folder / "POTCAR.spec").read_text() == "Na_pv\nCl\n"
    shutil.rmtree(tmp_path / "inputs/finished", ignore_errors=True)
    assert write_array(tmp_path / "inputs", VaspCode(settings).command_elsewhere, VaspCode.log) == 1
    script = (tmp_path / "inputs/array.sh").read_text()
    assert "POTCAR.spec" in script
    assert "srun vasp_std" in script


def test_outputs_of_another_crystal_are_refused(tmp_path, salt):
    recorded(salt, tmp_path / "vasprun.xml")
    (tmp_path / "vasp.log").write_text("")
    other = salt.copy()
    other.positions[0, 0] += 0.01
    with pytest.raises(CalculationError, match="another crystal"):
        VaspCode(SETTINGS).read(tmp_path, other)


def test_outputs_that_vasp_itself_wrote_are_read(tmp_path):
    """From the test data that ASE installs."""
    import ase.test
    from ase.io import read

    path = Path(ase.test.__file__).parent / "testdata/vasp/vasprun_pstress.xml"
    if not path.exists():
        pytest.skip("this installation of ASE has no test data")
    shutil.copy(path, tmp_path / "vasprun.xml")
    atoms = read(path, index=-1)
    found = VaspCode(SETTINGS).read(tmp_path, atoms)
    assert found["forces"].shape == (len(atoms), 3)
    assert VaspCode(SETTINGS).about(tmp_path)["version"].split(".")[0] in ("4", "5", "6")
