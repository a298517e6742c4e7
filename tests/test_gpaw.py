"""GPAW as an engine, really run on cells of one or two atoms."""

import importlib.util
import json
import subprocess

import numpy
import pytest
from ase.build import bulk

from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.calculations import read_calculations
from phonoscreen.reference.gpaw import GpawCode
from phonoscreen.reference.programs import CalculationError
from phonoscreen.reference.registry import make_engine

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")

SETTINGS = {
    "engine": "gpaw", "model": "PBE", "command": None, "cutoff_ev": 250.0, "k_spacing_per_angstrom": 0.9,
    "k_points": "shifted", "smearing_ev": 0.05,
}  # fmt: skip


def silicon():
    return bulk("Si", "diamond", 5.47)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gpaw")


def test_forces_are_the_gradient_of_the_energy_and_nothing_is_repeated(folder):
    engine = make_engine(SETTINGS, 1, folder)
    energies, step = [], 0.01
    for index, shift in enumerate((-step, 0.0, step)):
        atoms = silicon()
        atoms.positions[1, 0] += 0.05 + shift
        energy, forces, _ = engine.evaluate(atoms, f"si/{index}")
        energies.append(energy)
        if shift == 0:
            pull = forces
            assert forces.sum(axis=0) == pytest.approx(numpy.zeros(3), abs=2e-3)
    # Differences of energies over 0.02 angstrom: third derivatives give about 1 meV/angstrom.
    assert pull[1, 0] == pytest.approx((energies[0] - energies[2]) / (2 * step), abs=5e-3)
    written = (folder / "finished/calculations.jsonl").stat().st_mtime_ns
    again = make_engine(SETTINGS, 1, folder).forces(atoms, "another/name")[1]
    assert again == pytest.approx(forces, abs=1e-9)
    assert (folder / "finished/calculations.jsonl").stat().st_mtime_ns == written


def test_a_stopped_calculation_goes_on_to_the_same_result(tmp_path):
    code, atoms = GpawCode(SETTINGS), silicon()
    atoms.positions[1, 0] += 0.05
    steps = {}
    for which in ("whole", "stopped", "stopped"):
        folder = tmp_path / which
        first = which not in steps and which == "stopped"
        folder.mkdir(exist_ok=True)
        code.write(atoms, folder, "", keep_state=which == "stopped")
        (folder / "STOP").touch() if first else (folder / "STOP").unlink(missing_ok=True)
        with open(folder / code.log, "w") as log:
            subprocess.run(code.command, cwd=folder, stdout=log, stderr=log, timeout=100)
        steps[which] = (folder / "gpaw.txt").read_text().count("\niter: ")
        if first:
            assert (folder / "state.gpw").exists()
            with pytest.raises(CalculationError, match="stopped, the state is kept"):
                code.read(folder, atoms)
    wanted, found = (code.read(tmp_path / which, atoms) for which in ("whole", "stopped"))
    assert found["energy_ev"] == pytest.approx(wanted["energy_ev"], abs=1e-5)
    assert found["forces"] == pytest.approx(wanted["forces"], abs=2e-3)


def test_symmetry_makes_the_undisplaced_crystal_exact(folder):
    engine = make_engine(SETTINGS, 1, folder)
    energy, forces, stress = engine.evaluate(silicon(), "si/perfect")
    assert numpy.abs(forces).max() < 1e-10
    assert stress == pytest.approx(numpy.eye(3) * stress[0, 0], abs=1e-10)
    kept = [one for one in read_calculations(folder / "finished/calculations.jsonl") if one.label == "si/perfect"]
    assert kept[0].about["version"] == importlib.import_module("gpaw").__version__
    assert not list(folder.glob("si"))  # folders are packed into lines


def test_electrons_that_do_not_converge_are_remedied_by_slower_mixing(folder, monkeypatch):
    first = GpawCode.parameters

    def three_steps(code, atoms, remedy=""):
        found = first(code, atoms, remedy)
        return {**found, "maxiter": 3} if not remedy else {**found, "convergence": {"energy": 1e-3, "density": 1e-2}}

    monkeypatch.setattr(GpawCode, "parameters", three_steps)
    atoms = silicon()
    atoms.positions[1, 1] += 0.03
    make_engine(SETTINGS, 1, folder).forces(atoms, "si/slow")
    kept = [one for one in read_calculations(folder / "finished/calculations.jsonl") if one.label == "si/slow"]
    assert (kept[0].failure, kept[0].about["remedy"]) == ("", "electrons")


def test_parameters_follow_the_settings():
    code = GpawCode({**SETTINGS, "k_points": "gamma_centred", "tasks": 4, "command": "mpiexec -n {tasks} gpaw python"})
    given = code.parameters(silicon())
    assert given["mode"] == {"name": "pw", "ecut": 250.0}
    assert given["kpts"] == {"size": (3, 3, 3), "gamma": True}
    assert code.command == ["mpiexec", "-n", "4", "gpaw", "python", "run.py"]
    assert code.parameters(silicon(), "symmetry")["symmetry"] == "off"
    json.dumps(given)


def test_a_functional_that_this_gpaw_has_not_is_refused_before_anything_runs(tmp_path):
    from gpaw import cgpaw

    if hasattr(cgpaw, "lxcXCFunctional"):
        pytest.skip("this GPAW has libxc")
    with pytest.raises(StudyError, match="without libxc"):
        make_engine({**SETTINGS, "model": "PBEsol"}, 1, tmp_path)


def test_outputs_of_another_crystal_are_refused(tmp_path):
    code = GpawCode(SETTINGS)
    code.write(silicon(), tmp_path, "")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(CalculationError, match="another crystal"):
        code.read(tmp_path, bulk("Si", "diamond", 5.5))


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("gpaw.KohnShamConvergenceError: Did not converge in 333 iterations!", "electrons"),
        ("gpaw.new.symmetry.SymmetryBrokenError: Broken symmetry", "symmetry"),
        ("ValueError: Your k-points are not as symmetric as your crystal!", "k_points"),
        ("ZeroDivisionError: division by zero", "unfinished"),
    ],
)
def test_the_class_of_a_failure_is_read_from_what_gpaw_printed(tmp_path, words, failure):
    (tmp_path / "output.txt").write_text(f"Traceback (most recent call last):\n  File x\n{words}\n")
    with pytest.raises(CalculationError) as caught:
        GpawCode(SETTINGS).read(tmp_path, silicon())
    assert caught.value.failure == failure
