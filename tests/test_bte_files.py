"""Files of ShengBTE, Quantum ESPRESSO and phono3py, and the command that runs in ShengBTE's folders."""

import argparse
import lzma
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.commands import bte as cli
from phonoscreen.formats.control import read_control
from phonoscreen.formats.espresso import BOHR_ANGSTROM, check_espresso_crystal, read_espresso
from phonoscreen.formats.force_constants import write_third_order
from phonoscreen.formats.shengbte import read_force_constants, write_directory
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix
from phonoscreen.phonons.long_range import EwaldCorrection, GonzeCorrection, WangCorrection
from phonoscreen.stages.other_solvers import read_conductivity, solve_with_shengbte
from phonoscreen.transport.solve import Settings, solve
from tests.conftest import ROOT
from tests.shengbte_files import write_espresso
from tests.transport_models import rocksalt

BORN = numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)])
EPSILON = 2.4 * numpy.eye(3)


def run_command(*words):
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["bte", *map(str, words)])
    return arguments.run(arguments)


@pytest.fixture(scope="module")
def cubic():
    return rocksalt(repetitions=(3, 3, 3))


@pytest.fixture
def folder(cubic, tmp_path):
    write_directory(*cubic, tmp_path / "in", mesh=(4, 4, 4), temperature_k=300)
    return tmp_path / "in"


def test_folder_for_shengbte_reads_back_as_written(cubic, folder):
    crystal, second, third = cubic
    control = read_control(folder / "CONTROL")
    assert control.crystal.cell == pytest.approx(crystal.cell, abs=1e-9)
    assert control.crystal.numbers.tolist() == crystal.numbers.tolist()
    assert (control.mesh, control.repetitions, control.temperatures_k) == ((4, 4, 4), (3, 3, 3), (300.0,))
    assert not control.flags["nonanalytic"] and control.flags["convergence"]
    found, triplets, _ = read_force_constants(folder, control)
    assert found.values == pytest.approx(second.values, abs=1e-12)
    assert triplets.values == pytest.approx(third.values, abs=1e-8)
    assert (triplets.cells == third.cells).all()


def test_command_writes_what_the_library_computes(cubic, folder, tmp_path, capsys):
    assert run_command(folder, "--temperature", 300, 500, "--out", tmp_path / "out", "--quiet") == 0
    assert "300" in capsys.readouterr().out
    control = read_control(folder / "CONTROL")
    second, third, _ = read_force_constants(folder, control)
    mine = solve(control.crystal, second, third, (4, 4, 4), Settings(tolerance=1e-5))
    found_kappa = read_conductivity(tmp_path / "out" / "BTE.KappaTensorVsT_CONV")
    assert found_kappa == pytest.approx(mine.full[0].kappa, rel=1e-4)
    omega = numpy.loadtxt(tmp_path / "out" / "BTE.omega")
    assert omega == pytest.approx(mine.modes.omega, abs=1e-8)
    cumulative = numpy.loadtxt(tmp_path / "out" / "T500K" / "BTE.cumulative_kappaVsOmega_tensor")
    total = numpy.loadtxt(tmp_path / "out" / "BTE.KappaTensorVsT_CONV")[1, 1]
    assert cumulative[-1, 1] == pytest.approx(total, rel=1e-4)


def test_command_of_harmonic_properties_needs_no_third_order(cubic, folder, tmp_path):
    control = (folder / "CONTROL").read_text()
    (folder / "CONTROL").write_text(control.replace("nanowires=.FALSE.", "onlyharmonic=T"))
    (folder / "FORCE_CONSTANTS_3RD").unlink()
    assert run_command(folder, "--out", tmp_path / "out", "--quiet") == 0
    assert not list((tmp_path / "out").rglob("BTE.*RTA"))
    (folder / "CONTROL").write_text(control)
    write_third_order(cubic[2], cubic[0].cell, folder / "FORCE_CONSTANTS_3RD")
    assert run_command(folder, "--out", tmp_path / "all", "--quiet") == 0
    for name in ("BTE.dos", "BTE.w_isotopic", "BTE.P3_total", "BTE.KappaTensorVsT_sg", "T300K/BTE.WP3", "T300K/BTE.cv"):
        harmonic, all_orders = (numpy.loadtxt(tmp_path / place / name) for place in ("out", "all"))
        assert harmonic == pytest.approx(all_orders, rel=1e-6, abs=1e-12), name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("natoms=2", "natoms=3", "lacks"),
        ("T=300", "T=0", "above 0"),
        ("T=300", "", "no temperature"),
        ('"Mg" "Cl"', '"Mg" "Xx"', "unknown element"),
        ("types=1 2", "types=1 5", "outside"),
        ("scell(:)=3 3 3", "scell(:)=2 2 2", "atoms"),
        ("&end", "", "not closed"),
        ("ngrid(:)=4 4 4", "ngrid(:)=1 1 1", "one point"),
        ("lfactor=0.1", "lfactor=abc", "not a value"),
    ],
)
def test_wrong_control_is_refused_with_the_reason(folder, capsys, old, new, message):
    control = (folder / "CONTROL").read_text()
    assert old in control
    (folder / "CONTROL").write_text(control.replace(old, new))
    assert run_command(folder, "--quiet") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["CONTROL", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD"])
def test_missing_and_cut_files_are_refused(folder, capsys, name):
    text = (folder / name).read_text()
    (folder / name).write_text(text[: len(text) // 2])
    assert run_command(folder, "--quiet") == 2
    (folder / name).unlink()
    assert run_command(folder, "--quiet") == 2
    assert "does not exist" in capsys.readouterr().err


def test_control_takes_every_form_of_fortran_namelists(tmp_path):
    (tmp_path / "CONTROL").write_text("""! made by hand
 &ALLOCATIONS
   nelements = 2, natoms = 2, ngrid = 3*5, norientations=1 /
 &crystal
   LFACTOR = 1.0D0   ! nm
   lattvec = 0 0.5 0.5  0.5 0 0.5  0.5 0.5 0
   elements='Na','Cl', types(1)=1 types(2)=2
   positions(:,1)=3*0.0  positions(1,2)=0.5, positions(2,2)=.5 positions(3,2)=5d-1
   masses = 23.0 35.5  gfactors = 0. 1e-4
   scell=3 3 3
   orientations(:,1)=1 0 0
 /
 &parameters T_min=100, T_max=300 T_step=100, scalebroad=0.1 &end
 &flags autoisotopes=.false. convergence = F nonanalytic=.true. &end
""")
    control = read_control(tmp_path / "CONTROL")
    assert control.mesh == (5, 5, 5) and control.temperatures_k == (100.0, 200.0, 300.0)
    assert control.crystal.cell == pytest.approx(5 * numpy.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))
    assert control.crystal.scaled_positions.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]
    assert control.crystal.masses.tolist() == [23.0, 35.5] and control.mass_variances.tolist() == [0, 1e-4]
    assert not control.flags["convergence"]
    assert not control.flags["nonanalytic"]  # asked for, but no Born charges are given


def test_espresso_force_constants_give_the_same_phonons(cubic, folder, tmp_path):
    crystal, second, _ = cubic
    write_espresso(folder / "espresso.ifc2", second, crystal)
    found, alat = read_espresso(folder / "espresso.ifc2", 2, (3, 3, 3))
    assert found.values == pytest.approx(second.values, abs=1e-9)
    assert alat == pytest.approx(10 * BOHR_ANGSTROM)
    control = (folder / "CONTROL").read_text()
    assert run_command(folder, "--out", tmp_path / "vasp", "--quiet") == 0
    (folder / "CONTROL").write_text(control.replace("nanowires=.FALSE.", "espresso=.TRUE."))
    assert run_command(folder, "--out", tmp_path / "qe", "--quiet") == 0
    ours, theirs = (numpy.loadtxt(tmp_path / name / "BTE.KappaTensorVsT_RTA") for name in ("vasp", "qe"))
    assert ours == pytest.approx(theirs, rel=1e-4)
    with pytest.raises(StudyError, match="grid"):
        read_espresso(folder / "espresso.ifc2", 2, (2, 3, 3))
    check_espresso_crystal(folder / "espresso.ifc2", replace(crystal, scaled_positions=crystal.scaled_positions - 0.1))
    for wrong, message in (
        ({"cell": 1.01 * crystal.cell}, "differ from those of CONTROL by 0.99 %"),
        ({"numbers": crystal.numbers[::-1]}, "atom 1 of .* is Mg .*, that of CONTROL is Cl"),
        ({"scaled_positions": numpy.array([[0, 0, 0], [0.51, 0.5, 0.5]])}, "atom 2 of .*0.04 A away"),
    ):
        with pytest.raises(StudyError, match=message):
            check_espresso_crystal(folder / "espresso.ifc2", replace(crystal, **wrong))
    text = (folder / "espresso.ifc2").read_text()
    (folder / "espresso.ifc2").write_text(text[: len(text) // 2])
    with pytest.raises(StudyError, match="cut"):
        read_espresso(folder / "espresso.ifc2", 2, (3, 3, 3))


def corrections():
    return {
        "wang": lambda crystal, constants: WangCorrection(crystal, constants, BORN, EPSILON),
        "gonze": lambda crystal, constants: GonzeCorrection(crystal, constants, BORN, EPSILON),
        "ewald": lambda crystal, constants: EwaldCorrection(crystal, BORN, EPSILON, 1.0),
    }


@pytest.mark.parametrize("name", ["wang", "gonze", "ewald"])
def test_slopes_of_the_dynamical_matrix_with_long_range_forces_are_its_derivatives(cubic, name):
    crystal, second, _ = cubic
    matrix = DynamicalMatrix(crystal, second, corrections()[name])
    q, step = numpy.array([[0.11, 0.23, 0.31]]), 1e-5
    _, slope = matrix(q, gradient=True)

    def smooth(point):  # the derivative is that of the convention whose phases count atomic positions
        turn = numpy.exp(2j * numpy.pi * numpy.repeat(crystal.scaled_positions @ point[0], 3))
        return turn.conj()[:, None] * matrix(point)[0][0] * turn

    turn = numpy.exp(2j * numpy.pi * numpy.repeat(crystal.scaled_positions @ q[0], 3))
    for axis in range(3):
        shift = step * numpy.eye(3)[axis] @ crystal.cell.T / (2 * numpy.pi)
        expected = (smooth(q + shift) - smooth(q - shift)) / (2 * step)
        found = turn.conj()[:, None] * slope[0, axis] * turn
        assert found == pytest.approx(expected, abs=1e-4 * numpy.abs(slope).max())


def test_long_range_forces_split_optical_modes_near_gamma_and_leave_commensurate_points(cubic):
    crystal, second, _ = cubic
    bare = DynamicalMatrix(crystal, second)
    inside = numpy.array([[1 / 3, 0, 0], [1 / 3, 1 / 3, 0]])
    for name in ("wang", "gonze"):
        matrix = DynamicalMatrix(crystal, second, corrections()[name])
        assert matrix(inside)[0] == pytest.approx(bare(inside)[0], abs=1e-6 * numpy.abs(bare(inside)[0]).max())
        transverse, longitudinal = numpy.linalg.eigvalsh(matrix(numpy.array([[1e-4, 0, 0]]))[0])[0, [3, 5]]
        assert longitudinal > 1.05 * transverse


def test_executable_of_shengbte_is_called_in_a_complete_folder(cubic, monkeypatch):
    """ShengBTE itself cannot be shipped; this project's command reads and writes the same files in its place."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    program = f"{sys.executable} -m phonoscreen bte . --degeneracy shengbte --threads 1 --quiet"
    transport = {"command": program, "scalebroad": 1.0, "isotopes": True, "iterations_max": 50,
                 "iterations_tolerance": 1e-5}  # fmt: skip
    found = solve_with_shengbte(*cubic, (3, 3, 3), 300.0, transport, charges=(BORN, EPSILON))
    mine = solve(*cubic, (3, 3, 3), Settings(degeneracy="shengbte"),
                 correction=lambda *of: WangCorrection(*of, BORN, EPSILON))  # fmt: skip
    assert found["rta"] == pytest.approx(mine.rta[0].kappa, rel=1e-3, abs=1e-4)
    assert found["full"] == pytest.approx(mine.full[0].kappa, rel=1e-3, abs=1e-4)
    with pytest.raises(StudyError, match="command is not set"):
        solve_with_shengbte(*cubic, (3, 3, 3), 300.0, {**transport, "command": None})
    with pytest.raises(StudyError, match="status 1"):
        solve_with_shengbte(*cubic, (3, 3, 3), 300.0, {**transport, "command": "false"})


def test_folder_of_phono3py_is_solved_like_that_of_shengbte(cubic, folder, tmp_path, capsys):
    from phonoscreen.formats.phono3py import to_phono3py
    from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5

    crystal, second, third = cubic
    other = tmp_path / "phono3py"
    other.mkdir()
    to_phono3py(*cubic).save(other / "phono3py.yaml")
    assert run_command(other, "--grid", 4, 4, 4, "--quiet") == 2
    assert "no force constants beside" in capsys.readouterr().err
    write_second_hdf5(second, other / "fc2.hdf5")
    write_third_hdf5(third, second.repetitions, other / "fc3.hdf5")
    for place in (folder, other):
        assert run_command(place, "--grid", 4, 4, 4, "--isotopes", "--quiet") == 0
    ours, theirs = (read_conductivity(place / "BTE.KappaTensorVsT_CONV") for place in (folder, other))
    assert ours == pytest.approx(theirs, rel=1e-4)  # the masses are the same; five digits are written
    (other / "phono3py_disp.yaml").write_text("")
    capsys.readouterr()
    assert run_command(other, "--grid", 3, 3, 3, "--rta", "--quiet") == 0  # the empty file describes no crystal
    assert "input: phono3py.yaml" in capsys.readouterr().out


@pytest.fixture(scope="module")
def indium_arsenide(reference, tmp_path_factory):
    """ShengBTE's own test, run by the command with ShengBTE's treatment of degenerate bands."""
    source, out = reference / "shengbte_inas", tmp_path_factory.mktemp("inas")
    for treatment in ("shengbte", "sets"):
        assert run_command(source, "--out", out / treatment, "--degeneracy", treatment, "--quiet") == 0
    return SimpleNamespace(theirs=source / "Reference", mine=out / "shengbte", sets=out / "sets")


def column(path, n_band=6):
    return numpy.loadtxt(path)[:, 1].reshape(n_band, -1).T


def test_indium_arsenide_as_shengbte_computes_it(indium_arsenide):
    """Reference output of ShengBTE 1.5.1; tolerances: its own builds differ inside degenerate bands."""
    theirs, mine = indium_arsenide.theirs, indium_arsenide.mine
    for name in ("RTA", "CONV"):
        kappa = read_conductivity(theirs / f"BTE.KappaTensorVsT_{name}")[0, 0]
        assert read_conductivity(mine / f"BTE.KappaTensorVsT_{name}")[0, 0] == pytest.approx(kappa, rel=3e-3)
        by_sets = read_conductivity(indium_arsenide.sets / f"BTE.KappaTensorVsT_{name}")[0, 0]
        assert by_sets == pytest.approx(kappa, rel=0.03)
    omega = numpy.loadtxt(theirs / "BTE.omega")
    assert numpy.loadtxt(mine / "BTE.omega") == pytest.approx(omega, abs=1e-3 * 2 * numpy.pi)
    for name, tolerance in (("BTE.P3_total", 5e-3), ("BTE.P3_plus_total", 5e-3), ("BTE.cvVsT", 1e-3)):
        assert numpy.loadtxt(mine / name) == pytest.approx(numpy.loadtxt(theirs / name), rel=tolerance)
    sets = numpy.concatenate([numpy.zeros((len(omega), 1), int),
                              numpy.cumsum(numpy.diff(omega, axis=1) > 1e-3, axis=1)], axis=1)  # fmt: skip
    from phonoscreen.phonons.dynamical_matrix import average_over_sets

    for name in ("BTE.w_isotopic", "T300K/BTE.w_anharmonic", "T300K/BTE.w_anharmonic_plus", "T300K/BTE.WP3"):
        expected = average_over_sets(column(theirs / name), sets)
        found = average_over_sets(column(mine / name), sets)
        counted = expected > 1e-6 * expected.max()
        error = numpy.abs(found[counted] / expected[counted] - 1)
        assert numpy.median(error) < 0.01 and numpy.percentile(error, 95) < 0.05, name
    assert numpy.loadtxt(mine / "BTE.gruneisen") == pytest.approx(numpy.loadtxt(theirs / "BTE.gruneisen"), abs=2e-3)


# Lower bounds in W/m/K at diameters of 10, 210 … 810 nm along the orientations 1 0 0 (of Test-VASP) and 1 1 1 (of
# Test-RTA): last columns of BTE.kappa_nw_*_lower in ShengBTE's repository, 0.13 % below those that the linewidths and
# velocities of its later reference output give.
SHENGBTE_WIRES = {1: [2.543538, 11.478241, 14.303281, 16.015301, 17.213326],
                  3: [2.779199, 12.646029, 15.347316, 16.900999, 17.961544]}  # fmt: skip


def test_nanowires_of_indium_arsenide_as_shengbte_computes_them(indium_arsenide):
    """Thin wires depend on the few modes along the axis: their angle is a matter of the mesh (0.6 %), and those along a
    threefold axis are degenerate, so that ShengBTE's numbers depend on the eigenvectors it chose (7 %)."""
    for number, expected in SHENGBTE_WIRES.items():
        found = numpy.loadtxt(indium_arsenide.mine / f"T300K/BTE.kappa_nw_{number}_lower")
        assert found[:, 0].tolist() == [10, 210, 410, 610, 810]
        assert found[1:, -1] == pytest.approx(expected[1:], rel=2e-3)
        assert found[0, -1] == pytest.approx(expected[0], rel=6e-3)
        by_sets = numpy.loadtxt(indium_arsenide.sets / f"T300K/BTE.kappa_nw_{number}_lower")
        assert by_sets[:, -1] == pytest.approx(expected, rel=0.07)


def test_every_file_of_the_reference_is_written_in_its_shape(indium_arsenide):
    for path in sorted(indium_arsenide.theirs.rglob("BTE.*")):
        mine = indium_arsenide.mine / path.relative_to(indium_arsenide.theirs)
        assert numpy.loadtxt(mine).shape == numpy.loadtxt(path).shape, path.name


def test_coherences_of_sodium_magnesium_fluoride(reference, tmp_path):
    """kappa_p and kappa_c from given linewidths, phono3py's test data (half widths, frequencies in THz)."""
    import h5py
    import phono3py

    from phonoscreen.crystal.mesh import build_mesh
    from phonoscreen.formats.phono3py import from_phonopy
    from phonoscreen.phonons.dynamical_matrix import average_over_sets
    from phonoscreen.phonons.modes import solve_mesh_modes
    from phonoscreen.transport.boltzmann import relaxation_time, velocity_products
    from phonoscreen.transport.coherence import coherence_conductivity

    source = reference / "interband_namgf3"
    shutil.copy(source / "fc2_NaMgF3.hdf5", tmp_path)
    (tmp_path / "params.yaml").write_bytes(lzma.open(source / "phono3py_params_NaMgF3.yaml.xz").read())
    program = phono3py.load(tmp_path / "params.yaml", fc2_filename=tmp_path / "fc2_NaMgF3.hdf5", produce_fc=False,
                            log_level=0)  # fmt: skip
    crystal, constants = from_phonopy(program.phonon_primitive, program.fc2)
    charges = program.nac_params
    with h5py.File(source / "kappa-NaMgF3-m979.hdf5") as store:
        mesh = build_mesh(crystal, store["mesh"][:])
        modes = solve_mesh_modes(
            DynamicalMatrix(
                crystal, constants, lambda c, k: GonzeCorrection(c, k, charges["born"], charges["dielectric"])
            ),
            mesh,
        )
        index = mesh.star[mesh.index(numpy.rint(store["qpoint"][:] * mesh.shape).astype(int))]
        assert modes.omega[index] / (2 * numpy.pi) == pytest.approx(store["frequency"][:], abs=1e-3)
        linewidth = numpy.zeros_like(modes.omega)
        linewidth[index] = 4 * numpy.pi * store["gamma"][0]
        linewidth = average_over_sets(linewidth, modes.sets)
        total = store["kappa_intra"][0, :3] + store["kappa_inter"][0, :3]
    products = velocity_products(modes)
    kappa = relaxation_time(modes, linewidth, products, crystal.volume, 300.0).kappa
    kappa = kappa + coherence_conductivity(modes, linewidth, crystal.volume, 300.0, sum_over="bare")[0]
    assert numpy.diag(kappa) == pytest.approx(total, rel=0.01)
