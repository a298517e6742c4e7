"""PBE in a basis of atomic orbitals through GPAW (Larsen et al., Phys. Rev. B 80, 195112 (2009)).

GPAW is compiled on installation; envs/gpaw_siteconfig.py needs a C compiler and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from ase import Atoms
from ase.units import Hartree

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.bonding.orbitals import Bands

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal

GRID_SPACING_ANGSTROM = 0.2
FERMI_WIDTH_EV = 0.05
BASIS = {"default": "dzp", **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs"), "sz(dzp)")}  # dzp of alkalis is over-complete


def solve_lcao(crystal: Crystal, *, min_length_angstrom: float = 12.0) -> Bands:
    """Return the PBE bands of a crystal: double-zeta polarised, alkali metals single-zeta.

    The density is converged on the irreducible k-points, the bands are then taken on the whole mesh. The minimal basis
    are GPAW's single-zeta functions of the shells that hold electrons in the free atom and of its outermost s shell.

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
        If GPAW has no data for an element, or does not converge.
    MachineError
        If GPAW cannot be imported.
    """
    try:
        from gpaw import GPAW, ConvergenceError, FermiDirac
    except ImportError as error:
        raise MachineError(
            f"GPAW cannot be imported: {error}", where="config bonding.engine",
            fix="`make` installs it where there is a C compiler; or set bonding.engine",
        ) from error  # fmt: skip
    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    mesh = tuple(int(numpy.ceil(min_length_angstrom / length - 1e-6)) for length in lengths)
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms.calc = GPAW(
        mode="lcao",
        basis=BASIS,
        xc="PBE",
        h=GRID_SPACING_ANGSTROM,
        kpts={"size": mesh, "gamma": True},
        nbands="nao",
        occupations=FermiDirac(FERMI_WIDTH_EV),
        convergence={"energy": 1e-3, "density": 1e-3},
        maxiter=100,
        txt=None,
    )
    try:
        atoms.get_potential_energy()
        whole_mesh = atoms.calc.fixed_density(symmetry={"point_group": False}, txt=None)
        whole_mesh.dft.converge()
    except (ConvergenceError, numpy.linalg.LinAlgError, FileNotFoundError) as error:
        raise StudyError(
            f"GPAW: {type(error).__name__}: {error}", fix="take another engine (bonding.engine) for this structure"
        ) from None
    solution: dict[str, list] = {"kpoints": [], "energies_ev": [], "coefficients": [], "overlap": []}
    for state in whole_mesh.dft.ibzwfs:
        overlap = numpy.tril(state.S_MM.data) + numpy.tril(state.S_MM.data, -1).conj().T
        found = [numpy.array(state.kpt_c), state.eig_n * Hartree, state.C_nM.data.T.copy(), overlap]
        both = [found, [-found[0], found[1], *map(numpy.conj, found[2:])]]  # time reversal
        its_own_partner = numpy.allclose(2 * found[0], numpy.round(2 * found[0]))
        for values in both[:1] if its_own_partner else both:
            for name, value in zip(solution, values, strict=True):
                solution[name].append(value)
    functions = [(atom, orbital.l) for atom, setup in enumerate(state.setups) for orbital in setup.basis.bf_j]
    sizes = [2 * momentum + 1 for _, momentum in functions]
    minimal = [chosen for setup in state.setups for chosen in _minimal_functions(setup)]
    return Bands(
        crystal.cell, crystal.scaled_positions, crystal.numbers, mesh,
        atoms=numpy.repeat([atom for atom, _ in functions], sizes),
        minimal=numpy.repeat(minimal, sizes),
        n_electrons=float(atoms.calc.get_number_of_electrons()),
        **{name: numpy.array(values) for name, values in solution.items()},
    )  # fmt: skip


def _minimal_functions(setup):
    """Mark the basis functions of one atom that belong to the minimal basis.

    The i-th single-zeta function of an angular momentum belongs to the i-th shell of it in the PAW data set.
    """
    from gpaw.setup_data import SetupData

    data = SetupData(setup.symbol, "PBE")
    shells = sorted(shell for shell in zip(data.n_j, data.l_j, data.f_j, strict=True) if shell[0] > 0)
    outermost_s = max(n for n, momentum, _ in shells if momentum == 0)
    wanted: dict[int, list] = {}
    for n, momentum, electrons in shells:
        wanted.setdefault(momentum, []).append(electrons > 0 or (momentum == 0 and n == outermost_s))
    chosen = []
    for orbital in setup.basis.bf_j:
        single_zeta = "-sz" in orbital.type or orbital.type == "bound state"
        chosen.append(bool(single_zeta and wanted.get(orbital.l) and wanted[orbital.l].pop(0)))
    return chosen
