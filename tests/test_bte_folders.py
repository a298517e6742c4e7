"""Folders that the command ``bte`` runs in: what it reads, what it states, and when it writes nothing."""

import re
import shutil
from dataclasses import replace

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.masses import describe_masses, standard_masses
from phonoscreen.crystal.primitive import primitive_crystal
from phonoscreen.formats.bte_folder import Request, read_folder
from phonoscreen.formats.displacements import read_born
from phonoscreen.formats.force_constants import write_second_order, write_third_order
from phonoscreen.formats.phono3py import to_phono3py
from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5
from phonoscreen.formats.shengbte import write_directory
from phonoscreen.stages.other_solvers import read_conductivity
from phonoscreen.transport.isotopes import isotope_doubts, mass_variances
from tests.shengbte_files import BORN, EPSILON, write_born, write_structure
from tests.test_bte_files import run_command
from tests.transport_models import hexagonal, rocksalt

MESH = ("--grid", 3, 3, 3, "--threads", 1, "--quiet")


@pytest.fixture(scope="module")
def cubic():
    return rocksalt(repetitions=(3, 3, 3))


@pytest.fixture
def folder(cubic, tmp_path):
    write_directory(*cubic, tmp_path / "in", mesh=(3, 3, 3), temperature_k=300)
    return tmp_path / "in"


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["text", "hdf5"])
def test_structure_with_force_constants_needs_no_control(cubic, tmp_path, capsys, kind):
    crystal, second, third = replace(cubic[0], masses=standard_masses(cubic[0].numbers)), *cubic[1:]
    write_structure(crystal, tmp_path / "bare")
    if kind == "text":
        write_second_order(second, tmp_path / "bare/FORCE_CONSTANTS_2ND")
        write_third_order(third, crystal.cell, tmp_path / "bare/FORCE_CONSTANTS_3RD")
    else:
        write_second_hdf5(second, tmp_path / "bare/fc2.hdf5")
        write_third_hdf5(third, second.repetitions, tmp_path / "bare/fc3.hdf5")
    write_directory(crystal, second, third, tmp_path / "in", mesh=(3, 3, 3), temperature_k=300)
    assert run_command(tmp_path / "in", "--no-isotopes", "--rta", *MESH) == 0
    capsys.readouterr()
    assert run_command(tmp_path / "bare", "--rta", *MESH) == 0
    stated = capsys.readouterr().out
    assert "supercell 3 x 3 x 3 (found" in stated and "isotope scattering: off (default" in stated
    assert "Mg 24.305, Cl 35.453 u (standard: phonopy" in stated
    ours, theirs = (read_conductivity(tmp_path / name / "BTE.KappaTensorVsT_RTA") for name in ("bare", "in"))
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert not (tmp_path / "bare/BTE.KappaTensorVsT_CONV").exists()
    write_born(tmp_path / "bare/BORN", EPSILON, BORN)
    polar = read_folder(tmp_path / "bare", Request(mesh=(3, 3, 3)))
    assert polar.correction is not None and "BORN" in polar.choices[0]
    given = read_folder(tmp_path / "bare", Request(supercell=(3, 3, 3)))
    assert given.mesh == (17, 17, 17) and "17 x 17 x 17 (automatic)" in given.choices[1]
    with pytest.raises(StudyError, match="supercell"):
        read_folder(tmp_path / "bare", Request(supercell=(1, 3, 9)))


def test_folder_without_force_constants_or_structure_is_refused(tmp_path, cubic):
    with pytest.raises(StudyError, match="does not exist, nor"):
        read_folder(tmp_path)
    with pytest.raises(StudyError, match="is no folder"):
        read_folder(tmp_path / "nowhere")
    write_structure(cubic[0], tmp_path)
    with pytest.raises(StudyError, match="no force constants beside"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [(7, " nan 0 0", "not a finite array"), (6, " 1000000000 1", "atoms in"), (2, " 0 1e9 1e9", "lattice vectors of"),
     (8, " 0 0 1", "from each other"), (5, " Xx Cl", "cannot be read")],
)  # fmt: skip
def test_structures_of_no_crystal_are_refused(cubic, tmp_path, line, text, message):
    """Among them what would end or block the libraries underneath: spglib does not survive NaN."""
    write_structure(cubic[0], tmp_path)
    lines = (tmp_path / "POSCAR").read_text().splitlines()
    lines[line + (line > 6)] = text
    (tmp_path / "POSCAR").write_text("\n".join(lines))
    with pytest.raises(StudyError, match=message):
        read_folder(tmp_path)


def test_one_of_two_inputs_is_used_and_said(folder, capsys):
    (folder / "phono3py.yaml").write_text("")
    assert run_command(folder, *MESH) == 0
    assert "not read: phono3py.yaml (CONTROL goes first" in capsys.readouterr().out


def test_isotopes_are_stated_and_switched_on_the_command_line(folder, capsys):
    found = {}
    for option, stated in {None: "on (CONTROL)", "--isotopes": "on (command line)",
                           "--no-isotopes": "off (command line)"}.items():  # fmt: skip
        assert run_command(folder, *MESH, *([option] if option else [])) == 0
        assert f"isotope scattering: {stated}" in capsys.readouterr().out
        found[option] = read_conductivity(folder / "BTE.KappaTensorVsT_RTA")[0, 0]
    assert found[None] == found["--isotopes"] < found["--no-isotopes"]


def test_masses_of_a_crystal_go_with_it(cubic, folder, capsys):
    """24.3 u and 35.4 u of the model are not the standard masses: CONTROL has to carry them."""
    assert run_command(folder, *MESH) == 0
    assert "Mg 24.3, Cl 35.4 u (as the input gives them)" in capsys.readouterr().out
    assert read_folder(folder).crystal.masses == pytest.approx(cubic[0].masses)


def test_atoms_without_isotope_scattering_for_their_mass_are_named(cubic, folder):
    """A natural mass with too few digits cannot be told from a pure isotope: no number is changed, and all is said."""
    assert isotope_doubts([12, 17], standard_masses([12, 17])) == []
    (doubt,) = isotope_doubts([12, 17, 17], [24.305, 35.5, 35.5])
    assert "by Cl 35.5 u (natural 35.45)" in doubt and "Mg" not in doubt and "gfactors" in doubt
    assert read_folder(folder).settings.mass_variances == pytest.approx(mass_variances([12, 17], [24.3, 35.4]))
    (folder / "CONTROL").unlink()
    to_phono3py(*cubic).save(folder / "phono3py.yaml")
    write_second_hdf5(cubic[1], folder / "fc2.hdf5")
    write_third_hdf5(cubic[2], cubic[1].repetitions, folder / "fc3.hdf5")
    assert not read_folder(folder).warnings  # isotopes are off there
    (said,) = read_folder(folder, Request(mesh=(3, 3, 3), isotopes=True)).warnings
    assert "no isotope scattering by Cl 35.4 u" in said


def test_standard_masses_are_those_of_phonopy_in_every_route():
    from ase import Atoms
    from phonopy.structure.atoms import PhonopyAtoms

    numbers = numpy.arange(1, 84)
    theirs = PhonopyAtoms(numbers=numbers, cell=numpy.eye(3), scaled_positions=numpy.zeros((83, 3))).masses
    assert standard_masses(numbers).tolist() == theirs.tolist()
    assert Crystal.from_ase(Atoms("LiSe", pbc=True)).masses.tolist() == standard_masses([3, 34]).tolist()
    own = Crystal.from_ase(Atoms("H", masses=[2.014]))
    assert own.masses.tolist() == [2.014] and "as the input gives" in describe_masses(own.numbers, own.masses)
    with pytest.raises(StudyError, match="no chemical element"):
        standard_masses([0])


def test_omega_max_leaves_the_processes_of_high_modes_out(folder):
    """Without isotopes the modes above it carry nothing; those below scatter as before."""
    plain = read_folder(folder, Request(isotopes=False))
    omega = numpy.sort(plain_modes(plain).omega.ravel())
    limit = omega[len(omega) // 2] + 1e-6
    (folder / "CONTROL").write_text((folder / "CONTROL").read_text().replace("T=300", f"T=300 omega_max={limit:.6f}"))
    limited = read_folder(folder, Request(isotopes=False))
    assert "no physical conductivity" in limited.warnings[0]
    whole, part = plain_solution(plain), plain_solution(limited)
    high = whole.modes.omega > limit
    assert high.any() and not high.all()
    assert (part.linewidth[0][high] == 0).all() and (part.rta[0].kappa_modes[high] == 0).all()
    assert part.linewidth[0][~high] == pytest.approx(whole.linewidth[0][~high])
    assert (part.rates.phase_space[high] == 0).all() and part.full[0].converged


def plain_modes(problem):
    return plain_solution(problem).modes


def plain_solution(problem):
    from phonoscreen.transport.solve import solve

    return solve(problem.crystal, problem.second, problem.third, problem.mesh, problem.settings)


def test_omega_max_as_shengbte(reference, tmp_path):
    """ShengBTE 1.5.1's Test-flags and its reference output; 0.3 %, as the compilations of isotopes differ."""
    for name in ("FORCE_CONSTANTS_2ND.xz", "FORCE_CONSTANTS_3RD"):
        shutil.copy(reference / "shengbte_inas" / name, tmp_path)
    shutil.copy(reference / "other_programs/shengbte_omega_max/CONTROL", tmp_path)
    assert run_command(tmp_path, "--degeneracy", "shengbte", "--quiet") == 0
    for name, expected in {"RTA": (86.580, 81.974), "CONV": (100.52, 95.966)}.items():
        table = numpy.loadtxt(tmp_path / f"BTE.KappaTensorVsT_{name}")
        assert table[:, 0].tolist() == [300, 400]
        assert table[:, [1, 5, 9]] == pytest.approx(numpy.repeat(expected, 3).reshape(2, 3), rel=3e-3)


def test_a_diverging_iteration_leaves_no_number_in_any_file(folder, capsys, monkeypatch):
    from phonoscreen.transport import solve as module

    assert run_command(folder, *MESH) == 0
    before = snapshot(folder)
    iterate = module.iterate

    def diverging(*arguments, **keywords):
        found = iterate(*arguments, **keywords)
        return replace(found, kappa=3e161 * numpy.eye(3), converged=False)

    monkeypatch.setattr(module, "iterate", diverging)
    assert run_command(folder, *MESH) == 1
    seen = capsys.readouterr()
    assert "e+161" not in seen.out + seen.err and "diverged" in seen.out and "--rta" in seen.err
    assert snapshot(folder) == before
    assert run_command(folder, *MESH, "--out", folder / "new") == 1
    capsys.readouterr()
    assert not (folder / "new").exists()
    assert run_command(folder, *MESH, "--rta", "--out", folder / "new") == 0
    assert "diverged" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kappa", "converged", "word"),
    [(1e2, True, None), (1e2, False, "not converged"), (numpy.nan, True, "diverged"), (1e9, True, "diverged")],
)
def test_only_a_converged_finite_solution_is_a_result(kappa, converged, word):
    from phonoscreen.transport.boltzmann import Populations, unusable

    found = unusable(Populations(kappa * numpy.eye(3), None, None, 7, converged))
    assert (found and found[0]) == word
    relaxation = unusable(Populations(kappa * numpy.eye(3), None, None))
    assert (relaxation and relaxation[0]) == (None if word in (None, "not converged") else "no result")


def test_an_error_while_writing_leaves_the_older_results(folder, monkeypatch, capsys):
    from phonoscreen.formats import bte_files

    assert run_command(folder, *MESH) == 0
    before = snapshot(folder)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bte_files, "write_anharmonic", full_disk)
    assert run_command(folder, *MESH, "--temperature", 500) == 2
    assert "No space left" in capsys.readouterr().err
    assert snapshot(folder) == before


def test_files_of_an_earlier_run_are_named(folder, capsys):
    assert run_command(folder, *MESH, "--temperature", 300, 500) == 0
    assert "did not write" not in capsys.readouterr().err
    assert run_command(folder, *MESH, "--temperature", 300) == 0
    assert "T500K/BTE.cv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--grid", 10**9, 10**9, 10**9), "GiB are allowed"),
        (("--grid", 0, 3, 3), "not three counts"),
        (("--memory-gib", "nan"), "above 0"),
        (("--memory-gib", 1e-7), "--memory-gib"),
        (("--threads", 0), "above 0"),
        (("--boundary-nm", 0), "no length"),
        (("--temperature", "nan"), "above 0"),
        (("--scalebroad", "inf"), "scalebroad"),
    ],
)
def test_nonsense_on_the_command_line_is_refused(folder, capsys, options, message):
    assert run_command(folder, "--quiet", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob("BTE*"))


def test_atoms_on_each_other_are_refused(folder, capsys):
    text = (folder / "CONTROL").read_text()
    assert "positions(:,2)=0.5 0.5 0.5" in text
    (folder / "CONTROL").write_text(text.replace("positions(:,2)=0.5 0.5 0.5", "positions(:,2)=0 0 1"))
    assert run_command(folder, *MESH) == 2
    assert "atoms 1 and 2 are 0.000 A from each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "epsilon", "charge"), [("phonopy_zno", (5.970, 4.558), 2.1496), ("phonopy_al2o3", (3.276, 3.219), 2.9602)]
)
def test_born_files_of_phonopy_are_read(reference, name, epsilon, charge):
    from ase.io import read

    folder = reference / "other_programs" / name
    crystal = Crystal.from_ase(read(folder / "POSCAR-unitcell", format="vasp"))
    born, tensor = read_born(folder / "BORN", primitive_crystal(crystal), crystal)
    assert numpy.diag(tensor)[[0, 2]] == pytest.approx(epsilon, abs=1e-3)
    assert abs(born[:, 0, 0]).max() == pytest.approx(charge, abs=1e-2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2.40000", "nan", "not finite"),
        ("1.10000", "1100", "Born charge of 1.1e+03"),
        ("2.40000 0.00000", "2.40000 1.00000", "not symmetric"),
        ("2.40000", "-2.40000", "not positive"),
        ("14.400", "2.0", "factor 2.0"),
        ("1.10000 0.00000", "1.10000", "not nine numbers"),
    ],
)
def test_charges_of_no_crystal_are_refused(cubic, tmp_path, old, new, message):
    write_born(tmp_path / "BORN", EPSILON, BORN)
    text = (tmp_path / "BORN").read_text()
    assert old in text
    (tmp_path / "BORN").write_text(text.replace(old, new, 1))
    with pytest.raises(StudyError, match=re.escape(message)):
        read_born(tmp_path / "BORN", cubic[0])


@pytest.mark.parametrize("kind", ["BORN", "CONTROL", "phono3py.yaml"])
def test_charges_that_do_not_sum_to_zero_are_refused_in_every_file(cubic, tmp_path, capsys, kind):
    """A sum of 1.9 e, taken off evenly, would be charges of nobody."""
    wrong, folder = BORN * numpy.array([3 / 1.1, 1.0])[:, None, None], tmp_path / "in"
    write_directory(*cubic, folder, mesh=(3, 3, 3), temperature_k=300, born=wrong, epsilon=EPSILON)
    if kind == "phono3py.yaml":
        program = to_phono3py(*cubic)
        program.nac_params = {"born": wrong, "dielectric": EPSILON, "factor": 14.4}
        program.save(folder / kind)
        write_second_hdf5(cubic[1], folder / "fc2.hdf5")
        write_third_hdf5(cubic[2], cubic[1].repetitions, folder / "fc3.hdf5")
    elif kind == "BORN":
        write_structure(cubic[0], folder)
        write_born(folder / "BORN", EPSILON, wrong)
    if kind != "CONTROL":
        (folder / "CONTROL").unlink()
    assert run_command(folder, *MESH) == 2
    said = capsys.readouterr().err
    assert "sum to 1.90 e instead of zero, the largest is 3.00 e" in said and kind in said


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command(folder, *MESH, "--out", tmp_path / "file" / "new") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_element_without_natural_isotopes_needs_them_off(folder, capsys):
    text = (folder / "CONTROL").read_text().replace('"Mg"', '"Tc"').replace("  autoisotopes=.FALSE.\n", "")
    (folder / "CONTROL").write_text(text)
    assert run_command(folder, *MESH) == 2
    assert "--no-isotopes" in capsys.readouterr().err
    assert run_command(folder, *MESH, "--no-isotopes") == 0
    assert "Tc 98" in capsys.readouterr().out


def test_nanowires_have_files_and_a_lower_bound_is_named_so(folder, capsys):
    text = (folder / "CONTROL").read_text().replace("nanowires=.FALSE.", "nanowires=.TRUE.")
    text = text.replace("natoms=2", "natoms=2 norientations=2")
    text = text.replace("lfactor", "orientations=1 0 0 1 1 1, lfactor").replace("&parameters", "&parameters rmax=250")
    (folder / "CONTROL").write_text(text)
    assert run_command(folder, *MESH) == 0
    out = capsys.readouterr().out
    assert "lower bounds (BTE.kappa_nw_*_lower)" in out and "NOT computed" in out and "along 0.577 0.577 0.577" in out
    names = sorted(path.name for path in folder.glob("T300K/BTE.kappa_nw_*"))
    assert names == ["BTE.kappa_nw_1_lower", "BTE.kappa_nw_2_lower"]
    table = numpy.loadtxt(folder / "T300K/BTE.kappa_nw_2_lower")
    assert table[:, 0].tolist() == [10, 210] and table[:, 1:-1].sum(axis=1) == pytest.approx(table[:, -1])
    assert run_command(folder, *MESH, "--rta") == 0
    assert "NOT computed" not in capsys.readouterr().out
    assert numpy.loadtxt(folder / "T300K/BTE.kappa_nw_2") == pytest.approx(table)


def test_masses_of_no_isotope_are_named_and_different_ones_of_equivalent_atoms_refused(tmp_path):
    crystal, second, third = hexagonal(repetitions=(4, 4, 2))
    odd = replace(crystal, masses=numpy.array([50.4, 50.4]))
    write_directory(odd, second, third, tmp_path / "odd", mesh=(3, 3, 3), temperature_k=300, isotopes=False)
    (warning,) = read_folder(tmp_path / "odd").warnings
    assert "Mg 50.4 u" in warning and "mixed crystal" in warning
    other = replace(crystal, masses=numpy.array([24.3, 25.3]))
    write_directory(other, second, third, tmp_path / "other", mesh=(3, 3, 3), temperature_k=300, isotopes=False)
    with pytest.raises(StudyError, match="atoms 1 and 2 are equivalent by symmetry and have masses of 24.3 and 25.3 u"):
        read_folder(tmp_path / "other")
