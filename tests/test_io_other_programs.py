"""Folders and files that users of other programs have, as they are shipped with these programs."""

import json
import lzma
import shutil

import numpy
import pytest
from ase import Atoms
from ase.io import read

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.formats.born import read_born
from phonoscreen.formats.fit_input import FitInput, read_fit_input
from phonoscreen.formats.phono3py_constants import load_phono3py
from phonoscreen.formats.phonopy import read_second_hdf5
from phonoscreen.formats.phonopy_folder import choose_files
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, solve_modes
from phonoscreen.phonons.long_range import GonzeCorrection

QPOINTS = numpy.random.default_rng(0).random((12, 3))


@pytest.fixture
def programs(reference):
    folder = reference / "other_programs"
    if not folder.is_dir():
        pytest.skip(f"no inputs of other programs at {folder}")
    return folder


def fit(capsys, *arguments):
    assert main(["fit", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def conductivity(printed):
    """The relaxation-time conductivity at 300 K that bte prints."""
    return float(next(line.split()[1] for line in printed.splitlines() if line.startswith("300 ") and ":" not in line))


def frequencies_of(folder, report):
    """Frequencies in THz at ``QPOINTS`` of the crystal that fit wrote, and the crystal."""
    crystal = Crystal.from_ase(read(folder / "POSCAR"))
    repetitions = tuple(int(n) for n in report["repetitions"].split())
    second = read_second_hdf5(folder / "fc2.hdf5", len(crystal.numbers), repetitions)
    correction = None
    if (folder / "BORN").is_file():
        born, dielectric = read_born(folder / "BORN", crystal)

        def correction(own, constants):
            return GonzeCorrection(own, constants, born, dielectric)

    return solve_modes(DynamicalMatrix(crystal, second, correction), QPOINTS)[0] / (2 * numpy.pi), crystal


def phonopys(phonon, crystal):
    """phonopy's frequencies at the same wave vectors."""
    phonon.run_qpoints(QPOINTS @ numpy.linalg.inv(crystal.cell).T @ phonon.primitive.cell.T)
    return phonon.qpoints.frequencies


@pytest.mark.parametrize("name", ["phonopy_al2o3", "phonopy_zno"])
def test_folders_of_phonopy_give_its_frequencies_born_charges_on_any_site(programs, tmp_path, capsys, name):
    import phonopy

    report = fit(capsys, programs / name, "--output", tmp_path / "out")
    assert report["method"] == "finite differences"
    assert report["files_read"] == ["phonopy_disp.yaml", "FORCE_SETS", "BORN"]
    ours, crystal = frequencies_of(tmp_path / "out", report)
    theirs = phonopys(phonopy.load(programs / name / "phonopy_disp.yaml", log_level=0,
                                   force_sets_filename=programs / name / "FORCE_SETS",
                                   born_filename=programs / name / "BORN"), crystal)  # fmt: skip
    assert numpy.abs(ours - theirs).max() < 1e-3  # BORN is written with eight decimals


def test_a_supercell_of_a_centred_crystal_costs_what_it_costs_phonopy(programs, tmp_path, capsys):
    import time

    import phonopy

    folder = programs / "phonopy_amm2"
    start = time.process_time()
    report = fit(capsys, folder / "POSCAR_Amm2", folder / "FORCE_SETS_Amm2", "--supercell", 3, 2, 2, "--output",
                 tmp_path / "out")  # fmt: skip
    assert time.process_time() - start < 10
    ours, crystal = frequencies_of(tmp_path / "out", report)
    theirs = phonopys(phonopy.load(unitcell_filename=folder / "POSCAR_Amm2", supercell_matrix=[3, 2, 2], log_level=0,
                                   force_sets_filename=folder / "FORCE_SETS_Amm2"), crystal)  # fmt: skip
    assert numpy.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize(("name", "file"), [("phono3py_znte_pairs", "phono3py_params_ZnTe.yaml.xz")])
def test_folders_of_phono3py_give_its_constants(programs, tmp_path, monkeypatch, name, file):
    import phono3py

    program, chosen = load_phono3py([programs / name])
    assert chosen.used[0] == file
    shutil.copytree(programs / name, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")  # phono3py looks for FORCES_FC3 where it is run
    theirs = phono3py.load(file, log_level=0)
    assert numpy.abs(program.fc2 - theirs.fc2).max() < 1e-10
    assert numpy.abs(program.fc3 - theirs.fc3).max() < 1e-10


def test_conductivity_of_a_folder_of_phono3py_as_shipped(programs, capsys, tmp_path):
    """Silicon: 109.1 without, 102.4 with isotopes (its README, tetrahedra); adaptive Gaussians make 1.1 % less."""
    pytest.importorskip("f90nml")
    for option, expected in (("--no-isotopes", 109.1), ("--isotopes", 102.4)):
        arguments = [
            "bte",
            str(programs / "phono3py_si_pbesol"),
            "--grid",
            "11",
            "11",
            "11",
            "--rta",
            option,
            "--quiet",
        ]
        assert main([*arguments, "--threads", "1", "--out", str(tmp_path)]) == 0
        assert conductivity(capsys.readouterr().out) == pytest.approx(expected, rel=0.015)


def test_of_two_yaml_files_the_one_that_fits_the_forces_is_taken(programs, tmp_path):
    folder = programs / "phono3py_si_pbesol"
    chosen = choose_files([folder])
    assert chosen.used == ["phono3py_disp.yaml", "FORCES_FC3.xz"]
    with pytest.raises(StudyError, match="no FORCES_FC2"):
        choose_files([folder / "phono3py_disp_dimfc2.yaml"])
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own").chmod(0o755)
    (tmp_path / "own" / "FORCES_FC2.gz").write_bytes(__import__("gzip").compress(
        "\n".join("0.1 0.2 0.3" for _ in range(512)).encode()))  # fmt: skip
    chosen = choose_files([tmp_path / "own"])
    assert chosen.used == ["phono3py_disp_dimfc2.yaml", "FORCES_FC2.gz", "FORCES_FC3.xz"] or set(chosen.used) == {
        "phono3py_disp_dimfc2.yaml", "FORCES_FC2.gz", "FORCES_FC3.xz"}  # fmt: skip
    (tmp_path / "own" / "FORCES_FC3.xz").unlink()
    text = lzma.decompress((folder / "FORCES_FC3.xz").read_bytes()).splitlines()
    (tmp_path / "own" / "FORCES_FC3").write_bytes(b"\n".join(text[:-3]))
    with pytest.raises(StudyError, match="rows of 3 numbers, 111 displaced supercells"):
        choose_files([tmp_path / "own"])


def test_pairs_with_a_cutoff_that_coincide(programs):
    data = read_fit_input(FitInput(str(programs / "phono3py_znte_pairs"), []))
    assert len(data.displacements) == 222
    assert len(data.distinct().displacements) == 221


def test_pair_displacements_without_primitive_matrix_and_with_born_charges(programs, tmp_path, capsys):
    """AlN. Stored: phono3py 4.10 on the same file, its constants and charges, THz; the charges are written rounded."""
    report = fit(capsys, programs / "phono3py_aln332", "--third-cutoff", 0, "--output", tmp_path / "out")
    ours, crystal = frequencies_of(tmp_path / "out", report)
    assert len(crystal.numbers) == 4
    assert report["n_supercells"] == 1254
    assert numpy.allclose(ours[0], ALN, atol=3e-3)


def test_force_constants_of_pairs_reach_every_file_of_the_folder(programs, tmp_path, capsys):
    """What fit writes for phono3py and for ShengBTE is what phono3py has."""
    from phonoscreen.formats.force_constants import read_third_order
    from phonoscreen.formats.phono3py import from_phono3py

    report = fit(capsys, programs / "phono3py_si_pbesol" / "POSCAR-unitcell", programs / "phono3py_si_pbesol",
                 "--output", tmp_path / "out")  # fmt: skip
    assert report["force_error_relative"] < 1e-3
    for name in ("CONTROL", "FORCE_CONSTANTS_3RD", "fc3.hdf5", "phono3py.yaml", "POSCAR"):
        assert (tmp_path / "out" / name).is_file()
    program, _ = load_phono3py([tmp_path / "out" / "phono3py.yaml"])
    crystal, _, third = from_phono3py(program)
    text = read_third_order(tmp_path / "out" / "FORCE_CONSTANTS_3RD", crystal.cell)

    def invariants(own):
        places = numpy.concatenate([numpy.zeros((len(own.atoms), 1, 3)), own.cells], axis=1) @ crystal.cell
        places += (crystal.scaled_positions @ crystal.cell)[own.atoms]
        sides = numpy.linalg.norm(places - places[:, [1, 2, 0]], axis=2).sum(axis=1)
        return (own.values**2).sum(), (own.values**2).sum(axis=(1, 2, 3)) @ sides

    assert numpy.allclose(invariants(third), invariants(text), rtol=1e-6)


def test_forces_to_conductivity_is_two_commands(programs, tmp_path, capsys):
    """MgO from rounded snapshots: 47.3 W/m/K as with symfc's constants (DFT 47.9), highest frequency 17.85 THz."""
    pytest.importorskip("f90nml")
    folder = programs / "rounded_mgo"
    report = fit(capsys, folder / "POSCAR", folder / "snapshots.extxyz", "--output", tmp_path / "out")
    assert report["frequency_max_thz"] == pytest.approx(17.85, abs=0.05)
    arguments = ["bte", str(tmp_path / "out"), "--grid", "19", "19", "19", "--rta", "--quiet", "--threads", "1"]
    assert main(arguments) == 0
    assert conductivity(capsys.readouterr().out) == pytest.approx(47.3, rel=0.01)


def test_alamodes_snapshots_at_high_temperature(programs):
    folder = programs / "alamode_batio3"
    data = read_fit_input(FitInput(str(folder / "SPOSCAR"), [str(folder / "DFSET.xz")]))
    assert data.displacements.shape == (80, 40, 3)
    assert data.repetitions == (2, 2, 2)
    assert 0.05 < numpy.sqrt((data.displacements**2).sum(axis=2).mean()) < 0.4
    # 20 snapshots of 80 left out: with the fourth order 8 to 10 %.
    unseen = numpy.arange(80) % 4 == 0
    errors = []
    for cutoffs in ((None, 3.7), (None, 3.7, 3.0)):
        fitter = ForceConstantFitter(build_basis(data.crystal, data.repetitions, cutoffs))
        found = fitter.fit(data.crystal, data.displacements[~unseen], data.forces[~unseen])
        predicted = fitter.predict(data.crystal, found.parameters, data.displacements[unseen])
        errors.append(numpy.linalg.norm(predicted - data.forces[unseen]) / numpy.linalg.norm(data.forces[unseen]))
    assert errors[0] == pytest.approx(error_of_symfc(data, unseen, 3.7), rel=1e-6)
    assert 0.07 < errors[1] < 0.10


def error_of_symfc(data, unseen, third_cutoff):
    """Relative error of symfc's second and third order on snapshots that it has not seen."""
    symfc = pytest.importorskip("symfc")
    from symfc.utils.utils import SymfcAtoms

    crystal = data.crystal
    perfect = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    perfect = perfect.repeat(data.repetitions)
    atoms = SymfcAtoms(
        cell=perfect.cell.array, scaled_positions=perfect.get_scaled_positions(), numbers=perfect.numbers
    )
    program = symfc.Symfc(atoms, cutoff={3: third_cutoff}, log_level=0)
    program.displacements, program.forces = data.displacements[~unseen], data.forces[~unseen]
    program.run(max_order=3, is_compact_fc=False)
    second, third = program.force_constants[2], program.force_constants[3]
    moves = data.displacements[unseen]
    predicted = -numpy.einsum("ijab,sjb->sia", second, moves)
    predicted -= numpy.einsum("ijkabc,sjb,skc->sia", third, moves, moves, optimize=True) / 2
    return numpy.linalg.norm(predicted - data.forces[unseen]) / numpy.linalg.norm(data.forces[unseen])


ALN = [6.462, 6.9926, 9.9241, 11.3799, 12.6051, 14.8435, 18.5486, 19.7095, 19.7921, 20.0608, 21.3309, 24.3873]
