"""Force-constant files: round trips, and other programs read what is written."""

import re

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import full_second_order
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.formats.force_constants import (
    phonopy_order,
    read_second_order,
    read_third_order,
    write_second_order,
    write_third_order,
)
from phonoscreen.formats.hiphive import from_hiphive, to_hiphive
from phonoscreen.formats.phonopy import read_second_hdf5, read_third_hdf5, write_second_hdf5, write_third_hdf5
from tests import prototype_crystals as prototypes

REPETITIONS = (3, 3, 3)


@pytest.fixture(scope="module")
def constants():
    crystal = prototypes.half_heusler()
    basis = build_basis(crystal, REPETITIONS, (None, 4.0))
    parameters = numpy.random.default_rng(1).normal(size=basis.n_free)
    return crystal, basis.expand_second(parameters), basis.expand_third(parameters)


def third_table(third):
    keys = [(*map(int, a), *map(int, c.ravel())) for a, c in zip(third.atoms, third.cells)]
    return dict(zip(keys, third.values))


def assert_same_third(first, second, tolerance):
    one, other = third_table(first), third_table(second)
    for key in one.keys() | other.keys():
        assert numpy.abs(one.get(key, numpy.zeros((3, 3, 3))) - other.get(key, 0)).max() < tolerance


def test_shengbte_files_come_back(constants, tmp_path):
    crystal, second, third = constants
    write_second_order(second, tmp_path / "FORCE_CONSTANTS_2ND")
    write_third_order(third, crystal.cell, tmp_path / "FORCE_CONSTANTS_3RD")
    again = read_second_order(tmp_path / "FORCE_CONSTANTS_2ND", 3, REPETITIONS)
    assert numpy.abs(again.values - second.values).max() < 1e-14
    assert_same_third(read_third_order(tmp_path / "FORCE_CONSTANTS_3RD", crystal.cell), third, 1e-9)


def test_phonopy_reads_the_second_order(constants, tmp_path):
    from phonopy.file_IO import parse_FORCE_CONSTANTS, read_force_constants_hdf5

    _, second, _ = constants
    order = phonopy_order(3, REPETITIONS)
    write_second_order(second, tmp_path / "FORCE_CONSTANTS")
    theirs = parse_FORCE_CONSTANTS(str(tmp_path / "FORCE_CONSTANTS"))
    assert numpy.abs(theirs - full_second_order(second)[order][:, order]).max() < 1e-14
    write_second_hdf5(second, tmp_path / "force_constants.hdf5")
    theirs = read_force_constants_hdf5(str(tmp_path / "force_constants.hdf5"))
    assert numpy.array_equal(theirs, second.values[:, order])


def test_the_supercell_order_is_phonopys():
    from phonopy.structure.atoms import PhonopyAtoms
    from phonopy.structure.cells import get_supercell

    crystal, repetitions = prototypes.half_heusler(), (2, 3, 4)
    unit = PhonopyAtoms(cell=crystal.cell, scaled_positions=crystal.scaled_positions, numbers=crystal.numbers)
    theirs = get_supercell(unit, numpy.diag(repetitions)).scaled_positions
    cells = numpy.array(list(numpy.ndindex(*repetitions)))
    ours = (cells[:, None] + crystal.scaled_positions).reshape(-1, 3) / repetitions
    step = theirs - ours[phonopy_order(3, repetitions)]
    assert numpy.abs(step - numpy.rint(step)).max() < 1e-8


def test_hdf5_files_come_back(constants, tmp_path):
    crystal, second, third = constants
    write_second_hdf5(second, tmp_path / "fc2.hdf5")
    write_third_hdf5(third, REPETITIONS, tmp_path / "fc3.hdf5")
    assert numpy.array_equal(read_second_hdf5(tmp_path / "fc2.hdf5", 3, REPETITIONS).values, second.values)
    assert_same_third(read_third_hdf5(tmp_path / "fc3.hdf5", crystal, REPETITIONS), third, 1e-12)


def test_phono3py_reads_the_third_order(constants, tmp_path):
    from phono3py.file_IO import read_fc3_from_hdf5

    crystal, _, third = constants
    write_third_hdf5(third, REPETITIONS, tmp_path / "fc3.hdf5")
    theirs = read_fc3_from_hdf5(filename=str(tmp_path / "fc3.hdf5"))
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    theirs = theirs if isinstance(theirs, numpy.ndarray) else theirs["fc3"]
    order = numpy.argsort(phonopy_order(3, REPETITIONS))
    for (i, j, k), (b, c), values in list(zip(third.atoms, third.cells, third.values))[::50]:
        sites = [order[int(numpy.ravel_multi_index(tuple(x % 3), REPETITIONS)) * 3 + a] for x, a in ((b, j), (c, k))]
        assert numpy.allclose(theirs[i, sites[0], sites[1]], values, atol=1e-12)


def test_hiphive_objects_come_back(constants):
    crystal, second, third = constants
    objects = to_hiphive(crystal, second, third)
    assert numpy.abs(objects.get_fc_array(2) - full_second_order(second)).max() < 1e-14
    again_second, again_third = from_hiphive(objects, crystal, REPETITIONS)
    assert numpy.abs(again_second.values - second.values).max() < 1e-14
    assert_same_third(again_third, third, 1e-12)


def test_shengbtes_own_example_is_read_and_written_back(reference, tmp_path):
    folder = reference / "shengbte_inas"
    cell = 6.059141 * prototypes.FCC
    second = read_second_order(folder / "FORCE_CONSTANTS_2ND.xz", 2, (5, 5, 5))
    third = read_third_order(folder / "FORCE_CONSTANTS_3RD", cell)
    assert numpy.abs(second.values.sum(axis=1)).max() < 1e-8 * numpy.abs(second.values).max()
    full = full_second_order(second)
    assert numpy.abs(full - full.transpose(1, 0, 3, 2)).max() < 1e-8 * numpy.abs(full).max()
    write_third_order(third, cell, tmp_path / "again")
    assert_same_third(read_third_order(tmp_path / "again", cell), third, 1e-12)


@pytest.mark.parametrize("how", ["another supercell", "cut", "not a number", "another cell"])
def test_wrong_files_are_refused_with_a_remedy(constants, tmp_path, how):
    crystal, second, third = constants
    write_second_order(second, tmp_path / "second")
    write_third_order(third, crystal.cell, tmp_path / "third")
    text = (tmp_path / "second").read_text()
    repetitions = (2, 2, 2) if how == "another supercell" else REPETITIONS
    if how == "cut":
        (tmp_path / "second").write_text(text[: len(text) // 2])
    elif how == "not a number":
        (tmp_path / "second").write_text(re.sub(r"-?\d+\.\d+", "nan", text, count=1))
    with pytest.raises(StudyError):
        if how == "another cell":
            read_third_order(tmp_path / "third", 1.1 * crystal.cell)
        else:
            read_second_order(tmp_path / "second", 3, repetitions)
