"""PBE in a double-zeta polarised basis of atomic orbitals through GPAW (Larsen et al., Phys. Rev. B 80, 195112 (2009)).

GPAW is compiled on installation; see docs/bonding.md for a build that needs a C++ compiler and nothing else.
"""

import numpy
from ase import Atoms
from ase.units import Hartree

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.orbitals import Bands

GRID_SPACING_ANGSTROM = 0.2
FERMI_WIDTH_EV = 0.05


def solve_lcao(crystal, *, min_length_angstrom=12.0):
    """Return the PBE bands of a crystal.

    The minimal basis are GPAW's single-zeta functions of the shells that hold electrons in the free atom.

    Parameters
    ----------
    crystal : ``cell`` (3, 3) angstrom, ``scaled_positions`` (n_atoms, 3), ``numbers`` (n_atoms,)
    min_length_angstrom : number of k-points along an axis times the length of its lattice vector is at least as large

    Returns
    -------
    Bands

    Raises
    ------
    StudyError
        If GPAW is not installed or the density does not converge.
    """
    try:
        from gpaw import GPAW, FermiDirac, KohnShamConvergenceError
    except ImportError:
        raise StudyError("GPAW is not installed", fix="install it (docs/bonding.md) or set bonding.engine") from None
    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    mesh = tuple(int(numpy.ceil(min_length_angstrom / length - 1e-6)) for length in lengths)
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms.calc = GPAW(
        mode="lcao",
        basis="dzp",
        xc="PBE",
        h=GRID_SPACING_ANGSTROM,
        kpts={"size": mesh, "gamma": True},
        symmetry={"point_group": False},
        nbands="nao",
        occupations=FermiDirac(FERMI_WIDTH_EV),
        convergence={"energy": 1e-3, "density": 1e-3},
        maxiter=100,
        txt=None,
    )
    try:
        atoms.get_potential_energy()
    except KohnShamConvergenceError as error:
        raise StudyError(f"GPAW: {error}", fix="take another engine (bonding.engine) for this structure") from None
    solution = {"kpoints": [], "energies_ev": [], "coefficients": [], "overlap": []}
    for state in atoms.calc.dft.ibzwfs:
        overlap = numpy.tril(state.S_MM.data) + numpy.tril(state.S_MM.data, -1).conj().T
        found = (state.kpt_c, state.eig_n * Hartree, state.C_nM.data.T.copy(), overlap)
        doubled = 2 * numpy.array(state.kpt_c)
        partner = (
            []
            if numpy.allclose(doubled, numpy.round(doubled))
            else [(-found[0], found[1], *map(numpy.conj, found[2:]))]
        )
        for values in (found, *partner):
            for name, value in zip(solution, values, strict=True):
                solution[name].append(value)
    functions = [(atom, orbital) for atom, setup in enumerate(state.setups) for orbital in setup.basis.bf_j]
    sizes = [2 * orbital.l + 1 for _, orbital in functions]
    shells = [_occupied_shells(int(number)) for number in crystal.numbers]
    minimal = [orbital.type.split(" ")[0] in shells[atom] for atom, orbital in functions]
    return Bands(
        crystal.cell, crystal.scaled_positions, crystal.numbers, mesh,
        atoms=numpy.repeat([atom for atom, _ in functions], sizes),
        minimal=numpy.repeat(minimal, sizes),
        n_electrons=float(atoms.calc.get_number_of_electrons()),
        **{name: numpy.array(values) for name, values in solution.items()},
    )  # fmt: skip


def _occupied_shells(number):
    """Return the names of the single-zeta functions of the shells that hold electrons in the free atom."""
    from ase.data import chemical_symbols
    from gpaw.setup_data import SetupData

    setup = SetupData(chemical_symbols[number], "PBE")
    shells = zip(setup.n_j, setup.l_j, setup.f_j, strict=True)
    return {f"{n}{'spdf'[momentum]}-sz" for n, momentum, electrons in shells if n > 0 and electrons > 0}
