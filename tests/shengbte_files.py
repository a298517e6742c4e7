"""A small folder of every file of ShengBTE and phono3py that is read, and the readers as plain functions of a path.

``TARGETS`` maps the name of a file to a function that reads it; tests and the harness of mutated inputs call them with
files that are damaged. Each returns what it read, or raises ``StudyError``.
"""

from pathlib import Path

import numpy
from ase.data import chemical_symbols

from phonoscreen.formats.control import read_control
from phonoscreen.formats.displacements import read_born
from phonoscreen.formats.espresso import BOHR_ANGSTROM, RYDBERG_PER_BOHR2, read_espresso
from phonoscreen.formats.force_constants import read_second_order, read_third_order
from phonoscreen.formats.phonopy import read_second_hdf5, read_third_hdf5, write_second_hdf5, write_third_hdf5
from phonoscreen.formats.shengbte import write_directory
from tests.transport_models import rocksalt

REPETITIONS = (2, 2, 2)
CRYSTAL, SECOND, THIRD = rocksalt(repetitions=REPETITIONS)
BORN = numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)])
EPSILON = 2.4 * numpy.eye(3)

TARGETS = {
    "CONTROL": read_control,
    "FORCE_CONSTANTS_2ND": lambda path: read_second_order(path, 2, REPETITIONS),
    "FORCE_CONSTANTS_3RD": lambda path: read_third_order(path, CRYSTAL.cell, 2),
    "espresso.ifc2": lambda path: read_espresso(path, 2, REPETITIONS),
    "BORN": lambda path: read_born(path, CRYSTAL),
    "fc2.hdf5": lambda path: read_second_hdf5(path, 2, REPETITIONS),
    "fc3.hdf5": lambda path: read_third_hdf5(path, CRYSTAL, REPETITIONS),
}


def write_examples(folder):
    """Write a valid file for each of ``TARGETS``."""
    folder = Path(folder)
    write_directory(CRYSTAL, SECOND, THIRD, folder, mesh=(4, 4, 4), temperature_k=300, born=BORN, epsilon=EPSILON)
    write_born(folder / "BORN", EPSILON, BORN)
    write_espresso(folder / "espresso.ifc2", SECOND, CRYSTAL)
    write_second_hdf5(SECOND, folder / "fc2.hdf5")
    write_third_hdf5(THIRD, REPETITIONS, folder / "fc3.hdf5")


def write_born(path, epsilon, born):
    """As phonopy writes BORN, here for inequivalent atoms only."""
    rows = [" ".join(f"{x:.5f}" for x in numpy.ravel(tensor)) for tensor in (epsilon, *born)]
    path.write_text("\n".join(["14.400", *rows]) + "\n")


def write_espresso(path, second, crystal):
    """As q2r.x writes: lattice vectors and places over celldm(1), lattice vector of the first atom, Rydberg units."""
    n, grid, alat = len(crystal.numbers), second.repetitions, 10 * BOHR_ANGSTROM
    lines = [f"{n} {n} 0 10.0 0 0 0 0 0", *(" ".join(f"{x:.9f}" for x in row) for row in crystal.cell / alat)]
    lines += [f"{k + 1} '{chemical_symbols[z]} ' 20000.0" for k, z in enumerate(crystal.numbers)]
    places = crystal.scaled_positions @ crystal.cell / alat
    lines += [f"{k + 1} {k + 1} {x:.9f} {y:.9f} {z:.9f}" for k, (x, y, z) in enumerate(places)]
    lines += ["F", " ".join(map(str, grid))]
    for i, j, a, b in numpy.ndindex(3, 3, n, n):
        lines.append(f"{i + 1} {j + 1} {a + 1} {b + 1}")
        for m in numpy.ndindex(*grid[::-1]):
            cell = m[::-1]
            index = numpy.ravel_multi_index(numpy.mod(-numpy.array(cell), grid), grid) * n + b
            value = second.values[a, index, i, j] / RYDBERG_PER_BOHR2
            lines.append(f"{cell[0] + 1} {cell[1] + 1} {cell[2] + 1} {value:.14E}")
    path.write_text("\n".join(lines) + "\n")


def all_finite(value):
    """Whether every number inside of an object of the readers is finite."""
    if isinstance(value, numpy.ndarray):
        return bool(numpy.isfinite(value.astype(float)).all())
    if isinstance(value, (tuple, list)):
        return all(all_finite(part) for part in value)
    if hasattr(value, "__dict__"):
        return all_finite(list(vars(value).values()))
    return not isinstance(value, (int, float)) or bool(numpy.isfinite(value))


def write_structure(crystal, folder):
    """Write POSCAR; its masses are the standard ones."""
    from ase import Atoms
    from ase.io import write

    folder.mkdir(exist_ok=True)
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR", cell, format="vasp", direct=True)
