"""Displaced supercells with forces, and charges, of all programs."""

import functools
import tarfile
from pathlib import Path

import numpy
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from tests.fuzz.targets.registry import REPETITIONS, rocksalt, target


def phonopy_program():
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = rocksalt()[0]
    cell = PhonopyAtoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions)
    program = Phonopy(cell, REPETITIONS, primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements(distance=0.01)
    shape = (len(program.supercells_with_displacements), 16, 3)
    program.forces = numpy.random.default_rng(0).normal(0, 0.1, shape)
    program.nac_params = {
        "born": [1.1 * numpy.eye(3), -1.1 * numpy.eye(3)], "dielectric": 2.5 * numpy.eye(3), "factor": 14.4,
    }  # fmt: skip
    return program


@target(lambda folder: phonopy_program().save(folder / "phonopy_params.yaml", settings={"force_sets": True}))
def phonopy_yaml(folder):
    from phonoscreen.formats.displacements import read_phonopy_yaml

    return read_phonopy_yaml(folder / "phonopy_params.yaml")


def force_sets_file(folder):
    from phonopy.file_IO import write_FORCE_SETS

    write_FORCE_SETS(phonopy_program().dataset, filename=folder / "FORCE_SETS")


@target(force_sets_file)
def force_sets(folder):
    from phonoscreen.formats.displacements import read_force_sets

    return read_force_sets(folder / "FORCE_SETS", rocksalt()[0], REPETITIONS)


def phonondb_files(folder):
    force_sets_file(folder)
    crystal = rocksalt()[0]
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR-unitcell", cell, format="vasp", direct=True)
    (folder / "phonopy.conf").write_text("DIM = 2 0 0 0 2 0 0 0 2\nPRIMITIVE_AXIS = 1 0 0 0 1 0 0 0 1\n")
    (folder / "INCAR-force").write_text("GGA = PS\nENCUT = 520\nEDIFF = 1e-8\n")


@target(phonondb_files)
def force_set_of_phonondb(folder):
    from phonoscreen.formats.force_sets import find_force_sets, read_force_set

    (place,) = find_force_sets(folder)
    return read_force_set(place, folder / "unpacked").data


def output_tree(folder):
    crystal, rng = rocksalt()[0], numpy.random.default_rng(1)
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR", cell, format="vasp", direct=True)
    for number in range(2):
        atoms = cell.repeat(REPETITIONS)
        atoms.positions += 0.02 * rng.normal(size=(16, 3))
        atoms.calc = SinglePointCalculator(atoms, forces=0.1 * rng.normal(size=(16, 3)), energy=-1.0)
        write(folder / f"{number}.extxyz", atoms)


@target(output_tree)
def folder_of_outputs(folder):
    from phonoscreen.formats.force_sets import read_force_set

    return read_force_set(folder, folder / "unpacked").data


def archive_file(folder):

    (folder / "inside").mkdir()
    phonondb_files(folder / "inside")
    with tarfile.open(folder / "set.tar.xz", "w:xz") as packed:
        packed.add(folder / "inside", arcname="mp-1")
    for path in (folder / "inside").iterdir():
        path.unlink()


@target(archive_file)
def force_set_archive(folder):
    from phonoscreen.formats.force_sets import read_force_set

    return read_force_set(folder / "set.tar.xz", folder / "unpacked").data


def born_file(folder):
    rows = [["14.4"], numpy.diag([2.5, 2.5, 2.5]).ravel(), *(s * numpy.eye(3).ravel() for s in (1.1, -1.1))]
    (folder / "BORN").write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n")


@target(born_file)
def born(folder):
    from phonoscreen.formats.displacements import read_born

    return read_born(folder / "BORN", rocksalt()[0])


def displaced(seed, n=2):
    """Return a displaced supercell of the model crystal with forces."""
    crystal, rng = rocksalt()[0], numpy.random.default_rng(seed)
    cell = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms = cell.repeat(n)
    atoms.positions += rng.normal(0, 0.01, atoms.positions.shape)
    forces = rng.normal(0, 0.1, atoms.positions.shape)
    atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=-3.0)
    return atoms


@functools.cache
def displaced_model():
    """Displaced supercells of a crystal with known force constants."""
    from tests.supercell_files import make_model

    return make_model(n_supercells=2)


def fit_input(structure, forces=None, **options):
    """What ``fit`` takes from files."""
    from phonoscreen.formats.fit_input import FitInput, read_fit_input

    data = read_fit_input(FitInput(str(structure), [] if forces is None else [str(forces)], **options))
    return data.crystal, data.displacements, data.forces, data.born, data.dielectric


def with_poscar(name, writer):
    """Return seeds: POSCAR, SPOSCAR and a file of displaced supercells."""

    def seeds(folder):
        write(folder / "POSCAR", displaced_model().unit_cell, format="vasp", direct=True)
        write(folder / "SPOSCAR", displaced_model().supercell, format="vasp", direct=True)
        writer(folder / name)

    return seeds


@target(with_poscar("forces.extxyz", lambda path: write(path, displaced_model().snapshots())))
def snapshots(folder):
    return fit_input(folder / "POSCAR", folder / "forces.extxyz")


@target(
    with_poscar("vasprun.xml", lambda path: supercell_files().write_vasprun(path, displaced_model().snapshots()[0]))
)
def vasprun(folder):
    return fit_input(folder / "POSCAR", folder / "vasprun.xml")


@target(with_poscar("DFSET", lambda path: supercell_files().write_dfset(path, displaced_model())))
def dfset(folder):
    return fit_input(folder / "POSCAR", folder / "DFSET", supercell=[str(folder / "SPOSCAR")])


def supercell_files():
    from tests import supercell_files as module

    return module


@target(lambda folder: supercell_files().write_tdep(folder / "tdep", displaced_model()))
def tdep(folder):
    return fit_input(folder / "tdep")


def phono3py_files(folder):
    from phono3py import Phono3py

    from phonoscreen.formats.born import phonopy_atoms

    program = Phono3py(phonopy_atoms(rocksalt()[0]), REPETITIONS, primitive_matrix=numpy.eye(3), log_level=0)
    program.generate_displacements(cutoff_pair_distance=3.0)
    forces = numpy.random.default_rng(0).normal(0, 0.1, (len(program.supercells_with_displacements), 16, 3))
    program.save(folder / "phono3py_disp.yaml", settings={"force_sets": False})
    numpy.savetxt(folder / "FORCES_FC3", forces.reshape(-1, 3))
    born_file(folder)


@target(phono3py_files)
def phono3py_folder(folder):
    return fit_input(folder)


def collected_files(folder):
    (folder / "nacl").mkdir()
    write(folder / "nacl/one.extxyz", [displaced(1), displaced(2)])
    born_file(folder / "nacl")


@target(collected_files)
def collected_outputs(folder):
    from phonoscreen.reference.collected import CollectedEngine

    crystal, engine = rocksalt()[0], CollectedEngine(folder)
    cell = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    return engine.forces(displaced(1), "nacl/0"), engine.charges(cell, "nacl")


def dfpt_output(folder):
    import ase.test

    recorded = Path(ase.test.__file__).parent / "testdata/vasp/vasprun_dfpt.xml"
    (folder / "vasprun.xml").write_bytes(recorded.read_bytes())


@target(dfpt_output)
def charges_of_vasp(folder):
    from phonoscreen.crystal.constants import Crystal
    from phonoscreen.formats.output_charges import read_charges

    half = 2.72739551
    cell = [[0, half, half], [half, 0, half], [half, half, 0]]
    salt = Atoms("NaCl", cell=cell, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    return read_charges(folder / "vasprun.xml", Crystal.from_ase(salt))
