"""Compounds of phonondb (VASP PBEsol forces of single displaced atoms; A. Togo, CC BY 4.0)."""

import io
import tarfile

import numpy
from ase.io.vasp import read_vasp

from phonoscreen.io.phonopy import read_force_sets
from phonoscreen.lattice.basis import build_basis
from phonoscreen.lattice.constants import Crystal
from phonoscreen.lattice.fit import ForceConstantFitter


def read_compound(archive, folder):
    """Unpack one archive; return crystal, repetitions, displacements, forces and the path of FORCE_SETS."""
    with tarfile.open(archive, "r:xz") as packed:
        texts = {
            member.name.split("/")[-1]: packed.extractfile(member).read().decode()
            for member in packed
            if member.name.split("/")[-1] in ("POSCAR-unitcell", "FORCE_SETS", "phonopy.conf")
        }
    (folder / "FORCE_SETS").write_text(texts["FORCE_SETS"])
    crystal = Crystal.from_ase(read_vasp(io.StringIO(texts["POSCAR-unitcell"])))
    dim = next(line for line in texts["phonopy.conf"].splitlines() if line.strip().startswith("DIM"))
    words = [int(x) for x in dim.split("=")[1].split()]
    matrix = numpy.diag(words) if len(words) == 3 else numpy.array(words).reshape(3, 3)
    assert numpy.array_equal(matrix, numpy.diag(matrix.diagonal()))
    repetitions = tuple(int(n) for n in matrix.diagonal())
    displacements, forces = read_force_sets(folder / "FORCE_SETS", len(crystal.numbers), repetitions)
    return crystal, repetitions, displacements, forces


def fit_compound(crystal, repetitions, displacements, forces):
    """Second-order force constants through the study's own fit."""
    basis = build_basis(crystal, repetitions, (None,))
    fitted = ForceConstantFitter(basis, rotational_sum_rules=False).fit(crystal, displacements, forces)
    return basis.expand_second(fitted.parameters)


def phonopy_of_compound(crystal, repetitions, force_sets, calculator=None):
    """The same by phonopy's own solver, with its symmetrisation."""
    from phonopy import Phonopy
    from phonopy.file_IO import parse_FORCE_SETS
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(
        cell=crystal.cell, scaled_positions=crystal.scaled_positions, numbers=crystal.numbers, masses=crystal.masses
    )
    phonon = Phonopy(unit, supercell_matrix=numpy.diag(repetitions), primitive_matrix=numpy.eye(3))
    phonon.dataset = parse_FORCE_SETS(filename=str(force_sets))
    phonon.produce_force_constants(fc_calculator=calculator)
    if calculator is None:
        phonon.symmetrize_force_constants()
    return phonon
