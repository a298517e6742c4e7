"""Outputs of several programs and versions as collections read them: forces, settings and whether they are finished.

Outputs of VASP and CASTEP are in ASE's own test data, those of GPAW are made here.
"""

import importlib.util
import re
from pathlib import Path

import ase.test
import numpy
import pytest
from ase.build import bulk
from ase.io import write

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.labelled import read_labelled
from phonoscreen.formats.output_folder import output_files, read_output_folder
from phonoscreen.formats.outputs import inspect_output
from tests.conftest import reference_folder

DATA = Path(ase.test.__file__).parent / "testdata"


@pytest.mark.parametrize(
    ("name", "version", "n_atoms", "settings"),
    [
        ("vasp/OUTCAR_example_1", "5.3.3", 18, {"ENCUT": "300", "ISMEAR": "1"}),
        ("vasp/vasprun_pstress.xml", "6.3.0", 2, {"ENCUT": "400"}),
        ("vasp/vasprun_dfpt.xml", "6.3.2", 2, {"ENCUT": "400", "GGA": "PE"}),
    ],
)
def test_vasp_of_several_versions(name, version, n_atoms, settings):
    report, (*_, last) = inspect_output(DATA / name), read_labelled(DATA / name, refuse=False)
    assert version in (DATA / name).read_text(errors="replace")[:600]
    assert (report.program, len(last)) == ("VASP", n_atoms)
    assert settings.items() <= report.settings.items()
    assert numpy.isfinite(last.get_forces()).all()


def test_castep_gives_the_forces_that_it_printed_and_its_settings():
    path = DATA / "castep/md.castep"
    frames, text = read_labelled(path), path.read_text()
    printed = re.findall(r"^ \* +[A-Z][a-z]? +\d+ +(-?\d\.\d+) +(-?\d\.\d+) +(-?\d\.\d+) +\*$", text, re.M)
    forces = numpy.array(printed, dtype=float).reshape(-1, 8, 3)
    assert numpy.array([one.get_forces() for one in frames]) == pytest.approx(forces[: len(frames)], abs=1e-5)
    assert inspect_output(path).settings == {"functional": "Local Density Approximation", "k points": "2 2 2"}


def test_castep_that_did_not_come_to_its_end_is_refused(tmp_path):
    text = (DATA / "castep/md.castep").read_text()
    (tmp_path / "md.castep").write_text(text[: text.rindex("Total time")])
    report = inspect_output(tmp_path / "md.castep")
    assert report.incomplete and "Total time" in report.incomplete


def test_a_recorded_output_of_gpaw_is_read():
    (frame,) = read_labelled(DATA / "gpaw_expected_text_output")
    assert inspect_output(DATA / "gpaw_expected_text_output").settings["functional"] == "PBE"
    assert numpy.abs(frame.get_forces().sum(axis=0)).max() < 0.01


@pytest.fixture(scope="module")
def silicon(tmp_path_factory):
    """Silicon at rest and displaced, calculated by GPAW and written in each of its and ASE's formats."""
    if importlib.util.find_spec("gpaw") is None:
        pytest.skip("GPAW is not installed")
    from gpaw import GPAW

    folder, moved = tmp_path_factory.mktemp("gpaw"), bulk("Si", "diamond", 5.47)
    for name in ("rest", "moved"):
        moved.positions[1] += [0.02, 0.01, 0.0] if name == "moved" else 0.0
        symmetry = {"symmorphic": True}
        moved.calc = GPAW(
            mode={"name": "pw", "ecut": 200}, xc="PBE", kpts={"size": (2, 2, 2)}, symmetry=symmetry,
            txt=str(folder / f"{name}.txt"),
        )  # fmt: skip
        moved.get_forces()
        moved.calc.write(folder / f"{name}.gpw")
        write(folder / f"{name}.traj", moved)
    return folder, moved


@pytest.mark.parametrize("ending", ["gpw", "traj"])
def test_gpaw_is_collected_with_all_digits(silicon, ending, tmp_path):
    folder, moved = silicon
    for path in folder.glob(f"*.{ending}"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (frame,) = read_labelled(tmp_path / f"moved.{ending}")
    assert frame.get_forces() == pytest.approx(moved.get_forces(), abs=1e-9)
    assert [path.name for path in output_files(tmp_path)] == [f"moved.{ending}", f"rest.{ending}"]
    data, verdicts, program, settings = read_output_folder(tmp_path)
    assert [one.status for one in verdicts] == ["ok", "ok"]
    # One atom moved by sqrt(5) hundredths: half of it for each atom, once the common shift is taken off.
    assert verdicts[0].displacement_max_angstrom == pytest.approx(numpy.hypot(0.02, 0.01) / 2, abs=1e-9)
    if ending == "gpw":
        assert program == "GPAW"
        assert settings == {"functional": "PBE", "plane-wave cutoff (eV)": "200", "k points": "2 2 2"}


def test_of_a_run_of_gpaw_the_restart_file_is_taken_and_its_text_alone_is_refused(silicon, tmp_path):
    folder, _ = silicon
    assert not [path for path in output_files(folder) if path.suffix == ".txt"]
    (tmp_path / "moved.txt").write_bytes((folder / "moved.txt").read_bytes())
    assert [path.name for path in output_files(tmp_path)] == ["moved.txt"]
    with pytest.raises(StudyError, match="moved.txt: .*GPAW"):
        read_output_folder(tmp_path)
    with pytest.raises(StudyError, match="GPAW"):
        read_labelled(tmp_path / "moved.txt")


def test_the_same_calculation_in_two_formats_is_taken_once(silicon):
    _, verdicts, _, _ = read_output_folder(silicon[0])
    assert sorted(one.status for one in verdicts) == ["ok"] * 2 + ["skipped"] * 2


def test_a_damaged_restart_file_of_gpaw_is_refused(silicon, tmp_path):
    content = (silicon[0] / "moved.gpw").read_bytes()
    (tmp_path / "moved.gpw").write_bytes(content[: len(content) // 2])
    assert inspect_output(tmp_path / "moved.gpw").incomplete


def abinit_outputs():
    """Main outputs of ABINIT that others made: those that abipy carries, and those of the reference data."""
    found = importlib.util.find_spec("abipy")
    folders = [Path(found.submodule_search_locations[0]) / "data/refs"] if found else []
    reference = reference_folder()
    folders += [reference / "abinit"] if reference else []
    return [path for folder in folders for path in sorted(folder.rglob("*.abo"))]


WITHOUT_GROUND_STATE = {"dryrun.abo": "results section", "alas_phonons/run.abo": "forces cannot be read"}
"""Outputs without a ground state at their end: a run that calculated nothing, and linear response."""


def test_recorded_outputs_of_abinit_are_read_with_the_forces_that_they_print():
    outputs = abinit_outputs()
    if not outputs:
        pytest.skip(
            "no outputs of ABINIT are here (pip install --no-deps abipy, or abinit/*.abo in PHONOSCREEN_REFERENCE)"
        )
    read = 0
    for path in outputs:
        refused = [reason for name, reason in WITHOUT_GROUND_STATE.items() if path.as_posix().endswith(name)]
        if refused:
            with pytest.raises(StudyError, match=refused[0]):
                read_labelled(path)
            continue
        *_, frame = read_labelled(path)
        block = path.read_text().split("cartesian forces (eV/Angstrom) at end:")[-1].splitlines()[1:]
        printed = [[float(word) for word in line.split()[1:4]] for line in block[: len(frame)]]
        assert frame.get_forces() == pytest.approx(numpy.array(printed), abs=1e-6), path
        assert inspect_output(path).settings["functional"].isdigit()
        read += 1
    assert read
