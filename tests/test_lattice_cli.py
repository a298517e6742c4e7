"""The stand-alone command: one crystal, extended XYZ in any atom order, files out."""

import json
import re
import time

import numpy
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from phonoscreen.__main__ import main
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.formats.force_constants import read_second_order, read_third_order
from tests import prototype_crystals as prototypes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    crystal, repetitions = prototypes.rocksalt(), (2, 2, 2)
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR", atoms)
    other = atoms.copy()
    other.set_cell(1.05 * atoms.cell, scale_atoms=True)
    write(folder / "POSCAR-other", other, format="vasp")
    basis = build_basis(crystal, repetitions, (None, choose_cutoff(crystal, repetitions, 5.0).value_angstrom))
    rng = numpy.random.default_rng(0)
    parameters = rng.normal(size=basis.n_free)
    snapshots, wrong = [], []
    for _ in range(6):
        moves = 0.02 * rng.normal(size=(1, basis.n_supercell_atoms, 3))
        rows = FitMatrix(basis).matrix(moves) @ parameters
        forces = rows.reshape(basis.n_atoms, 3, -1).transpose(2, 0, 1).reshape(-1, 3)
        own = atoms.repeat(repetitions)
        own.positions += moves[0]
        shuffle = rng.permutation(len(own))
        own = own[shuffle]
        own.wrap()
        wrong.append(own.copy())
        own.calc = SinglePointCalculator(own, forces=forces[shuffle])
        wrong[-1].calc = SinglePointCalculator(wrong[-1], forces=forces)  # forces in another order than the atoms
        snapshots.append(own)
    write(folder / "supercells.extxyz", snapshots)
    write(folder / "wrong.extxyz", wrong)
    return folder, crystal, basis, parameters


def test_fit_writes_the_force_constants_of_the_crystal(folder, capsys):
    folder, crystal, basis, parameters = folder
    status = main(["fit", str(folder / "POSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "out")])
    assert status == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_free"] == basis.n_free
    assert report["masses"].endswith("u (standard: phonopy’s table)") and not report["warnings"]
    assert report["force_error_relative_held_out"] < 1e-4
    second = read_second_order(folder / "out" / "FORCE_CONSTANTS_2ND", 2, (2, 2, 2))
    assert numpy.abs(second.values - basis.expand_second(parameters).values).max() < 1e-4
    third = read_third_order(folder / "out" / "FORCE_CONSTANTS_3RD", crystal.cell)
    assert numpy.abs(third.values - basis.expand_third(parameters).values).max() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["POSCAR", "wrong.extxyz"], "explains nothing"),
        (["POSCAR-other", "supercells.extxyz"], "not lattice vectors of the crystal"),
        (["POSCAR", "POSCAR"], "no forces"),
    ],
)
def test_wrong_input_ends_with_a_message_and_status_two(folder, capsys, arguments, message):
    folder, *_ = folder
    assert main(["fit", *(str(folder / name) for name in arguments), "--output", str(folder / "no")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert "fix:" in said


def test_a_supercell_given_as_the_crystal_is_reduced_to_its_primitive_cell(folder, capsys):
    folder, crystal, basis, parameters = folder
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "SPOSCAR", atoms.repeat((2, 2, 2)), format="vasp")
    start = time.process_time()
    assert main(["fit", str(folder / "SPOSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "s")]) == 0
    assert time.process_time() - start < 10
    report = json.loads(capsys.readouterr().out)
    assert report["n_free"] == basis.n_free
    assert report["stable"] in (True, False)
    second = read_second_order(folder / "s" / "FORCE_CONSTANTS_2ND", 2, (2, 2, 2))
    lengths = numpy.sort(numpy.linalg.norm(second.values, axis=(2, 3)).ravel())
    expected = numpy.sort(numpy.linalg.norm(basis.expand_second(parameters).values, axis=(2, 3)).ravel())
    assert numpy.allclose(lengths, expected, atol=1e-4 * expected.max())


def test_a_displaced_supercell_given_as_the_crystal_is_refused_at_once(folder, capsys):
    folder, crystal, *_ = folder
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    displaced = atoms.repeat((4, 4, 4))
    displaced.rattle(0.02, seed=1)
    write(folder / "CRYSTAL.vasp", displaced, format="vasp")
    moved = displaced.copy()
    moved.rattle(0.03, seed=2)
    moved.calc = SinglePointCalculator(moved, forces=numpy.zeros((128, 3)))
    write(folder / "one.extxyz", [moved])
    start = time.process_time()
    assert main(["fit", str(folder / "CRYSTAL.vasp"), str(folder / "one.extxyz"), "--output", str(folder / "no")]) == 2
    assert time.process_time() - start < 20
    assert "the perfect, symmetric one" in capsys.readouterr().err


def test_options_of_the_fit_reach_the_report(folder, capsys):
    folder, crystal, *_ = folder
    arguments = ["fit", str(folder / "POSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "o")]
    options = ["--third-shells", "1", "--method", "least_squares,lasso", "--in-sequence", "--learning-curve"]
    assert main([*arguments, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["third_shell"] == 1
    assert report["third_cutoff_to_shell_angstrom"] > 0
    assert (report["method_second"], report["method_third"]) == ("least_squares", "lasso")
    assert report["in_sequence"] is True
    assert report["penalty_second"] is None
    assert len(report["learning_curve"]["n_supercells"]) == len(report["learning_curve"]["force_error_relative"]) >= 3
    for name in ("acoustic", "symmetry"):
        assert report[f"{name}_residual_max"] < 1e-10
    assert main([*arguments, "--third-cutoff", "0"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "third_shell" not in report
    assert report["n_free"] == report["n_nonzero_second"]
    assert main([*arguments, "--second-cutoff", "3.0"]) == 2  # forces of all pairs are not those of nearest neighbours
    assert "longer cutoff" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--third-cutoff", "nan"], "--third-cutoff: 'nan' is not a finite number"),
        (["--third-cutoff", "-3"], "--third-cutoff: '-3' is below zero"),
        (["--second-cutoff", "0"], "--second-cutoff: '0' is not above zero"),
        (["--fourth-cutoff", "inf"], "--fourth-cutoff: 'inf' is not a finite number"),
        (["--third-shells", "0"], "--third-shells: '0' is not above zero"),
        (["--third-shells", "1.5"], "--third-shells: '1.5' is not a whole number"),
        (["--symmetry-tolerance", "0"], "--symmetry-tolerance: '0' is not above zero"),
        (["--imaginary-threshold", "nan"], "--imaginary-threshold: 'nan' is not a finite number"),
        (["--method", "lasso,lasso,lasso,lasso"], "--method: 4 methods for at most 3 orders"),
        (["--method", "least_square"], "'least_square' is none of least_squares, lasso, adaptive_lasso, ardr"),
        (["--method", "lasso,"], "'' is none of"),
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_option(folder, capsys, options, message):
    folder, *_ = folder
    arguments = ["fit", str(folder / "POSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "no")]
    with pytest.raises(SystemExit) as end:
        main([*arguments, *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (folder / "no").exists()


@pytest.mark.parametrize(
    ("options", "remedies"),
    [
        (["--third-cutoff", "0.5"], ["--third-cutoff", "force_constants.third_cutoff_angstrom"]),
        (["--third-shells", "90"], ["--third-shells", "force_constants.third_shells"]),
        (["--method", "lasso,lasso,lasso"], ["--method"]),
        (["--method", "lasso,lasso", "--third-cutoff", "0"], ["--method"]),
        (["--method", "lasso,ardr"], ["--in-sequence", "force_constants.in_sequence"]),
        (["--third-cutoff", "0", "--fourth-cutoff", "3"], ["--third-cutoff", "force_constants.third_cutoff_angstrom"]),
        (["--method", "least_squares"] + ["--third-cutoff", "0", "--second-cutoff", "3"],
         ["--second-cutoff", "force_constants.second_cutoff_angstrom"]),
    ],
)  # fmt: skip
def test_remedies_name_the_option_and_the_key_of_a_study(folder, capsys, options, remedies):
    folder, *_ = folder
    arguments = ["fit", str(folder / "POSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "no")]
    assert main([*arguments, *options]) == 2
    fix = capsys.readouterr().err.split("fix:")[1]
    assert all(remedy in fix for remedy in remedies)


def test_large_residuals_are_a_warning_with_numbers_and_a_hint(folder, tmp_path, capsys):
    """Force constants of the fourth order at large displacements, fitted with second and third only."""
    _, crystal, *_ = folder
    repetitions = (2, 2, 2)
    cutoffs = (None, 3.2, 3.2)
    basis = build_basis(crystal, repetitions, cutoffs)
    rng = numpy.random.default_rng(3)
    parameters = rng.normal(size=basis.n_free)
    parameters[-basis.orders[2].n_free :] *= 400
    unit = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    frames = []
    for _ in range(8):
        moves = 0.08 * rng.normal(size=(1, basis.n_supercell_atoms, 3))
        frame = unit.repeat(repetitions)
        frame.positions += moves[0]
        frame.calc = SinglePointCalculator(frame, forces=FitMatrix(basis).forces(moves, parameters)[0])
        frames.append(frame)
    write(tmp_path / "frames.extxyz", frames)
    write(tmp_path / "POSCAR", unit)
    arguments = ["fit", str(tmp_path / "POSCAR"), str(tmp_path / "frames.extxyz"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--third-cutoff", "3.2"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert 0.1 < report["force_error_relative"] < 0.9
    worst = max(report["force_error_relative"], report["force_error_relative_held_out"])
    assert f"{100 * worst:.3g} %" in report["warnings"][0]
    assert "--fourth-cutoff" in captured.err and "force_constants.fourth_cutoff_angstrom" in captured.err
    assert main([*arguments, "--third-cutoff", "3.2", "--fourth-cutoff", "3.2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["force_error_relative"] < 1e-4
    assert report["warnings"] == []


def test_the_report_says_which_space_group_within_which_tolerance(folder, capsys):
    folder, *_ = folder
    arguments = ["fit", str(folder / "POSCAR"), str(folder / "supercells.extxyz"), "--output", str(folder / "sym")]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["space_group"], report["space_group_number"]) == ("Fm-3m", 225)
    assert report["symmetry_tolerance_angstrom"] == 1e-3
    assert report["space_group_at_larger_tolerance"] is None
    assert report["verdict"] in ("stable", "unstable", "uncertain")
