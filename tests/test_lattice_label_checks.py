"""Mistakes in the forces of displaced supercells are named; true forces, of unstable crystals too, pass."""

import lzma

import h5py
import numpy
import pytest
from ase import Atoms
from ase.io import read, write
from ase.neighborlist import neighbor_list
from ase.units import Bohr, Hartree, Rydberg

from phonoscreen.__main__ import main
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import read_records, write_records
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.primitive import repeated_primitive
from phonoscreen.force_constants.basis import build_basis, write_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.harmonic_model import (
    HarmonicModel,
    negative_share,
    residual_modes,
    second_order_basis,
)
from phonoscreen.force_constants.label_checks import check_labels
from phonoscreen.force_constants.stiffness import relative_stiffness
from phonoscreen.formats.displacements import read_phonopy_yaml, read_snapshots
from phonoscreen.structures.store import structure_arrays
from tests import phonondb, prototype_crystals
from tests.small_study import run_script
from tests.supercell_files import supercell_order

REPETITIONS = (3, 3, 3)


def springs(atoms, reach, stiffness=1.0, cubic=-1.6):
    """Forces of anharmonic springs at rest between the atoms of the perfect supercell."""
    first, second, shift, vectors = neighbor_list("ijSD", atoms, reach)
    cell = atoms.cell.array

    def forces(displacements):
        moved = vectors + displacements[second] - displacements[first]
        length, rest = numpy.linalg.norm(moved, axis=1), numpy.linalg.norm(vectors, axis=1)
        pull = stiffness * (length - rest) + cubic * (length - rest) ** 2
        result = numpy.zeros((len(atoms), 3))
        numpy.add.at(result, first, pull[:, None] * moved / length[:, None])
        return result

    assert cell.shape == (3, 3) and len(shift)
    return forces


@pytest.fixture(scope="module")
def salt():
    """Rocksalt with anharmonic springs, six supercells with all atoms displaced by 0.03 angstrom."""
    crystal = prototype_crystals.rocksalt()
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    supercell = atoms.repeat(REPETITIONS)
    rng = numpy.random.default_rng(3)
    moves = rng.normal(size=(6, len(supercell), 3))
    moves *= 0.03 / numpy.linalg.norm(moves, axis=2, keepdims=True)
    model = springs(supercell, 4.2)  # first and second neighbours
    forces = numpy.array([model(own) for own in moves])
    return crystal, moves, forces, FitMatrix(build_basis(crystal, REPETITIONS, (None,)))


def suspicion(data, moves=None, forces=None, **options):
    crystal, true_moves, true_forces, matrix = data
    moves, forces = true_moves if moves is None else moves, true_forces if forces is None else forces
    try:
        check_labels(crystal, moves, forces, matrix, **options)
    except StudyError as error:
        assert error.fix
        return error.what
    return ""


@pytest.mark.parametrize("count", [1, 2, 6])
def test_true_forces_pass_and_mistakes_of_all_of_them_are_named(salt, count):
    data = (salt[0], salt[1][:count], salt[2][:count], salt[3])
    _, moves, forces, _ = data
    assert not suspicion(data)
    assert "sign were flipped" in suspicion(data, forces=-forces)
    assert "in Ry/bohr (factor 25.71)" in suspicion(data, forces=forces * Bohr / Rydberg)
    assert "in hartree/bohr (factor 51.42)" in suspicion(data, forces=forces * Bohr / Hartree)
    assert "they were in eV/angstrom (factor 0.03889)" in suspicion(data, forces=forces * Rydberg / Bohr)
    assert "which is 0.03 angstrom in units of bohr" in suspicion(data, moves=moves / Bohr)


@pytest.mark.parametrize(
    "factor, words",
    [(-1, "their sign were flipped"), (Bohr / Rydberg, "look in Ry/bohr"), (Bohr / Hartree, "look in hartree/bohr"),
     (Bohr, "look in eV/bohr"), (Rydberg / Bohr, "converted from Ry/bohr"), (4.0, "another calculation")],
)  # fmt: skip
def test_one_supercell_in_another_sign_or_unit_is_named(salt, factor, words):
    forces = salt[2].copy()
    forces[4] *= factor
    assert words in (found := suspicion(salt, forces=forces)) and found.startswith("supercell 4:")
    assert suspicion(salt, forces=forces, names=list("abcdef")).startswith("supercell e:")


def test_displacements_of_one_supercell_in_bohr_are_named(salt):
    moves = salt[1].copy()
    moves[2] /= Bohr
    assert "supercell 2: its forces look in eV/bohr, or the displacements in bohr" in suspicion(salt, moves=moves)


@pytest.mark.parametrize("what", ["forces", "displacements"])
@pytest.mark.parametrize("pair", [(4, 16), (7, 53), (0, 2)])
def test_two_like_atoms_swapped_in_one_supercell_are_named(salt, pair, what):
    arrays = {"forces": salt[2].copy(), "moves": salt[1].copy()}
    own = arrays["forces" if what == "forces" else "moves"][3]
    own[list(pair)] = own[list(pair)[::-1]]
    found = suspicion(salt, **arrays)
    symbol = ("Na", "Cl")[pair[0] % 2]
    assert found.startswith(f"supercell 3: atoms {pair[0]} and {pair[1]} (both {symbol}) look swapped"), found
    assert f"exchanging their {what}" in found


def test_swapping_everything_alike_is_no_mistake(salt):
    """Atoms that change places together with their forces are the same calculation in another order."""
    crystal, moves, forces, _ = salt
    order = numpy.arange(moves.shape[1])
    order[[4, 16]] = [16, 4]
    assert "look swapped" in suspicion(salt, forces=forces[:, order][[0]], moves=moves[[0]])
    assert not suspicion(salt)


def test_forces_that_are_missing_are_named(salt):
    _, moves, forces, _ = salt
    held = forces.copy()
    held[1, [3, 5]] = 0
    assert "supercell 1: the forces on atoms [3, 5] are exactly zero" in suspicion(salt, forces=held)
    along = forces.copy()
    along[:, 9, 2] = 0
    assert "the forces on atoms [9] are exactly zero" in suspicion(salt, forces=along)
    assert "forces sum to" in suspicion(salt, forces=forces + 0.5 * forces.std())
    assert "undisplaced supercell feels" in suspicion(salt, residual_forces=forces[0])
    assert not suspicion(salt, residual_forces=numpy.full(forces.shape[1:], 1e-4))
    assert not suspicion(salt, forces=numpy.full_like(forces, numpy.nan))  # named by the fit
    assert not suspicion(salt, forces=0 * forces) and not suspicion(salt, moves=0 * moves)


def test_a_crystal_of_one_element_and_noise_of_a_model_pass(salt):
    crystal, moves, forces, matrix = salt
    rng = numpy.random.default_rng(1)
    assert not suspicion(salt, forces=forces + 0.4 * forces.std() * rng.normal(size=forces.shape))


def test_hat_matrix_predicts_what_a_second_fit_finds(salt):
    """The misfit after an exchange of forces, from one fit, is that of a fit to the exchanged forces."""
    crystal, moves, forces, matrix = salt
    swapped = forces[:2].copy()
    swapped[1, [4, 16]] = swapped[1, [16, 4]]
    wrong = HarmonicModel(matrix, crystal, moves[:2], swapped)
    right = HarmonicModel(matrix, crystal, moves[:2], forces[:2])
    from phonoscreen.force_constants.swapped_atoms import find_swap

    swap = find_swap(wrong, numpy.tile(crystal.numbers, 27), 1)
    drop = (wrong.residuals**2).sum() - (right.residuals**2).sum()
    assert swap.gain == pytest.approx(drop, rel=1e-8)
    assert swap.after == pytest.approx(numpy.sqrt((right.residuals[1, [4, 16]] ** 2).sum()), rel=1e-6)


def test_residual_forces_are_those_that_symmetry_allows():
    assert len(residual_modes(prototype_crystals.rocksalt())) == 0
    points = [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]]
    wurtzite = Atoms("Zn2O2", cell=[3.25, 3.25, 5.2, 90, 90, 120], pbc=True, scaled_positions=points)
    modes = residual_modes(Crystal.from_ase(wurtzite))  # both elements along the polar axis
    assert len(modes) == 2 and numpy.abs(modes[:, :, :2]).max() < 1e-9


# Cubic and other compounds of phonondb, stable and not (names of their archives begin so).
COMPOUNDS = ["1000-", "8062-", "989527-", "24084-"]


@pytest.mark.parametrize("name", COMPOUNDS)
def test_dft_forces_of_single_displacements_pass_and_mistakes_in_them_do_not(reference, name, tmp_path):
    archive = next(path for path in phonondb.archives(reference).values() if f"-id-{name}" in path.name)
    data = phonondb.read_compound(archive, tmp_path).data
    matrix = FitMatrix(build_basis(data.crystal, data.repetitions, (None,)))
    known = (data.crystal, data.displacements, data.forces, matrix)
    assert not suspicion(known)
    assert "sign" in suspicion(known, forces=-data.forces)
    assert "in Ry/bohr" in suspicion(known, forces=data.forces * Bohr / Rydberg)
    assert "0.01 angstrom in units of bohr" in suspicion(known, moves=data.displacements / Bohr)


def test_dft_forces_of_random_displacements_pass_and_mistakes_in_them_do_not(reference):
    path = reference / "displaced_supercells/nacl/phono3py_params_NaCl.yaml.xz"
    data = read_phonopy_yaml(path)
    matrix = FitMatrix(build_basis(data.crystal, data.repetitions, (None,)))
    known = (data.crystal, data.displacements[:8], data.forces[:8], matrix)
    assert not suspicion(known)
    assert "sign" in suspicion(known, forces=-data.forces[:8])
    rng, size = numpy.random.default_rng(0), numpy.sqrt((data.forces[:8] ** 2).sum(axis=2).mean())
    for _ in range(4):
        forces, s = data.forces[:8].copy(), rng.integers(8)
        i, j = sorted(rng.choice(32, 2, replace=False) * 2 + rng.integers(2))
        forces[s, [i, j]] = forces[s, [j, i]]
        if numpy.linalg.norm(forces[s, i] - forces[s, j]) > 0.3 * size:  # else too alike to matter
            assert f"supercell {s}: atoms {i} and {j} " in suspicion(known, forces=forces)


def test_large_thermal_displacements_of_an_unstable_perovskite_pass(reference):
    """BaTiO3 of ALAMODE's examples, far from harmonic: 80 snapshots, bohr and Ry/bohr."""
    folder = reference / "other_programs/alamode_batio3"
    perfect = read(folder / "SPOSCAR", format="vasp")
    with lzma.open(folder / "DFSET.xz", "rt") as stream:
        rows = numpy.array([line.split() for line in stream if line.strip() and line[0] != "#"], float)
    rows = rows.reshape(-1, len(perfect), 6)
    crystal, repetitions = repeated_primitive(Crystal.from_ase(perfect), perfect.cell.array)
    order = supercell_order(crystal, repetitions, perfect.cell.array, perfect.positions, perfect.numbers)
    moves, forces = rows[:20, order, :3], rows[:20, order, 3:]
    matrix = FitMatrix(build_basis(crystal, repetitions, (None,)))
    known = (crystal, moves * Bohr, forces * Rydberg / Bohr, matrix)
    assert not suspicion(known)
    assert "sign" in suspicion(known, forces=-known[2])
    assert "Ry/bohr" in suspicion(known, moves=moves, forces=forces)  # read as they stand in the file


def test_the_measures_are_those_of_known_crystals(reference):
    folder = reference / "other_programs/rounded_mgo"
    cell = Crystal.from_ase(read(folder / "POSCAR"))
    data = read_snapshots("snapshots.extxyz", cell, read(folder / "snapshots.extxyz", ":"))
    model = HarmonicModel(
        FitMatrix(build_basis(data.crystal, data.repetitions, (None,))), data.crystal, data.displacements, data.forces
    )
    second = model.second_order()
    own = numpy.array([numpy.trace(second.values[i, i]) / 3 for i in range(2)])
    assert negative_share(second) < 0.01 and model.determined and model.explained
    assert relative_stiffness(data.crystal, own) == pytest.approx(7.2, abs=0.2)  # half-way between 1.3 and 21


@pytest.mark.parametrize(
    "mistake, words", [("sign", "sign were flipped"), ("unit", "Ry/bohr"), ("swap", "look swapped")]
)
def test_the_command_refuses_forces_with_a_mistake(reference, tmp_path, capsys, mistake, words):
    folder = reference / "other_programs/rounded_mgo"
    frames = read(folder / "snapshots.extxyz", ":")
    for atoms in frames if mistake != "swap" else frames[2:3]:
        forces = atoms.calc.results["forces"]
        if mistake == "swap":
            like = numpy.flatnonzero(atoms.numbers == 12)
            forces[like[[0, 5]]] = forces[like[[5, 0]]]
        atoms.calc.results["forces"] = forces * {"sign": -1, "unit": Bohr / Rydberg, "swap": 1}[mistake]
    write(tmp_path / "wrong.extxyz", frames)
    code = main(["fit", str(folder / "POSCAR"), str(tmp_path / "wrong.extxyz"), "--output", str(tmp_path / "out")])
    assert code == 2 and words in (printed := capsys.readouterr().err) and "fix:" in printed
    assert not (tmp_path / "out").exists()


def test_the_stage_passes_labels_on_and_takes_those_with_a_mistake_out(salt, tmp_path):
    crystal, moves, forces, _ = salt
    basis = build_basis(crystal, REPETITIONS, (None, 3.0))
    ids = ["good", "flipped", "absent"]
    with h5py.File(tmp_path / "b.h5", "w") as store:
        write_basis(store, basis)
    with h5py.File(tmp_path / "l.h5", "w") as labels, h5py.File(tmp_path / "s.h5", "w") as supercells:
        for name in ids[:2]:
            group = supercells.create_group(name)
            cell = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
            for key, array in {**structure_arrays(cell), "displacements": moves, "repetitions": REPETITIONS}.items():
                group[key] = array
            group = labels.create_group(name)
            group["forces"] = forces[[0, 2, 5]] * (1 if name == "good" else -1)
            group["supercell_index"] = [0, 2, 5]
            group["residual_forces"] = numpy.zeros(forces.shape[1:])
            group["born_charges"] = numpy.ones((2, 3, 3))
            group.attrs["model"] = "springs"
    records = [{"structure_id": i, "stage": "label_forces", "status": "failed" if i == "absent" else "ok",
                "reason": "no outputs" if i == "absent" else ""} for i in ids]  # fmt: skip
    write_records(records, tmp_path / "l.parquet")
    assigned = [{**record, "basis_key": basis.key} for record in records]
    write_records(assigned, tmp_path / "a.parquet")
    output = {"arrays": str(tmp_path / "out.h5"), "records": str(tmp_path / "out.parquet")}
    inputs = {
        "labels": "l.h5",
        "records": "l.parquet",
        "supercells": "s.h5",
        "assignment": "a.parquet",
        "bases": "b.h5",
    }
    inputs = {name: str(tmp_path / path) for name, path in inputs.items()}
    run_script("check_labels", input=inputs, output=output)
    found = read_records(output["records"]).set_index("structure_id")
    assert list(found["status"]) == ["ok", "failed", "skipped"]
    assert "sign were flipped" in found.loc["flipped", "reason"]
    with h5py.File(output["arrays"]) as store, h5py.File(tmp_path / "l.h5") as labels:
        assert list(store) == ["good"] and store["good"].attrs["model"] == "springs"
        for name in labels["good"]:
            assert (store["good"][name][()] == labels["good"][name][()]).all()
    assert second_order_basis(basis).n_free == basis.orders[0].n_free
