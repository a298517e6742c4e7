"""Relaxation in the symmetric coordinates: laws on a model crystal, then ASE's own relaxation and published cells."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records
from phonoscreen.audit.shard import run_shard
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.reference.registry import make_engine
from phonoscreen.structures.free_parameters import free_coordinates, symmetric_modes, symmetric_strains
from phonoscreen.structures.prototypes import build_structure, classify, read_prototypes
from phonoscreen.structures.relaxation import _curving, _SymmetricCrystal, relax, relax_structure, stretch_of

TYPES = read_prototypes(Path(__file__).resolve().parents[1] / "resources/prototypes.yaml")["structure_types"]
LIMITS = {"force_max_ev_per_angstrom": 0.001, "stress_max_gpa": 0.05, "steps_max": 60}


@pytest.fixture(scope="module")
def argon():
    """Lennard-Jones crystal with a smooth cutoff: the face-centred cubic lattice constant is known."""
    return CalculatorEngine("lj", "Lennard-Jones", LennardJones(sigma=3.4, epsilon=0.0104, rc=12.0, smooth=True))


@pytest.fixture(scope="module")
def potential():
    pytest.importorskip("sevenn", reason="the package sevenn is not installed")
    return make_engine({"engine": "sevennet", "model": "7net-0"}, 1)


@pytest.mark.parametrize(
    "formula, structure_type, free",
    [("NaCl", "225-AB", {}), ("NiTiSn", "216-ABC", {}), ("KIrCs2Cl6", "225-ABC2D6", {"Cl"}),
     ("ZnAl2O4", "227-AB2C4", {"O"}), ("PCa3Cl3", "221-AB3C3", {}), ("AlCsO2", "227-ABC2", {})],
)  # fmt: skip
def test_symmetric_modes_are_the_free_coordinates_of_the_wyckoff_positions(formula, structure_type, free):
    crystal = classify(build_structure(formula, structure_type, TYPES), 0.01)
    modes = symmetric_modes(crystal.atoms, 0.01)
    assert len(modes) == len(free) and set(free_coordinates(crystal.atoms, 0.01)) == set(free)
    for mode in modes:
        assert (mode**2).sum() == pytest.approx(1)
        assert mode.sum(axis=0) == pytest.approx(0, abs=1e-9)
        moved = crystal.atoms.copy()
        moved.positions += 0.2 * mode
        assert classify(moved, 1e-4).prototype == crystal.prototype


def elpasolite_x(coordinates):
    """x of site 24e, whichever of the equivalent origins and atoms the coordinates belong to."""
    return max(min(x % 0.5, -x % 0.5) for x in coordinates)


def test_free_coordinates_are_those_of_the_tables():
    atoms = classify(build_structure("KIrCs2Cl6", "225-ABC2D6", TYPES), 0.01).atoms
    assert elpasolite_x(free_coordinates(atoms, 0.01)["Cl"]) == pytest.approx(0.235, abs=1e-6)


@pytest.mark.parametrize("start", [4.2, 5.0, 5.3, 6.5])
def test_lattice_constant_of_lennard_jones_from_any_start(argon, start):
    crystal = bulk("Ar", "fcc", a=start)
    limits = {**LIMITS, "stress_max_gpa": 0.001}
    result = relax(crystal, lambda atoms, step: argon.evaluate(atoms), tolerance_angstrom=0.01, **limits)
    assert result.converged and result.steps < 20
    # 1.542 sigma: nearest-neighbour distance 1.0902 sigma of the infinite crystal (Kittel, chapter 3)
    assert (4 * result.atoms.cell.volume) ** (1 / 3) == pytest.approx(1.0902 * 3.4 * 2**0.5, rel=2e-3)
    assert abs(result.pressure_gpa) < 0.001


def test_energies_of_plane_waves_that_are_not_smooth_do_not_stop_the_search(argon):
    """Energies of NaCl at 400 eV jump by 0.1 meV from volume to volume, also against the stress."""
    asked = []

    def rough(atoms, step):
        energy, forces, stress = argon.evaluate(atoms)
        asked.append(atoms.cell.volume)
        return energy + 1e-4 * (step + numpy.sin(1e3 * atoms.cell.volume)), forces, stress

    smooth = relax(
        bulk("Ar", "fcc", a=5.3), lambda atoms, step: argon.evaluate(atoms), tolerance_angstrom=0.01, **LIMITS
    )
    found = relax(bulk("Ar", "fcc", a=5.3), rough, tolerance_angstrom=0.01, **LIMITS)
    assert found.converged and len(asked) == smooth.steps
    assert found.atoms.cell.volume == pytest.approx(smooth.atoms.cell.volume, rel=1e-9)


CRYSTALS = {
    "cubic": (bulk("Ar", "fcc", a=5.3), 1),
    "wurtzite": (bulk("ZnO", "wurtzite", a=3.25, c=5.2), 2),
    "body-centred tetragonal": (bulk("Sn", "bct", a=5.83, c=3.18), 2),
    "triclinic": (Atoms("NaKCl", cell=[[3.5, 0.3, 0.2], [0.1, 3.8, 0.4], [0.5, -0.2, 4.1]], pbc=True,
                        scaled_positions=[[0, 0, 0], [0.4, 0.5, 0.45], [0.7, 0.1, 0.6]]), 6),
}  # fmt: skip


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystals_of_every_lattice_relax_in_the_strains_that_keep_their_symmetry(name):
    """The gradient is the derivative of the energy, and no step leaves the space group."""
    engine = CalculatorEngine("lj", "Lennard-Jones", LennardJones(sigma=2.2, epsilon=0.1, rc=6.0, smooth=True))
    crystal, n_strains = CRYSTALS[name]
    start = classify(crystal, 0.01)
    family = _SymmetricCrystal(start.atoms, 0.01)
    strains = symmetric_strains(start.atoms, 0.01)
    assert len(strains) == n_strains and strains[0] == pytest.approx(numpy.eye(3))
    assert numpy.einsum("aij,bij->ab", strains, strains) == pytest.approx(3 * numpy.eye(n_strains), abs=1e-9)
    variables = 0.02 * numpy.random.default_rng(1).normal(size=len(family.scale)) / family.scale
    moved = family.crystal(variables)
    assert classify(moved, 1e-3).prototype == start.prototype
    _, forces, stress = engine.evaluate(moved)
    gradient = family.gradient(variables, moved, forces, stress)
    for number, step in enumerate(1e-4 * numpy.diag(1 / family.scale)):
        ends = [engine.evaluate(family.crystal(variables + sign * step))[0] for sign in (1, -1)]
        derivative = (ends[0] - ends[1]) / (2 * step[number])
        assert gradient[number] == pytest.approx(derivative, rel=1e-5, abs=1e-6 * numpy.abs(gradient).max())
    result = relax(start.atoms, lambda atoms, step: engine.evaluate(atoms), tolerance_angstrom=0.01, **LIMITS)
    assert result.converged and result.stress_max_gpa <= LIMITS["stress_max_gpa"]
    _, forces, stress = engine.evaluate(result.atoms)
    assert numpy.abs(forces).max() < 1e-3 and numpy.abs(stress).max() * 160.2 < 0.06


def test_too_few_steps_are_not_convergence(argon):
    limits = {**LIMITS, "steps_max": 2}
    outcome = relax_structure(bulk("Ar", "fcc", a=6.5), argon, "argon", limits, 0.01)
    assert outcome.status == "not_converged" and "GPa left after 2 steps" in outcome.reason


def test_a_crystal_without_cohesion_is_an_error(argon):
    repulsive = CalculatorEngine("lj", "repulsive", LennardJones(sigma=9.0, epsilon=10.0, rc=20.0, smooth=True))
    with pytest.raises(StudyError, match="volume became"):
        relax(
            bulk("Ar", "fcc", a=5.0), lambda atoms, step: repulsive.evaluate(atoms), tolerance_angstrom=0.01,
            force_max_ev_per_angstrom=1e-9, stress_max_gpa=1e-9, steps_max=200,
        )  # fmt: skip


def test_agrees_with_a_constrained_relaxation_of_ase(potential):
    """FixSymmetry and the exponential cell filter of ASE reach the same crystal with 3n + 6 variables."""
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter

    start = classify(build_structure("NaAlK2F6", "225-ABC2D6", TYPES), 0.01).atoms
    outcome = relax_structure(start, potential, "elpasolite", LIMITS, 0.01)
    assert outcome.status == "ok" and outcome.values["steps"] < 20
    other = Atoms(
        numbers=outcome.arrays["numbers"], cell=outcome.arrays["cell"] * 1.02,
        scaled_positions=outcome.arrays["scaled_positions"], pbc=True,
    )  # fmt: skip
    other.set_constraint(FixSymmetry(other))
    other.calc = potential.calculator()
    BFGS(FrechetCellFilter(other), logfile=None).run(fmax=1e-4, steps=200)
    assert other.cell.volume == pytest.approx(abs(numpy.linalg.det(outcome.arrays["cell"])), rel=1e-3)
    assert other.get_potential_energy() / 10 == pytest.approx(outcome.values["energy_ev_per_atom"], abs=1e-4)
    ours = elpasolite_x(json.loads(outcome.values["free_coordinates"])["F"])
    theirs = elpasolite_x(free_coordinates(Atoms(other), 0.01)["F"])
    assert ours == pytest.approx(theirs, abs=2e-4) and abs(ours - 0.235) > 1e-3


@pytest.mark.parametrize(
    "formula, structure_type, expected",
    # PBE lattice constants of the Materials Project and GPAW, angstrom; universal potentials imitate PBE
    [("Si", "227-A", 5.47), ("NaCl", "225-AB", 5.69), ("NiTiSn", "216-ABC", 5.95)],
)
def test_lattice_constants_are_those_of_pbe(potential, formula, structure_type, expected):
    outcome = relax_structure(build_structure(formula, structure_type, TYPES), potential, formula, LIMITS, 0.01)
    assert outcome.values["lattice_constant_angstrom"] == pytest.approx(expected, rel=5e-3)


def test_structures_that_cannot_be_relaxed_are_recorded_and_the_shard_goes_on(potential, tmp_path):
    nan, close = bulk("NaCl", "rocksalt", a=5.6), bulk("NaCl", "rocksalt", a=5.6)
    nan.positions[1, 2] = numpy.nan
    close.positions[1] = close.positions[0] + 0.05
    structures = {
        "nan": nan,
        "close": close,
        "unknown": bulk("Po", "sc", a=3.3)[[0]],
        "collapsed": bulk("NaCl", "rocksalt", a=1.3),
        "good": bulk("NaCl", "rocksalt", a=5.6),
    }
    structures["unknown"].numbers[:] = 103
    output = {"records": str(tmp_path / "0000.parquet"), "arrays": str(tmp_path / "0000.h5")}
    named = type("Output", (SimpleNamespace,), {"keys": lambda self: output})(**output)
    job = SimpleNamespace(output=named, key="k", work=tmp_path / "work", asked=False)

    def compute(structure_id):
        return relax_structure(structures[structure_id], potential, structure_id, LIMITS, 0.01)

    run_shard(job, list(structures), compute, stage="relax_structures")
    records = read_records(output["records"]).set_index("structure_id")
    assert records["status"].to_dict() == {
        "nan": "failed", "close": "failed", "unknown": "failed", "collapsed": "failed", "good": "ok"
    }  # fmt: skip
    assert "not finite" in records.loc["nan", "reason"] and "apart" in records.loc["close", "reason"]
    assert "does not know Lr" in records.loc["unknown", "reason"]


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.02, 0.1])
def test_the_stretch_and_its_derivatives_obey_the_definition_of_the_strain(size):
    """The inverse of the stretch to the third power is linear in the strain, and so is its derivative."""
    drawn = numpy.random.default_rng(1).normal(size=(5, 3, 3))
    strain, *directions = drawn + drawn.transpose(0, 2, 1)
    strain = size * strain / numpy.abs(numpy.linalg.eigvalsh(strain)).max()
    stretch, derivatives = stretch_of(strain, numpy.array(directions))
    inverse = numpy.linalg.inv(stretch)
    assert numpy.abs(inverse @ inverse @ inverse - (numpy.eye(3) - 3 * strain)).max() < 1e-13
    for found, direction in zip(derivatives, directions, strict=True):
        slope = -inverse @ found @ inverse
        cube = slope @ inverse @ inverse + inverse @ slope @ inverse + inverse @ inverse @ slope
        assert numpy.abs(cube + 3 * direction).max() < 1e-12


def test_a_strain_beyond_its_range_stretches_a_hundredfold():
    """So that a search that goes there is refused for the volume, not led back by a root of a negative number."""
    stretch, _ = stretch_of(numpy.diag([0.1, 0.34, 5.0]))
    assert numpy.diag(stretch) == pytest.approx([0.7 ** (-1 / 3), 100, 100])


def test_a_mode_moves_no_atom_farther_than_the_limit_of_a_step():
    """The amplitude of a mode is that of all its atoms together: six anions of an elpasolite move by less than it."""
    family = _SymmetricCrystal(classify(build_structure("KIrCs2Cl6", "225-ABC2D6", TYPES), 0.01).atoms, 0.01)
    moved = family.crystal(numpy.where(numpy.arange(2) == 1, family.limit, 0))
    assert numpy.linalg.norm(moved.positions - family.start.positions, axis=1).max() == pytest.approx(0.25, abs=1e-9)


def test_the_energy_says_how_the_slope_changes_at_the_end_of_a_step():
    """For a polynomial of third degree the corrected change of the slope is the curvature at the end, exactly."""
    for third in (-0.5, 0.3):
        begin, end, step = 0.1, 0.3, numpy.array([0.2])
        energies = [x**2 + third * x**3 for x in (begin, end)]
        slopes = numpy.array([[2 * x + 3 * third * x**2] for x in (begin, end)])
        change = slopes[1] - slopes[0]
        found = change + _curving(energies[0] - energies[1], slopes.sum(axis=0), change, step)
        assert found / step == pytest.approx([2 + 6 * third * end], rel=1e-12)
