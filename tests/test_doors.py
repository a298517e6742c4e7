"""What is read and written everywhere: whole files, structures in shards, labels with supercells, pairs of atoms."""

import h5py
import numpy
import pytest

from phonoscreen.audit.atomic import written_together, written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.force_constants.clusters import neighbour_pairs
from phonoscreen.structures.labelled_supercells import read_labelled
from tests import prototype_crystals as prototypes


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "table"
    for shared in (False, True):
        with pytest.raises(ZeroDivisionError), written_whole(path, shared=shared) as partial:
            partial.write_text("half")
            raise ZeroDivisionError
        assert not list(tmp_path.iterdir())
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    with written_whole(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["table"] and path.read_text() == "after"


def test_files_of_a_folder_appear_together_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "results"
    with pytest.raises(ZeroDivisionError), written_together(folder) as staging:
        (staging / "one").write_text("1")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with written_together(folder) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "one").write_text("1")
    folder.joinpath("other").write_text("stays")
    with written_together(folder) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "one").write_text("2")
    assert {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()} == {
        "new/results/inner/one", "new/results/other"
    }  # fmt: skip
    assert (folder / "inner" / "one").read_text() == "2"


def test_a_structure_is_found_in_whatever_shard_it_is(tmp_path):
    for shard, names in (("0001", "db"), ("0000", "ca")):
        with h5py.File(tmp_path / f"{shard}.h5", "w") as store:
            for name in names:
                store[f"{name}/value"] = ord(name)
    paths = [tmp_path / "0001.h5", tmp_path / "0000.h5"]
    with ShardFiles(paths) as shards:
        assert dict(shards) == {**dict.fromkeys("bd", str(paths[0])), **dict.fromkeys("ac", str(paths[1]))}
        assert shards.in_order("abcxd") == ["b", "d", "a", "c"]
        assert all(shards.group(name)["value"][()] == ord(name) for name in "abcd")
    assert len(ShardFiles([])) == 0


@pytest.fixture
def joined(tmp_path):
    """Open file with the groups ``labels`` and ``supercells`` of one structure."""
    crystal, rng = prototypes.rocksalt(), numpy.random.default_rng(0)
    with h5py.File(tmp_path / "both.h5", "w") as store:
        for name in ("cell", "scaled_positions", "numbers"):
            store[f"supercells/{name}"] = getattr(crystal, name)
        store["supercells/repetitions"], store["supercells/displacements"] = [1, 1, 2], rng.normal(size=(5, 4, 3))
        store["labels/forces"], store["labels/supercell_index"] = rng.normal(size=(3, 4, 3)), [4, 0, 2]
        store["labels"].attrs.update({"engine": "vasp", "model": "PBE"})
        yield store


def test_labels_meet_the_supercells_that_they_are_of(joined):
    labels, supercells = joined["labels"], joined["supercells"]
    data = read_labelled(labels, supercells)
    assert (data.displacements == supercells["displacements"][:][[4, 0, 2]]).all() and data.repetitions == (1, 1, 2)
    assert (data.crystal.masses == standard_masses(data.crystal.numbers)).all()
    assert (data.engine, data.model, data.charges, data.residual_forces) == ("vasp", "PBE", None, None)
    some = read_labelled(labels, supercells, slice(1, None))
    assert some.numbers.tolist() == [0, 2] and (some.forces == data.forces[1:]).all()
    supercells["masses"] = [7.0, 8.0]
    assert read_labelled(labels, supercells).crystal.masses.tolist() == [7.0, 8.0]
    del labels["supercell_index"], labels["forces"]
    labels["forces"] = numpy.zeros((5, 4, 3))
    assert (read_labelled(labels, supercells).displacements == supercells["displacements"][:]).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("supercell_index", [4, 0, 5], "supercell 5, but only 5"),
        ("supercell_index", [4, -1, 2], "supercell -1, but only 5"),
        ("forces", numpy.zeros((3, 8, 3)), "supercells of 4 atoms"),
        ("forces", numpy.zeros((2, 4, 3)), "for 3 supercells"),
    ],
)
def test_labels_of_other_supercells_are_refused(joined, name, value, message):
    del joined["labels"][name]
    joined["labels"][name] = value
    with pytest.raises(StudyError, match=message) as refused:
        read_labelled(joined["labels"], joined["supercells"])
    assert "label again" in refused.value.fix


@pytest.mark.parametrize("cutoff_angstrom", [2.0, 4.5, 6.1])
def test_the_pairs_of_a_crystal_are_ases(cutoff_angstrom):
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    crystal = prototypes.wurtzite()
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    found = neighbour_pairs(crystal, cutoff_angstrom)
    theirs = neighbor_list("ijS", atoms, cutoff_angstrom)
    shifts = numpy.column_stack(theirs)
    ours = numpy.column_stack(found[:3])[found[3] > 1e-8]
    assert {tuple(row) for row in ours} == {tuple(row) for row in shifts} and len(ours) == len(shifts)
    assert (found[3] <= 1e-8).sum() == len(crystal.numbers)
