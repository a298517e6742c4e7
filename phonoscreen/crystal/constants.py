"""Crystals and force constants as every stage hands them on."""

from dataclasses import dataclass

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.crystal.supercell import translation_table


@dataclass
class Crystal:
    """A primitive cell.

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom
    scaled_positions : (n_atoms, 3) fractional coordinates
    numbers : (n_atoms,) atomic numbers
    masses : (n_atoms,) atomic masses, u
    """

    cell: numpy.ndarray
    scaled_positions: numpy.ndarray
    numbers: numpy.ndarray
    masses: numpy.ndarray

    @classmethod
    def from_ase(cls, atoms: Atoms) -> "Crystal":
        """Return the crystal of an ``ase.Atoms`` object (standard atomic masses unless set there)."""
        from phonoscreen.crystal.masses import standard_masses

        masses = atoms.get_masses() if atoms.has("masses") else standard_masses(atoms.numbers)
        return cls(numpy.array(atoms.cell), atoms.get_scaled_positions(wrap=False), atoms.numbers.copy(), masses)

    @property
    def volume(self) -> float:
        """Volume of the cell, cubic angstrom."""
        return abs(numpy.linalg.det(self.cell))


@dataclass
class SecondOrder:
    """Second-order force constants between one primitive cell and a diagonal supercell.

    The supercell atom with index ``((m0 * n1 + m1) * n2 + m2) * n_atoms + j`` is atom ``j`` of the primitive cell
    translated by ``m0 a0 + m1 a1 + m2 a2`` (the order of ``ase.Atoms.repeat``).

    Parameters
    ----------
    repetitions : (3,) integers n0, n1, n2
    values : (n_atoms, n_supercell_atoms, 3, 3), eV/angstrom^2; first index the atoms of cell (0, 0, 0)
    """

    repetitions: tuple
    values: numpy.ndarray


@dataclass
class ThirdOrder:
    """Third-order force constants as a list of atom triplets; every permutation is listed.

    Parameters
    ----------
    atoms : (n_triplets, 3) indices into the primitive cell
    cells : (n_triplets, 2, 3) integer lattice vectors of the second and third atom (the first is in cell 0)
    values : (n_triplets, 3, 3, 3), eV/angstrom^3
    """

    atoms: numpy.ndarray
    cells: numpy.ndarray
    values: numpy.ndarray


def full_second_order(second_order: SecondOrder) -> NDArray:
    """Force constants between all atoms of the supercell.

    Returns
    -------
    (n_supercell_atoms, n_supercell_atoms, 3, 3), eV/angstrom^2
    """
    values, repetitions = second_order.values, second_order.repetitions
    n_atoms, n_super = values.shape[:2]
    table = translation_table(n_atoms, repetitions)
    full = numpy.empty((n_super, n_super, 3, 3))
    for m, moved in enumerate(table):
        full[m * n_atoms : (m + 1) * n_atoms][:, moved] = values
    return full
