"""Compounds of phonondb (VASP PBEsol forces of single displaced atoms; A. Togo, CC BY 4.0), here and by phonopy."""

import io
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy
from ase.io.vasp import read_vasp

from phonoscreen.crystal.constants import Crystal, SecondOrder
from phonoscreen.crystal.units import SQUARED_FREQUENCY, to_thz
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.finite_displacements import complete_by_symmetry
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.formats.displacements import DisplacedSupercells, read_force_sets

FILES = ("POSCAR-unitcell", "FORCE_SETS", "phonopy.conf", "BORN")


@dataclass
class Compound:
    """One archive: unit cell, supercell matrix, and the folder its files were unpacked to."""

    unit_cell: Crystal
    matrix: numpy.ndarray
    data: DisplacedSupercells
    folder: Path


def archives(reference):
    """All archives of the reference data, by name."""
    return {path.name.split(".")[0].removeprefix("materials-id-"): path
            for path in sorted((reference / "phonondb" / "force_sets").glob("*.tar.lzma"))}  # fmt: skip


def read_compound(archive, folder):
    """Unpack one archive into a folder and read it."""
    with tarfile.open(archive, "r:xz") as packed:
        for member in packed:
            name = member.name.split("/")[-1]
            if name in FILES:
                (folder / name).write_bytes(packed.extractfile(member).read())
    unit_cell = Crystal.from_ase(read_vasp(io.StringIO((folder / "POSCAR-unitcell").read_text())))
    lines = (folder / "phonopy.conf").read_text().splitlines()
    words = next(line for line in lines if line.strip().startswith("DIM")).split("=")[1].split()
    matrix = numpy.array([int(word) for word in words])
    matrix = numpy.diag(matrix) if len(matrix) == 3 else matrix.reshape(3, 3)
    return Compound(unit_cell, matrix, read_force_sets(folder / "FORCE_SETS", unit_cell, matrix), folder)


def fit_compound(data, completed=True) -> SecondOrder:
    """Second-order force constants through the study's own fit, of the completed displacements or of those given."""
    moves, forces = data.displacements, data.forces
    if completed:
        moves, forces = complete_by_symmetry(data.crystal, data.repetitions, moves, forces)
    basis = build_basis(data.crystal, data.repetitions, (None,))
    fitted = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False)).fit(data.crystal, moves, forces)
    return basis.expand_second(fitted.parameters)


def phonopy_of_compound(compound, calculator=None, born=False):
    """The same by phonopy: its default (finite differences and symmetry projector) or symfc's least squares."""
    from phonopy import Phonopy
    from phonopy.file_IO import parse_BORN, parse_FORCE_SETS
    from phonopy.structure.atoms import PhonopyAtoms

    cell = compound.unit_cell
    unit = PhonopyAtoms(
        cell=cell.cell, scaled_positions=cell.scaled_positions, numbers=cell.numbers, masses=cell.masses
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        phonon = Phonopy(unit, supercell_matrix=compound.matrix, primitive_matrix="auto", log_level=0)
        phonon.dataset = parse_FORCE_SETS(filename=str(compound.folder / "FORCE_SETS"))
        phonon.produce_force_constants(fc_calculator=calculator)
        if calculator is None:
            phonon.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
    if born:
        charges = parse_BORN(phonon.primitive, filename=str(compound.folder / "BORN"))
        phonon.nac_params = {**charges, "factor": 14.399652}  # the files lack it; in angstrom and eV
    return phonon


def their_points(qpoints, crystal, phonon):
    """Wave vectors of our primitive cell in units of phonopy's."""
    return numpy.asarray(qpoints) @ numpy.linalg.inv(crystal.cell).T @ phonon.primitive.cell.T


def of_today(frequencies):
    """Phonopy's frequencies with the present constants of nature: its own are of 1986, 1.2e-7 lower."""
    from phonopy.physical_units import get_physical_units

    return frequencies * to_thz(numpy.sqrt(SQUARED_FREQUENCY)) / get_physical_units().DefaultToTHz


def in_phonopys_phase(crystal, matrices, q):
    """Dynamical matrices (n_q, 3n, 3n) with the atoms' positions in the phase, in phonopy's unit eV/angstrom^2/u."""
    tau = numpy.repeat(crystal.scaled_positions, 3, axis=0)
    phase = numpy.einsum("qx,ijx->qij", q, tau[None, :] - tau[:, None])
    return matrices * numpy.exp(2j * numpy.pi * phase) / SQUARED_FREQUENCY
