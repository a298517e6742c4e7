"""Quantum ESPRESSO as an engine: really run for silicon where it is installed; any calculator of ASE by its name."""

import shutil
import subprocess
import time
from pathlib import Path

import numpy
import pytest
from ase.build import bulk
from ase.io.espresso import read_espresso_in

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.reference.espresso import EspressoCode
from phonoscreen.reference.programs import CalculationError
from phonoscreen.reference.registry import make_engine

DEBIAN = Path("/usr/share/espresso/pseudo/Si.pbe-rrkj.UPF")
"""From Debian's package quantum-espresso-data."""
installed = pytest.mark.skipif(
    shutil.which("pw.x") is None or not DEBIAN.exists(),
    reason="Quantum ESPRESSO is not installed (Debian: quantum-espresso, quantum-espresso-data)",
)
SETTINGS = {
    "engine": "espresso", "model": "PBE", "command": None, "cutoff_ev": 250.0, "density_cutoff_factor": 4,
    "k_spacing_per_angstrom": 0.6, "k_points": "shifted", "smearing_ev": 0.05,
}  # fmt: skip


def library(folder, functional="PBE", elements=("Si",)):
    folder.mkdir(parents=True, exist_ok=True)
    for element in elements:
        (folder / f"{element}.test.UPF").write_text(f'<UPF version="2.0.1">\n<PP_HEADER functional="{functional}"/>')
    return str(folder)


@installed
def test_forces_are_the_gradient_of_the_energy_of_silicon(tmp_path):
    (tmp_path / "pp").mkdir()
    shutil.copy(DEBIAN, tmp_path / "pp")
    engine = make_engine({**SETTINGS, "potentials": str(tmp_path / "pp")}, 1, tmp_path / "run")
    energies = []
    for index, shift in enumerate((-0.01, 0.0, 0.01)):
        atoms = bulk("Si", "diamond", 5.47)
        atoms.positions[1, 0] += 0.05 + shift
        energy, forces, stress = engine.evaluate(atoms, f"si/{index}")
        energies.append(energy)
        if shift == 0:
            pull, strained = forces, stress
    assert pull[1, 0] == pytest.approx((energies[0] - energies[2]) / 0.02, abs=2e-3)
    assert pull.sum(axis=0) == pytest.approx(numpy.zeros(3), abs=1e-6)
    assert strained == pytest.approx(strained.T, abs=1e-6)
    text = (tmp_path / "run/finished/calculations.jsonl").read_text()
    assert '"version":"6.' in text or '"version":"7.' in text
    assert not (tmp_path / "run/si").exists()


@installed
def test_a_stopped_calculation_goes_on_to_the_same_result(tmp_path):
    (tmp_path / "pp").mkdir()
    shutil.copy(DEBIAN, tmp_path / "pp")
    code = EspressoCode({**SETTINGS, "potentials": str(tmp_path / "pp")})
    atoms = bulk("Si", "diamond", 5.47)
    atoms.positions[1, 0] += 0.05
    name, content = code.stop_file

    def run(folder, stop_after=None):
        with open(folder / code.log, "w") as log, subprocess.Popen(code.command, cwd=folder, stdout=log) as process:
            while stop_after and (folder / code.log).read_text().count("iteration #") < stop_after:
                assert process.poll() is None
                time.sleep(0.001)
            if stop_after:
                (folder / name).write_text(content)
            assert process.wait(60) in (0, 2)
        return (folder / code.log).read_text()

    for which in ("whole", "stopped"):
        (tmp_path / which).mkdir()
        code.write(atoms, tmp_path / which, "", keep_state=which == "stopped")
    n_steps = run(tmp_path / "whole").count("iteration #")
    run(tmp_path / "stopped", stop_after=3)
    with pytest.raises(CalculationError, match="without a result"):
        code.read(tmp_path / "stopped", atoms)
    code.write(atoms, tmp_path / "stopped", "", keep_state=True)
    text = run(tmp_path / "stopped")
    assert "Calculation restarted from scf iteration" in text and text.count("iteration #") < n_steps
    wanted, found = (code.read(tmp_path / which, atoms) for which in ("whole", "stopped"))
    assert found["energy_ev"] == pytest.approx(wanted["energy_ev"], abs=1e-7)
    assert found["forces"] == pytest.approx(wanted["forces"], abs=1e-4)


def test_inputs_are_those_of_the_settings(tmp_path):
    code = EspressoCode({**SETTINGS, "potentials": library(tmp_path / "pp")})
    atoms = bulk("Si", "diamond", 5.47)
    atoms.positions[1, 0] += 0.03
    (tmp_path / "run").mkdir()
    code.write(atoms, tmp_path / "run", "")
    text = (tmp_path / "run/espresso.pwi").read_text()
    assert float(text.split("ecutwfc")[1].split("=")[1].split()[0]) * 13.605693 == pytest.approx(250, rel=1e-6)
    assert "4 4 4  1 1 1" in " ".join(text.split("K_POINTS")[1].split("\n")[1:2])
    with open(tmp_path / "run/espresso.pwi") as stream:
        again = read_espresso_in(stream)
    assert again.positions == pytest.approx(atoms.positions, abs=1e-9)
    code.write(atoms, tmp_path / "run", "symmetry")
    assert "nosym" in (tmp_path / "run/espresso.pwi").read_text()
    code.write(atoms, tmp_path / "run", "k_points")
    assert "4 4 4  0 0 0" in (tmp_path / "run/espresso.pwi").read_text()


def test_a_potential_of_another_functional_is_refused_and_its_content_counts(tmp_path):
    atoms = bulk("Si", "diamond", 5.47)
    one = EspressoCode({**SETTINGS, "potentials": library(tmp_path / "sol", "SLA  PW   PSX  PSC"), "model": "PBEsol"})
    assert one.identity(atoms)["functional"] == "PBEsol"
    with pytest.raises(StudyError, match="made for the functional SLA PW PSX PSC, not for PBE"):
        EspressoCode({**SETTINGS, "potentials": library(tmp_path / "other", "SLA PW PSX PSC")}).identity(atoms)
    first = EspressoCode({**SETTINGS, "potentials": library(tmp_path / "a")}).identity(atoms)
    second = EspressoCode({**SETTINGS, "potentials": library(tmp_path / "b", "SLA-PW-PBX-PBC")}).identity(atoms)
    assert first != second


def test_a_library_without_or_with_two_potentials_is_refused(tmp_path, monkeypatch):
    atoms = bulk("Si", "diamond", 5.47)
    folder = library(tmp_path / "pp", elements=("Si", "Al"))
    (tmp_path / "pp/Si_other.UPF").write_text("")
    with pytest.raises(StudyError, match="2 potentials of Si"):
        EspressoCode({**SETTINGS, "potentials": folder}).identity(atoms)
    with pytest.raises(StudyError, match="0 potentials of Mg"):
        EspressoCode({**SETTINGS, "potentials": folder}).identity(bulk("Mg"))
    monkeypatch.delenv("ESPRESSO_PSEUDO", raising=False)
    with pytest.raises(MachineError, match="ESPRESSO_PSEUDO"):
        EspressoCode({**SETTINGS, "potentials": None}).identity(atoms)


@pytest.mark.parametrize(
    ("printed", "failure"),
    [
        ("convergence NOT achieved after 100 iterations: stopping\n JOB DONE.", "electrons"),
        (" %%%%%%\n Error in routine checkallsym (2):\n not orthogonal operation\n %%%%%%", "symmetry"),
        (" %%%%%%\n Error in routine allocate (1):\n error allocating evc\n %%%%%%", "memory"),
        (" %%%%%%\n Error in routine readpp (2):\n file Si.UPF not found\n %%%%%%", "unfinished"),
        ("", "unfinished"),
    ],
)
def test_the_class_of_a_failure_is_what_pw_says(tmp_path, printed, failure):
    (tmp_path / "espresso.pwo").write_text(printed)
    with pytest.raises(CalculationError) as caught:
        EspressoCode({**SETTINGS, "potentials": None}).read(tmp_path, bulk("Si", "diamond", 5.47))
    assert caught.value.failure == failure


def test_any_calculator_of_ase_is_an_engine_by_its_name():
    settings = {"engine": "ase", "model": "ase.calculators.emt:EMT", "arguments": {"asap_cutoff": True}}
    engine = make_engine(settings, 1)
    copper = bulk("Cu", "fcc", 3.7)
    energy, forces, stress = engine.evaluate(copper, "cu/perfect")
    assert forces == pytest.approx(numpy.zeros((1, 3)), abs=1e-9)
    step = 1e-4
    energies = [engine.evaluate(bulk("Cu", "fcc", 3.7 * (1 + x)), "cu")[0] for x in (-step, step)]
    assert stress.trace() == pytest.approx((energies[1] - energies[0]) / (2 * step) / copper.cell.volume, rel=1e-3)
    with pytest.raises(StudyError, match="no module:Class"):
        make_engine({**settings, "model": "EMT"}, 1)
