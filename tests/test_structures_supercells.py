"""Displaced supercells: size, order, length, isotropy, seeds."""

import h5py
import numpy
import pytest
from ase.build import bulk

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.structures.candidate import read_structures_by_id, write_structures
from phonoscreen.structures.store import read_crystal, read_structures, structure_arrays
from phonoscreen.structures.supercells import (
    build_supercell,
    displaced_supercell,
    random_displacements,
    repetitions_for,
)
from phonoscreen.transport.isotopes import mass_variances


def generator(structure_id, seed=61):
    return numpy.random.default_rng(derive_seed(seed, structure_id, "displacements"))


def test_every_lattice_vector_reaches_the_length_and_no_smaller_replication_does():
    for a in (3.1, 4.0, 5.64, 9.99, 10.0, 12.0):
        cell = bulk("NaCl", "rocksalt", a=a).cell
        repetitions = repetitions_for(cell, 2, 10.0, 2000)
        lengths = numpy.linalg.norm(cell, axis=1)
        assert (repetitions * lengths >= 10.0 - 1e-4).all()
        assert ((numpy.array(repetitions) - 1) * lengths < 10.0).all()


def test_cell_of_exactly_the_length_is_not_replicated():
    assert repetitions_for(numpy.eye(3) * (10.0 - 1e-9), 4, 10.0, 250) == (1, 1, 1)


def test_too_many_atoms_and_flat_cells_are_refused_with_a_remedy():
    with pytest.raises(StudyError, match="max_atoms to 250"):
        repetitions_for(numpy.eye(3) * 2.4, 2, 10.0, 100)
    for cell in (numpy.zeros((3, 3)), numpy.full((3, 3), numpy.nan)):
        with pytest.raises(StudyError, match="no volume"):
            repetitions_for(cell, 2, 10.0, 100)


def test_atom_order_is_cells_first_then_atoms():
    atoms, repetitions = bulk("NaCl", "rocksalt", a=5.64), (2, 3, 4)
    supercell = build_supercell(atoms, repetitions)
    for m in numpy.ndindex(*repetitions):
        for j in range(2):
            index = ((m[0] * 3 + m[1]) * 4 + m[2]) * 2 + j
            assert supercell.positions[index] == pytest.approx(atoms.positions[j] + m @ atoms.cell.array)


def test_every_atom_moves_by_exactly_the_amplitude_in_an_isotropic_direction():
    moves = random_displacements(200, 64, 0.03, generator("nacl-225"))
    assert numpy.linalg.norm(moves, axis=2) == pytest.approx(0.03, rel=1e-12)
    directions = moves.reshape(-1, 3) / 0.03
    n = len(directions)
    assert abs(directions.mean(axis=0)).max() < 5 * (1 / 3 / n) ** 0.5
    # second and fourth moments of the unit sphere: 1/3 and 1/5 (a cube of random components would give others)
    assert numpy.cov(directions.T) == pytest.approx(numpy.eye(3) / 3, abs=0.02)
    assert (directions**4).mean(axis=0) == pytest.approx(1 / 5, abs=0.01)


def test_more_supercells_continue_the_same_series_and_structures_differ():
    few, many = (random_displacements(n, 8, 0.03, generator("a")) for n in (3, 7))
    assert numpy.array_equal(many[:3], few)
    assert not numpy.allclose(few, random_displacements(3, 8, 0.03, generator("b")))
    assert not numpy.allclose(few, random_displacements(3, 8, 0.03, generator("a", seed=62)))


def test_displacements_of_another_supercell_are_refused():
    supercell = build_supercell(bulk("Si"), (2, 2, 2))
    with pytest.raises(StudyError, match="do not fit 16 atoms"):
        displaced_supercell(supercell, numpy.zeros((8, 3)))


def test_structures_survive_the_shard_file(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.rattle(0.1, seed=1)
    with h5py.File(tmp_path / "shard.h5", "w") as store:
        for name, array in structure_arrays(atoms).items():
            store[f"nacl-225/{name}"] = array
    (back,) = read_structures(tmp_path / "shard.h5").values()
    assert back.positions == pytest.approx(atoms.positions, abs=1e-13)
    assert (back.numbers == atoms.numbers).all() and back.pbc.all()


def test_masses_of_isotopes_survive_the_shard_file_and_scatter_as_pure_isotopes(tmp_path):
    atoms = bulk("LiF", "rocksalt", a=4.03)
    assert "masses" not in structure_arrays(atoms)
    atoms.set_masses([7.016, atoms.get_masses()[1]])
    with h5py.File(tmp_path / "shard.h5", "w") as store:
        for name, array in structure_arrays(atoms).items():
            store[f"lif/{name}"] = array
        crystal = read_crystal(store["lif"])
    assert read_structures(tmp_path / "shard.h5")["lif"].get_masses() == pytest.approx(atoms.get_masses())
    assert crystal.masses == pytest.approx(atoms.get_masses())
    write_structures({"lif": atoms}, tmp_path / "some.extxyz")
    assert read_structures_by_id(tmp_path / "some.extxyz")["lif"].get_masses() == pytest.approx(atoms.get_masses())
    natural = mass_variances([3, 8])
    assert mass_variances([3, 8], [6.94, 15.999]) == pytest.approx(natural) and (natural > 0).all()
    assert mass_variances([3, 8], [7.016, 15.9949]) == pytest.approx([0, 0])
