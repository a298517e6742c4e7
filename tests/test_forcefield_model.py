"""Laws that a force model must obey, on random and on crystalline environments."""

import numpy
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.models.files import load_model, save_model
from phonoscreen.forcefield.models.registry import create_model, kinds
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, atoms_neighbourhoods
from phonoscreen.forcefield.supercells import Supercells
from tests.forcefield_crystals import SETTINGS, perovskite, random_moves, rock_salt, zinc_blende

KINDS = kinds()


def made(kind, **changes):
    """A model with random weights, its scales set from three crystals."""
    model = create_model({**SETTINGS, "kind": kind, **changes}, seed=5)
    samples = []
    for number, atoms in enumerate((rock_salt(), zinc_blende(), perovskite())):
        supercell = atoms.repeat(2)
        move = random_moves(1, len(supercell), number)[0]
        supercell.positions += move
        samples.append((atoms_neighbourhoods(supercell, model.cutoff_angstrom), -3.0 * move))
    model.calibrate(samples, seed=1)
    return model.eval()


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return made(request.param)


def random_solid(seed, n_atoms=16):
    """Atoms of five elements at random, none closer than 1.8 angstrom, periodic."""
    rng = numpy.random.default_rng(seed)
    atoms = Atoms(cell=[7.0, 7.5, 8.0], pbc=True)
    while len(atoms) < n_atoms:
        trial = atoms + Atoms(rng.choice(["Na", "Cl", "Ti", "Cs", "O"]), positions=[rng.uniform(0, 7, 3)])
        if len(atoms) == 0 or trial.get_distances(-1, range(len(atoms)), mic=True).min() > 1.8:
            atoms = trial
    return atoms


def displaced_crystal(seed):
    atoms = perovskite().repeat(2)
    atoms.positions += random_moves(1, len(atoms), seed)[0]
    return atoms


def forces_of(model, atoms):
    return model.forces(atoms_neighbourhoods(atoms, model.cutoff_angstrom))


def turned(atoms, matrix):
    result = atoms.copy()
    result.set_cell(atoms.cell @ matrix.T)
    result.positions = atoms.positions @ matrix.T
    return result


@pytest.mark.parametrize("environment", [random_solid, displaced_crystal])
@pytest.mark.parametrize("seed", [1, 2])
def test_forces_turn_with_the_atoms(model, environment, seed):
    atoms, rotation = environment(seed), Rotation.random(random_state=seed).as_matrix()
    forces = forces_of(model, atoms)
    error = forces_of(model, turned(atoms, rotation)) - forces @ rotation.T
    assert numpy.abs(forces).max() > 1e-5
    assert numpy.abs(error).max() < 2e-5 * numpy.abs(forces).max()


@pytest.mark.parametrize("environment", [random_solid, displaced_crystal])
def test_forces_are_mirrored_with_the_atoms(model, environment):
    """In the right-handed frame of mirrored atoms the third axis is reversed: one of the sign changes built in."""
    atoms, mirror = environment(3), numpy.diag([1.0, 1.0, -1.0])
    forces = forces_of(model, atoms)
    error = forces_of(model, turned(atoms, mirror)) - forces @ mirror
    assert numpy.abs(error).max() < 2e-5 * numpy.abs(forces).max()


def test_forces_follow_a_permutation_of_the_atoms(model):
    atoms, order = random_solid(4), numpy.random.default_rng(0).permutation(16)
    numpy.testing.assert_allclose(forces_of(model, atoms[order]), forces_of(model, atoms)[order], atol=1e-6)


def test_forces_do_not_change_under_translation_or_another_choice_of_cell(model):
    atoms = random_solid(5)
    moved = atoms.copy()
    moved.positions += (0.3, -2.0, 5.1)
    moved.wrap()
    numpy.testing.assert_allclose(forces_of(model, moved), forces_of(model, atoms), atol=1e-6)
    numpy.testing.assert_allclose(forces_of(model, atoms.repeat((2, 1, 1)))[:16], forces_of(model, atoms), atol=1e-6)


def test_a_batch_gives_what_single_cells_give(model):
    cells = [random_solid(6), displaced_crystal(7), random_solid(8)]
    single = [forces_of(model, atoms) for atoms in cells]
    parts = [atoms_neighbourhoods(atoms, model.cutoff_angstrom) for atoms in cells]
    numpy.testing.assert_allclose(model.forces(Neighbourhoods.concatenate(parts)), numpy.concatenate(single), atol=1e-7)


def test_an_atom_that_enters_the_cutoff_changes_nothing_at_first(model):
    def forces(distance):
        near = [(0, 0, 0), (2.5, 0, 0), (0, 2.6, 0), (0.3, 0.2, 2.7)]
        far = [(-distance, 0, 0), (-distance - 2.5, 0, 0), (-distance, -2.6, 0)]  # of these only the first comes near
        return forces_of(model, Atoms("NaCl3KCl2", positions=[*near, *far]))[0]

    cutoff = model.cutoff_angstrom
    assert numpy.abs(forces(cutoff - 1e-3) - forces(cutoff + 1e-3)).max() < 1e-5 * numpy.abs(forces(cutoff)).max()


@pytest.mark.parametrize("atoms", [rock_salt(), zinc_blende(), perovskite()], ids=["NaCl", "ZnS", "SrTiO3"])
def test_symmetric_sites_of_the_perfect_crystal_feel_no_force(model, atoms):
    forces = forces_of(model, atoms)
    assert numpy.abs(forces).max() < 1e-5 * numpy.abs(forces_of(model, displaced_crystal(1))).max()


@pytest.mark.parametrize("atoms", [rock_salt(), zinc_blende(), perovskite()], ids=["NaCl", "ZnS", "SrTiO3"])
def test_forces_relative_to_the_undisplaced_crystal_vanish_with_the_displacement(model, atoms):
    moves = random_moves(1, 8 * len(atoms), 9)[0] * numpy.array([1.0, 1e-2, 1e-4])[:, None, None]
    committee = Committee([model])
    forces = numpy.abs(committee.supercell_forces(Supercells(Crystal.from_ase(atoms), numpy.array([2, 2, 2]), moves)))
    largest = forces.max(axis=(0, 2, 3))
    assert largest[1] < 0.05 * largest[0] and largest[2] < 0.05 * largest[1]


def test_forces_relative_to_the_crystal_are_differences_in_the_same_frames():
    """With every atom moved alike the environment is that of the undisplaced crystal: no relative force at all."""
    model = made("elemental_sdnnff")
    moves = numpy.broadcast_to([0.01, -0.02, 0.015], (1, 16, 3))
    cells = Supercells(Crystal.from_ase(zinc_blende()), numpy.array([2, 2, 2]), moves)
    assert numpy.abs(Committee([model]).supercell_forces(cells)).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("environment", [random_solid, displaced_crystal])
def test_single_precision_gives_the_forces_of_double_precision(kind, environment):
    double, single = made(kind), made(kind, dtype="float32")
    single.load_state_dict(double.state_dict())
    atoms = environment(2)
    error = numpy.abs(forces_of(single, atoms) - forces_of(double, atoms)).max()
    assert error < 1e-4 * numpy.abs(forces_of(double, atoms)).max()


def test_one_atom_alone_and_atoms_far_apart():
    """No neighbour, no force; a direct model has no frame there and says so (test_forcefield_environments)."""
    model = made("equivariant")
    assert not forces_of(model, Atoms("Na")).any()
    assert not forces_of(model, Atoms("NaCl", positions=[(0, 0, 0), (0, 0, 20)])).any()
    assert not forces_of(model, rock_salt()).round(9).any()


def test_a_stored_model_is_the_same_model(model, tmp_path):
    save_model(model, tmp_path / "m.safetensors", tmp_path / "m.json", elements=[11])
    again = load_model(tmp_path / "m.safetensors", tmp_path / "m.json", "cpu")
    atoms = random_solid(1)
    assert (forces_of(again, atoms) == forces_of(model, atoms)).all()


def test_files_that_are_no_model_are_refused(model, tmp_path):
    save_model(model, tmp_path / "m.safetensors", tmp_path / "m.json")
    (tmp_path / "other.json").write_text('{"format": "something else"}')
    with pytest.raises(StudyError, match="something else"):
        load_model(tmp_path / "m.safetensors", tmp_path / "other.json", "cpu")
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-100])
    with pytest.raises(StudyError, match="is not the file that was stored"):
        load_model(tmp_path / "broken.safetensors", tmp_path / "m.json", "cpu")
    with pytest.raises(StudyError, match="unknown kind"):
        create_model({**SETTINGS, "kind": "crystal_ball"}, 1)


def test_the_conservative_model_has_no_net_force_and_is_the_gradient_of_its_energy():
    model, atoms, step = made("equivariant"), random_solid(3), 1e-5

    def energy(moved):
        return model.energy(model.describe(atoms_neighbourhoods(moved, model.cutoff_angstrom)))

    forces = forces_of(model, atoms)
    assert numpy.abs(forces.sum(axis=0)).max() < 1e-9 * numpy.abs(forces).max()
    for atom, axis in ((0, 0), (5, 1), (11, 2)):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            ends.append(energy(moved))
        assert forces[atom, axis] == pytest.approx(-(ends[0] - ends[1]) / (2 * step), abs=1e-5 * abs(forces).max())


def test_the_hessian_of_the_conservative_model_is_symmetric():
    model, atoms, step = made("equivariant"), perovskite(), 1e-5
    hessian = numpy.empty((15, 15))
    for column in range(15):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[column] += sign * step
            ends.append(forces_of(model, moved).ravel())
        hessian[:, column] = (ends[0] - ends[1]) / (2 * step)
    numpy.testing.assert_allclose(hessian, hessian.T, atol=1e-6 * numpy.abs(hessian).max())
