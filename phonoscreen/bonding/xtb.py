"""GFN1-xTB through tblite: a valence tight binding of seconds per structure, from wheels alone.

Grimme, Bannwarth and Shushkov, J. Chem. Theory Comput. 13, 1989 (2017). tblite samples the Gamma point only, so the
primitive cell is repeated and its bands are taken back to the k-points that the supercell folds on Gamma.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from ase import Atoms
from ase.units import Bohr, Hartree

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.orbitals import Bands

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal

# Angular momenta of the occupied valence shells, by group of the periodic table; GFN1's further shells polarise only.
VALENCE = {
    **dict.fromkeys((1, 2, 12), (0,)),
    **dict.fromkeys(range(3, 12), (0, 2)),
    **dict.fromkeys(range(13, 18), (0, 1)),
}


def solve_xtb(crystal: Crystal, *, min_length_angstrom: float = 10.0) -> Bands:
    """Return the GFN1-xTB bands of a crystal.

    Parameters
    ----------
    crystal : ``cell`` (3, 3) angstrom, ``scaled_positions`` (n_atoms, 3), ``numbers`` (n_atoms,)
    min_length_angstrom : every vector of the repeated cell is at least as long

    Returns
    -------
    Bands

    Raises
    ------
    StudyError
        If the self-consistent charges do not converge or an element has no parameters.
    """
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    mesh = tuple(int(numpy.ceil(min_length_angstrom / length - 1e-6)) for length in lengths)
    n_cells = int(numpy.prod(mesh))
    primitive = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    supercell = primitive.repeat(mesh)
    try:
        calculator = Calculator(
            "GFN1-xTB", supercell.numbers, supercell.positions / Bohr, lattice=numpy.array(supercell.cell) / Bohr
        )
        calculator.set("verbosity", 0)
        calculator.set("save-integrals", 1)
        result = calculator.singlepoint()
    except TBLiteRuntimeError as error:
        raise StudyError(f"GFN1-xTB: {error}", fix="take another engine (bonding.engine) for this structure") from None
    overlap = result.get("overlap-matrix")
    energies = result.get("orbital-energies") * Hartree
    coefficients = result.get("orbital-coefficients")
    weighted = overlap @ coefficients
    hamiltonian = (weighted * energies) @ weighted.T  # the converged one; tblite's own matrix is the core part
    shell_of, atom_of = numpy.array(calculator.get("orbital-map")), numpy.array(calculator.get("shell-map"))
    momenta = numpy.array(calculator.get("angular-momenta"))
    n_basis = len(shell_of) // n_cells
    minimal = _minimal_functions(crystal.numbers, shell_of[:n_basis], atom_of, momenta)
    grid = numpy.stack(numpy.meshgrid(*[numpy.arange(n) for n in mesh], indexing="ij"), axis=-1).reshape(-1, 3)
    kpoints = grid / mesh
    phases = numpy.exp(2j * numpy.pi * kpoints @ grid.T)
    at_k = []
    for matrix in (hamiltonian, overlap):
        from_origin = matrix[:n_basis].reshape(n_basis, n_cells, n_basis).transpose(1, 0, 2)
        at_k.append((phases @ from_origin.reshape(n_cells, -1)).reshape(n_cells, n_basis, n_basis))
    energies_k, vectors_k = _generalised_eigen(*at_k)
    return Bands(
        crystal.cell, crystal.scaled_positions, crystal.numbers, mesh, kpoints, energies_k[None], vectors_k[None],
        at_k[1], atom_of[shell_of[:n_basis]], minimal, minimal, _valence_electrons(crystal.numbers),
    )  # fmt: skip


def _valence_electrons(numbers):
    """Return the electrons that GFN1 treats of each neutral atom: s and p of its group, d of the groups 3 to 11."""
    from pymatgen.core import Element

    groups = numpy.array([Element.from_Z(int(number)).group for number in numbers])
    return (
        numpy.where(groups < 12, groups, numpy.where(groups == 18, numpy.where(numbers == 2, 2, 8), groups - 10)) * 1.0
    )


def _minimal_functions(numbers, shell_of, atom_of, momenta):
    """Mark the functions of the occupied valence shells: the first shell of each angular momentum that counts."""
    from pymatgen.core import Element

    minimal = numpy.zeros(len(shell_of), bool)
    for atom, number in enumerate(numbers):
        wanted = VALENCE[Element.from_Z(int(number)).group]
        shells = numpy.flatnonzero(atom_of == atom)
        for momentum in wanted:
            first = [shell for shell in shells if momenta[shell] == momentum][:1]
            minimal |= numpy.isin(shell_of, first)
    return minimal


def _generalised_eigen(hamiltonian, overlap):
    values, vectors = numpy.linalg.eigh(overlap)
    if values.min() < 1e-8:
        raise StudyError(f"linearly dependent basis: smallest eigenvalue of the overlap {values.min():.1e}")
    root = vectors / numpy.sqrt(values)[:, None]
    energies, rotated = numpy.linalg.eigh(root.conj().transpose(0, 2, 1) @ hamiltonian @ root)
    return energies, root @ rotated
