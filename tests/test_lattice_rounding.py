"""Rounded input: exact geometry before anything is built on it, and rank decisions that have a gap."""

import json

import numpy
import pytest
import spglib
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from scipy.spatial.transform import Rotation

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.primitive import primitive_crystal
from phonoscreen.crystal.ranks import CLEAR, ROUNDING, UnclearRank, clear_rank
from phonoscreen.crystal.symmetry import higher_space_group, space_group
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.finite_displacements import is_single
from phonoscreen.force_constants.judgement import is_displaced
from phonoscreen.force_constants.settings import OrderSettings
from phonoscreen.force_constants.sum_rules import RotationalSumRules
from phonoscreen.formats.control import read_control
from phonoscreen.formats.displacements import DisplacedSupercells, read_snapshots
from phonoscreen.formats.shengbte import write_control
from phonoscreen.phonons.dipoles import dipole_forces
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.stages.one_crystal import Choices, determine
from phonoscreen.structures.prototypes import classify
from phonoscreen.transport.solve import Settings, solve
from tests import prototype_crystals as prototypes
from tests.test_lattice_fit import model_forces, random_displacements
from tests.test_lattice_phonons import springs

ROUNDINGS = [1e-8, 1e-6, 1e-4]
CRYSTALS = ["rocksalt", "elpasolite", "perovskite", "wurtzite"]


def rounded(values, digits_angstrom):
    return numpy.round(numpy.asarray(values) / digits_angstrom) * digits_angstrom


def as_written(crystal, digits_angstrom, turn=None, shift=0.0, order=None):
    """The crystal as a file with few digits would give it: turned, shifted, its atoms in another order."""
    cell, positions = crystal.cell, crystal.scaled_positions @ crystal.cell + shift
    if turn is not None:
        cell, positions = cell @ turn, positions @ turn
    cell, positions = rounded(cell, digits_angstrom), rounded(positions, digits_angstrom)
    order = numpy.arange(len(positions)) if order is None else order
    scaled = positions @ numpy.linalg.inv(cell)
    return Crystal(cell, scaled[order], crystal.numbers[order], crystal.masses[order])


def asymmetry(crystal):
    """Largest distance between an image of an atom and the atom there, angstrom."""
    cell, tau = crystal.cell, crystal.scaled_positions
    found = spglib.get_symmetry((cell, tau, crystal.numbers), symprec=1e-5)
    step = (numpy.einsum("gxy,iy->gix", found["rotations"], tau) + found["translations"][:, None])[:, :, None] - tau
    distance = numpy.linalg.norm((step - numpy.rint(step)) @ cell, axis=-1)
    distance[:, crystal.numbers[:, None] != crystal.numbers[None]] = numpy.inf
    return distance.min(axis=2).max()


@pytest.mark.parametrize("digits", ROUNDINGS)
@pytest.mark.parametrize("name", CRYSTALS)
def test_rounded_geometry_becomes_exactly_symmetric_wherever_the_crystal_stands(name, digits):
    crystal = getattr(prototypes, name)()
    rng = numpy.random.default_rng(3)
    turn, order = Rotation.random(random_state=1).as_matrix(), rng.permutation(len(crystal.numbers))
    n_operations = len(spglib.get_symmetry((crystal.cell, crystal.scaled_positions, crystal.numbers))["rotations"])
    for given in (
        as_written(crystal, digits),
        as_written(crystal, digits, turn, shift=0.123456789),
        as_written(crystal, digits, order=order),
    ):
        found = primitive_crystal(given, 1e-3)
        assert asymmetry(found) < 1e-13
        assert numpy.abs((found.scaled_positions - given.scaled_positions) @ given.cell).max() < 3 * digits
        assert numpy.abs(found.cell - given.cell).max() < 3 * digits
        metric = found.cell @ found.cell.T
        rotations = spglib.get_symmetry((found.cell, found.scaled_positions, found.numbers), symprec=1e-9)["rotations"]
        assert len(rotations) == n_operations
        assert max(numpy.abs(r.T @ metric @ r - metric).max() for r in rotations) < 1e-12


@pytest.mark.parametrize("digits", ROUNDINGS)
def test_the_study_takes_exact_geometry_from_rounded_structures(digits):
    for name in CRYSTALS[:3]:
        given = as_written(getattr(prototypes, name)(), digits, shift=0.1)
        atoms = Atoms(numbers=given.numbers, cell=given.cell, scaled_positions=given.scaled_positions, pbc=True)
        exact = Crystal.from_ase(classify(atoms, 0.01).atoms)
        assert asymmetry(exact) < 1e-13


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("digits", ROUNDINGS)
def test_rounding_makes_no_rotational_condition(digits, turned):
    """Conditions that hexagonal symmetry fulfils looked independent where the file's cell was rounded."""
    crystal = prototypes.wurtzite()
    expected = RotationalSumRules(build_basis(crystal, (2, 2, 1), (None,)), crystal)
    given = as_written(crystal, digits, Rotation.random(random_state=5).as_matrix() if turned else None)
    exact = primitive_crystal(given, 1e-3)
    rules = RotationalSumRules(build_basis(exact, (2, 2, 1), (None,)), exact)
    assert not expected.unclear and not rules.unclear
    assert len(rules.constraints) == len(expected.constraints)


def test_unsymmetrised_geometry_is_named_instead_of_believed():
    crystal = as_written(prototypes.wurtzite(), 1e-6)
    rules = RotationalSumRules(build_basis(crystal, (2, 2, 1), (None,)), crystal)
    assert "singular values" in rules.unclear
    assert not len(rules.constraints)


@pytest.fixture(scope="module")
def model():
    """A wurtzite crystal of springs that obey the rotational sum rules on the border of the supercell too."""
    crystal, repetitions = prototypes.wurtzite(), (3, 3, 2)
    basis = build_basis(crystal, repetitions, (None,))
    constraints = RotationalSumRules(basis, crystal).constraints
    parameters = numpy.linalg.lstsq(
        basis.orders[0].tensors.toarray(), springs(crystal, repetitions, 1.0, 4.0).values.ravel(), rcond=None
    )[0]
    parameters -= constraints.T @ (constraints @ parameters)
    moves = random_displacements(basis, 4)
    forces = model_forces(basis, parameters, moves)
    forces += 0.01 * forces.std() * numpy.random.default_rng(1).normal(size=forces.shape)
    unit = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    return crystal, unit, repetitions, moves, forces


def snapshots_as_written(model, digits):
    crystal, unit, repetitions, moves, forces = model
    frames = []
    for move, force in zip(moves, forces):
        frame = unit.repeat(repetitions)
        frame.set_cell(rounded(frame.cell.array, digits))
        frame.positions = rounded(frame.positions + move, digits)
        frame.calc = SinglePointCalculator(frame, forces=force)
        frames.append(frame)
    return as_written(crystal, digits), frames


def test_rounded_files_give_the_same_force_constants_in_proportion_to_the_rounding(model):
    found = {}
    for digits in [1e-13, *ROUNDINGS]:
        data = read_snapshots("frames", *snapshots_as_written(model, digits))
        found[digits] = determine(data, Choices(OrderSettings(0.0)))
    exact = found.pop(1e-13)
    assert exact.report["rotational_sum_rules"] is True
    for digits, own in found.items():
        assert own.report["n_free"] == exact.report["n_free"]
        assert own.report["rotational_sum_rules"] is True
        assert own.report["rotational_cost_over_noise"] < 3  # that of noise
        change = numpy.abs(own.second.values - exact.second.values).max() / numpy.abs(exact.second.values).max()
        assert change < 30 * digits / 0.03  # displacements are 0.03 angstrom; the condition of the fit is about ten


def test_frequencies_do_not_depend_on_where_and_in_which_order_the_atoms_stand(model):
    """Atoms in another order, the origin elsewhere, the crystal turned, five decimals."""
    crystal, unit, repetitions, moves, forces = model
    points = numpy.random.default_rng(4).random((5, 3))
    found = []
    rng, turn = numpy.random.default_rng(0), Rotation.random(random_state=2).as_matrix()
    for turned in (numpy.eye(3), turn):
        order = numpy.arange(4) if turned is not turn else numpy.array([3, 0, 2, 1])
        shift = 0.0 if turned is not turn else 0.7654321
        frames = []
        for move, force in zip(moves, forces):
            frame = unit.repeat(repetitions)
            frame.positions = rounded((frame.positions + move + shift) @ turned, 1e-5)
            frame.set_cell(rounded(frame.cell.array @ turned, 1e-5))
            shuffle = rng.permutation(len(frame))
            frame = frame[shuffle]
            frame.calc = SinglePointCalculator(frame, forces=(force @ turned)[shuffle])
            frames.append(frame)
        data = read_snapshots("frames", as_written(crystal, 1e-5, turned, shift, order), frames)
        assert data.repetitions == repetitions
        second = determine(data, Choices(OrderSettings(0.0))).second
        matrices = DynamicalMatrix(data.crystal, second)(points)[0]
        found.append(numpy.linalg.eigvalsh(matrices))
    assert numpy.abs(found[1] - found[0]).max() < 3e-3 * numpy.abs(found[0]).max()


@pytest.mark.parametrize("digits", [1e-8, 1e-5, 1e-4])
def test_a_rounded_control_gives_the_frequencies_of_the_exact_crystal(tmp_path, digits):
    """Images at equal distances share a force constant; rounding to five decimals once moved modes by 0.8 of 32 THz."""
    crystal, repetitions = prototypes.wurtzite(), (3, 3, 2)
    second, points = springs(crystal, repetitions, 2.0, 5.0), numpy.random.default_rng(0).random((6, 3))
    write_control(as_written(crystal, digits), tmp_path / "CONTROL", repetitions=repetitions, mesh=(5, 5, 5))
    found = read_control(tmp_path / "CONTROL").crystal
    ours, exact = (frequencies_thz(DynamicalMatrix(own, second), points) for own in (found, crystal))
    assert numpy.abs(ours - exact).max() < 100 * digits


@pytest.fixture(scope="module")
def mgo(reference):
    folder = reference / "other_programs" / "rounded_mgo"
    return read(folder / "POSCAR"), read(folder / "snapshots.extxyz", index=":")


def test_rounded_mgo_has_the_conductivity_of_symfcs_constants(mgo):
    """47.3 W/m/K and 17.85 THz: README of the reference data. The sum rules once made 14.3 and 18.15 of these files."""
    data = read_snapshots("snapshots.extxyz", Crystal.from_ase(mgo[0]), mgo[1])
    found = determine(data, Choices())
    assert found.report["force_error_relative"] < 0.005
    settings = Settings(temperatures_k=(300.0,), full_solution=False)
    solution = solve(data.crystal, found.second, found.third, (19, 19, 19), settings)
    assert numpy.trace(solution.rta[0].kappa) / 3 == pytest.approx(47.3, abs=0.1)
    assert solution.modes.omega.max() / (2 * numpy.pi) == pytest.approx(17.85, abs=0.01)


def test_the_conductivity_of_mgo_does_not_depend_on_the_digits_of_its_files(mgo):
    kappas = []
    for digits in ROUNDINGS:
        frames = []
        for frame in mgo[1]:
            own = frame.copy()
            own.set_cell(rounded(frame.cell.array, digits))
            own.positions = rounded(frame.positions, digits)
            own.calc = SinglePointCalculator(own, forces=frame.calc.results["forces"])
            frames.append(own)
        data = read_snapshots("frames", as_written(Crystal.from_ase(mgo[0]), digits), frames)
        found = determine(data, Choices())
        settings = Settings(temperatures_k=(300.0,), full_solution=False)
        solution = solve(data.crystal, found.second, found.third, (5, 5, 5), settings)
        kappas.append(float(numpy.trace(solution.rta[0].kappa)) / 3)
    assert kappas[1] == pytest.approx(kappas[0], rel=1e-4)
    assert kappas[2] == pytest.approx(
        kappas[0], rel=1e-2
    )  # 1e-4 of 0.03 angstrom, a three-phonon rate goes as its square


def test_a_rank_needs_a_gap():
    assert clear_rank([3.0, 1.0, 1e-13], 3.0, "conditions") == 2
    assert clear_rank([1e-12, 1e-13], 3.0, "conditions") == 0
    with pytest.raises(UnclearRank, match=r"conditions.*2\.0e-08.*3\.3e-01") as failure:
        clear_rank([1.0, 6e-8], 3.0, "conditions")
    assert "--symmetry-tolerance" in failure.value.fix
    assert ROUNDING < 1e-8 < CLEAR  # where rounding of ordinary files puts what is zero


def test_one_displaced_atom_is_recognised_through_rounding():
    moves = numpy.zeros((3, 16, 3))
    moves[[0, 1, 2], [0, 5, 9], [0, 1, 2]] = 0.01
    noise = numpy.random.default_rng(0).uniform(-5e-6, 5e-6, moves.shape)  # five decimals of an OUTCAR
    assert is_single(moves)
    assert is_single(moves + noise)
    assert (is_displaced(moves + noise).sum(axis=1) == 1).all()
    pairs = moves.copy()
    pairs[:, 12, 0] = 0.01
    assert not is_single(pairs)
    pairs[:, 12, 0] = 0.0005
    with pytest.raises(StudyError, match="too much for rounding"):
        is_single(pairs)


@pytest.mark.parametrize(("decimals", "named"), [(8, False), (5, False), (3, True)])
def test_forces_with_few_decimals_are_named(decimals, named):
    """FORCE_SETS of NaCl with three decimals moved modes by 0.57 of 7.2 THz, and nothing said so."""
    crystal, moves = prototypes.perovskite(), numpy.zeros((4, 40, 3))
    for number, (atom, axis) in enumerate([(0, 0), (1, 2), (2, 0), (2, 1)]):
        moves[number, atom, axis] = 0.01
    forces = dipole_forces(springs(crystal, (2, 2, 2), 1.0, 3.0), moves)
    data = DisplacedSupercells(crystal, (2, 2, 2), moves, numpy.round(forces, decimals))
    warnings = determine(data, Choices()).warnings
    assert any(f"forces have {decimals} decimals" in warning for warning in warnings) == named


def test_noise_beyond_the_tolerance_is_named_with_the_group_it_hides(tmp_path, capsys):
    crystal = prototypes.perovskite()
    crystal.scaled_positions = crystal.scaled_positions + [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1.0e-4]]
    assert space_group(crystal, 1e-5).symbol == "P4mm"
    higher = higher_space_group(crystal, 1e-5)
    assert (higher.symbol, higher.tolerance_angstrom) == ("Pm-3m", 1e-3)
    assert higher_space_group(prototypes.perovskite(), 1e-5) is None
    moves = random_displacements(build_basis(crystal, (2, 2, 2), (None,)), 8)
    forces = dipole_forces(springs(crystal, (2, 2, 2), 1.0, 3.0), moves)
    unit = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    frames = []
    for move, force in zip(moves, forces):
        frame = unit.repeat((2, 2, 2))
        frame.positions += move
        frame.calc = SinglePointCalculator(frame, forces=force)
        frames.append(frame)
    write(tmp_path / "POSCAR", unit)
    write(tmp_path / "frames.extxyz", frames)
    arguments = ["fit", str(tmp_path / "POSCAR"), str(tmp_path / "frames.extxyz"), "--third-cutoff", "0",
                 "--output", str(tmp_path / "out")]  # fmt: skip
    assert main([*arguments, "--symmetry-tolerance", "1e-5"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["space_group"], report["space_group_number"]) == ("P4mm", 99)
    assert report["symmetry_tolerance_angstrom"] == 1e-5
    assert report["space_group_at_larger_tolerance"] == "Pm-3m (221) at 0.001 angstrom"
    assert "--symmetry-tolerance 0.001" in captured.err
    assert main([*arguments, "--symmetry-tolerance", "1e-3"]) == 0
    assert json.loads(capsys.readouterr().out)["space_group"] == "Pm-3m"


def test_a_refusal_names_the_symmetry_that_rounding_hides(tmp_path):
    """Few digits in a POSCAR beside FORCE_SETS: displaced atoms no longer stand for their equivalents."""
    crystal, moves = prototypes.perovskite(), numpy.zeros((4, 40, 3))
    for number, (atom, axis) in enumerate([(0, 0), (1, 2), (2, 0), (2, 1)]):
        moves[number, atom, axis] = 0.01
    forces = dipole_forces(springs(crystal, (2, 2, 2), 1.0, 3.0), moves)
    crystal.scaled_positions = crystal.scaled_positions + [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1.0e-4]]
    data = DisplacedSupercells(crystal, (2, 2, 2), moves, forces, symmetry_tolerance_angstrom=1e-5)
    with pytest.raises(StudyError, match="never displaced") as refused:
        determine(data, Choices())
    assert "would be Pm-3m" in refused.value.fix and "give --symmetry-tolerance 0.001" in refused.value.fix
    data.crystal, data.symmetry_tolerance_angstrom = primitive_crystal(crystal, 1e-3), 1e-3
    assert determine(data, Choices()).report["space_group"] == "Pm-3m"
