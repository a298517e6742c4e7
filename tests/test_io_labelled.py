"""Forces of other programs: raw where atoms were held fixed, refused where they are missing or not converged."""

import gzip
from pathlib import Path

import numpy
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixedPlane, FixScaled
from ase.io import read, write

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.labelled import check_one_setting, labelled, read_labelled
from phonoscreen.formats.outputs import inspect_output


@pytest.fixture(scope="module")
def vasp():
    """Outputs written by VASP, from the test data that ASE installs."""
    import ase.test

    folder = Path(ase.test.__file__).parent / "testdata/vasp"
    if not folder.is_dir():
        pytest.skip("this installation of ASE has no test data")
    return folder


def crystal(forces=None, **more):
    atoms = Atoms("NaClNaCl", cell=numpy.eye(3) * 5.6, pbc=True, **more,
                  positions=[[0.03, 0, 0], [2.8, 0, 0.01], [2.8, 2.8, 0], [0, 2.82, 0]])  # fmt: skip
    if forces is None:
        forces = numpy.random.default_rng(1).normal(size=(4, 3))
    atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=-3.0)
    return atoms


CONSTRAINTS = [
    FixAtoms([1, 2]), [FixCartesian(1, (True, False, True)), FixCartesian(2, (True, True, True))],
    [FixScaled([1, 2], (True, True, False), numpy.eye(3) * 5.6)], [FixedPlane(1, (0, 0, 1)), FixedPlane(2, (1, 1, 0))],
]  # fmt: skip


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["atoms", "cartesian", "scaled", "plane"])
def test_forces_of_fixed_atoms_are_read_raw_and_refused_where_they_were_removed(constraint):
    atoms = crystal(constraint=constraint)
    raw, applied = atoms.get_forces(apply_constraint=False), atoms.get_forces()
    assert numpy.abs(applied - raw).max() > 0.1
    found = labelled([atoms], "here")[0]
    assert (found.get_forces() == raw).all() and not found.constraints and found.get_potential_energy() == -3.0
    with pytest.raises(StudyError, match=r"2 atoms that were held fixed are missing .* atoms \[1, 2\]") as failure:
        labelled([crystal(applied, constraint=constraint)], "here")
    assert "without constraints" in failure.value.fix
    marked = labelled([crystal(applied, constraint=constraint)], "here", refuse=False)[0]
    assert "held fixed" in marked.info["problem"][0]


def test_a_perfect_crystal_may_feel_nothing_at_its_fixed_atoms():
    labelled([crystal(numpy.zeros((4, 3)), constraint=FixAtoms([1]))], "here")
    with pytest.raises(StudyError, match="4 atoms that were held fixed"):
        labelled([crystal(numpy.zeros((4, 3)), constraint=FixAtoms([0, 1, 2, 3]))], "here")


def masked_xyz(path, forces):
    """Extended XYZ in which the third atom was not allowed to move."""
    header = 'Lattice="5.6 0 0 0 5.6 0 0 0 5.6" pbc="T T T" energy=-3.0 Properties=species:S:1:pos:R:3:move_mask:L:1'
    rows = zip("Na Cl Na Cl".split(), crystal().positions, "TTFT", forces)
    lines = [f"{name} {' '.join(map(str, at))} {mask} {' '.join(map(str, force))}" for name, at, mask, force in rows]
    path.write_text("\n".join(["4", header + ":forces:R:3", *lines, ""]))
    return path


def test_a_move_mask_in_extended_xyz_is_seen(tmp_path):
    forces = crystal().get_forces()
    kept = masked_xyz(tmp_path / "kept.extxyz", forces)
    assert read(kept).get_forces()[2].tolist() == [0, 0, 0]  # what ASE answers
    assert read_labelled(kept)[0].get_forces() == pytest.approx(forces)
    forces[2] = 0
    with pytest.raises(StudyError, match="held fixed"):
        read_labelled(masked_xyz(tmp_path / "removed.extxyz", forces))


@pytest.mark.parametrize("value", [False, "F", "no", 0])
def test_a_frame_that_says_it_did_not_converge_is_refused(tmp_path, value):
    atoms = crystal()
    atoms.info["scf_converged"] = value
    write(tmp_path / "a.extxyz", [crystal(), atoms], format="extxyz")
    with pytest.raises(StudyError, match=r"did not converge: the file says scf_converged[\s\S]*frame 1"):
        read_labelled(tmp_path / "a.extxyz")
    assert [bool(found.info["problem"]) for found in read_labelled(tmp_path / "a.extxyz", refuse=False)] == [
        False,
        True,
    ]
    atoms.info["scf_converged"] = True
    assert labelled([atoms], "here")


def test_files_without_forces_or_with_some_that_are_not_finite_are_refused(tmp_path):
    write(tmp_path / "a.extxyz", Atoms("H", cell=numpy.eye(3)), format="extxyz")
    with pytest.raises(StudyError, match="no forces"):
        read_labelled(tmp_path / "a.extxyz")
    with pytest.raises(StudyError, match="finite numbers"):
        labelled([crystal(numpy.full((4, 3), numpy.nan))], "here")
    (tmp_path / "b.extxyz").write_text("garbage")
    with pytest.raises(StudyError, match="cannot be read"):
        read_labelled(tmp_path / "b.extxyz")


def edited_vasprun(vasp, tmp_path, edit):
    text = edit((vasp / "vasprun_pstress.xml").read_text())
    path = tmp_path / "vasprun.xml"
    path.write_text(text)
    return path


def stopped(text, change="1.0"):
    """The same run, had it reached its last electronic step without converging."""
    steps = text.count("<scstep>")
    text = text.replace('name="NELM">    60<', f'name="NELM">    {steps}<')
    assert f'name="NELM">    {steps}<' in text
    end = text.rindex('<i name="e_fr_energy">', 0, text.rindex("</scstep>"))
    value = float(text[end + 22 : text.index("</i>", end)])
    return text[: end + 22] + f"{value + float(change):16.8f}" + text[text.index("</i>", end) :]


def test_a_vasprun_that_stopped_at_its_last_electronic_step_is_refused(vasp, tmp_path):
    from pymatgen.io.vasp.outputs import Vasprun

    path = edited_vasprun(vasp, tmp_path, lambda text: text)
    assert len(read_labelled(path)) == 1
    options = {"parse_dos": False, "parse_eigen": False, "parse_potcar_file": False}
    assert Vasprun(path, **options).converged_electronic
    path = edited_vasprun(vasp, tmp_path, stopped)
    assert not Vasprun(path, **options).converged_electronic
    with pytest.raises(StudyError, match=r"did not converge: it stopped at NELM = \d+ .* change of 1.* EDIFF 0.0001"):
        read_labelled(path)
    read(path, format="vasp-xml").get_forces()  # ASE does not mind
    # Converged in the very last step allowed.
    assert read_labelled(edited_vasprun(vasp, tmp_path, lambda text: stopped(text, "0.0")))


@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_a_vasprun_that_breaks_off_is_refused(vasp, tmp_path, share):
    path = edited_vasprun(vasp, tmp_path, lambda text: text[: int(share * len(text.rstrip()))])
    with pytest.raises(StudyError, match="VASP did not come to its end|VASP that is incomplete"):
        read_labelled(path)


@pytest.mark.parametrize("encoding", ["ISOD-1", "gb2312"])  # unknown to Python; of several bytes, unknown to expat
def test_a_vasprun_of_an_encoding_that_nobody_knows_is_refused(vasp, tmp_path, encoding):
    path = edited_vasprun(vasp, tmp_path, lambda text: text.replace("ISO-8859-1", encoding, 1))
    assert encoding in path.read_text()[:60]
    with pytest.raises(StudyError, match="cannot be decoded|cannot be read"):
        read_labelled(path)


REACHED = "------------------------ aborting loop because EDIFF is reached -----------------------\n"
UNREACHED = "------------------------ aborting loop EDIFF was not reached (unconverged)  -----------\n"


def outcar(vasp, reached=REACHED, end=True):
    """An OUTCAR of ASE's test data with or without the lines by which VASP says how its loop ended."""
    text = (vasp / "OUTCAR_example_1").read_text()
    for line in (REACHED, UNREACHED):
        text = text.replace(line, "")
    lines = [line for line in text.splitlines(True) if "aborting loop" not in line]
    place = next(n for n, line in enumerate(lines) if "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line)
    while "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in "".join(lines[place + 1 :]):
        place += 1 + next(n for n, line in enumerate(lines[place + 1 :]) if "FREE ENERGIE OF" in line)
    text = "".join(lines[:place]) + reached + "".join(lines[place:])
    return text if end else text.replace("General timing and accounting", "")


def test_an_outcar_says_whether_ediff_was_reached(vasp, tmp_path):
    path = tmp_path / "OUTCAR"
    path.write_text(outcar(vasp))
    assert len(read_labelled(path)) == 1
    for reached in ("", UNREACHED):
        path.write_text(outcar(vasp, reached))
        with pytest.raises(StudyError, match="no 'EDIFF is reached' after 63 electronic steps"):
            read_labelled(path)
    path.write_text(outcar(vasp, end=False))
    with pytest.raises(StudyError, match="VASP did not come to its end"):
        read_labelled(path)
    with gzip.open(tmp_path / "OUTCAR.gz", "wt") as stream:
        stream.write(outcar(vasp, ""))
    assert inspect_output(tmp_path / "OUTCAR.gz").unconverged == (0,)


def test_each_ionic_step_of_a_run_is_judged_by_itself(tmp_path):
    steps = [f"Iteration   {n}(   1)  ---\n Iteration   {n}(   9)  ---\n" for n in (1, 2, 3)]
    text = " vasp.6.3.0\n" + steps[0] + REACHED + steps[1] + UNREACHED + steps[2] + REACHED
    (tmp_path / "OUTCAR").write_text(text + "General timing and accounting informations for this job:\n")
    report = inspect_output(tmp_path / "OUTCAR")
    assert report.steps == 3 and report.unconverged == (1,)
    assert [report.problem_of(n, 3) is None for n in range(3)] == [True, False, True]
    assert report.problem_of(0, 2)  # steps that cannot be told apart: none of them is taken


PROGRAMS = {
    "Quantum ESPRESSO": ("     Program PWSCF v.7.2 starts\n", "     convergence has been achieved in   9 iterations\n",
                         "     convergence NOT achieved after 100 iterations: stopping\n", "   JOB DONE.\n"),
    "CP2K": (" CP2K| version string:  CP2K version 2023.1\n", "  *** SCF run converged in 8 steps ***\n",
             "  *** WARNING in qs_scf.F:598 :: SCF run NOT converged. ***\n", " **** **** PROGRAM ENDED AT 2023\n"),
    "ABINIT": (".Version 9.6.2 of ABINIT \n", " At SCF step 7, etot is converged\n",
               " nstep= 10 was not enough SCF cycles to converge\n", " Calculation completed.\n"),
    "FHI-aims": ("          Invoking FHI-aims ...\n", "  Self-consistency cycle converged.\n",
                 " * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE\n", "          Have a nice day.\n"),
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_other_programs_say_whether_they_converged_and_ended(program, tmp_path):
    """Lines as each program's manual and test outputs show them."""
    begin, good, bad, end = PROGRAMS[program]
    path = tmp_path / "out"
    path.write_text(begin + good + end)
    report = inspect_output(path)
    assert report.program == program and report.problem_of(0, 1) is None
    path.write_text(begin + bad + end)
    assert "did not converge" in inspect_output(path).problem_of(0, 1)[0]
    path.write_text(begin + good)
    assert f"{program} did not come to its end" in inspect_output(path).problem_of(0, 1)[0]


def test_calculations_with_different_settings_are_told_apart(vasp, tmp_path):
    first = read_labelled(edited_vasprun(vasp, tmp_path, lambda text: text))
    second = read_labelled(edited_vasprun(vasp, tmp_path, lambda text: text.replace("400.00000000", "300.00000000")))
    check_one_setting(first + first)
    with pytest.raises(StudyError, match="differ in ENCUT: 400 in .* 300 in"):
        check_one_setting(first + second)
