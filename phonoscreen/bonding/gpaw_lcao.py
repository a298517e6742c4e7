"""PBE in a basis of atomic orbitals through GPAW (Larsen et al., Phys. Rev. B 80, 195112 (2009)).

GPAW is compiled on installation; envs/gpaw_siteconfig.py needs a C compiler and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
from ase import Atoms
from ase.data import chemical_symbols
from ase.units import Hartree

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.bonding.orbitals import Bands

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal

FUNCTIONAL = "PBE"
GRID_SPACING_ANGSTROM = 0.2
FERMI_WIDTH_EV = 0.05
DENSITY_MESH_ANGSTROM = 12.0  # number of k-points along an axis times the length of its lattice vector
BANDS_MESH_ANGSTROM = 20.0
SMALLEST_MOMENT = 0.05  # Bohr magnetons per cell below which a crystal counts as not magnetic
# Free atoms whose open d or f shell stays open in many crystals; every other element is solved without spin.
MAGNETIC = {"V": 3, "Cr": 4, "Mn": 5, "Fe": 4, "Co": 3, "Ni": 2, "Ce": 1, "Pr": 2, "Nd": 3, "Pm": 4, "Sm": 5, "Eu": 7,
            "Gd": 7, "Tb": 6, "Dy": 5, "Ho": 4, "Er": 3, "Tm": 2, "U": 2}  # fmt: skip


def solve_lcao(crystal: Crystal, *, min_length_angstrom: float = BANDS_MESH_ANGSTROM) -> Bands:
    """Return the PBE bands of a crystal in the basis of ``phonoscreen.bonding.gpaw_basis``.

    The density is converged on the irreducible k-points, the bands are then taken on a whole, denser mesh. Crystals
    with one of the elements of ``MAGNETIC`` are solved with both spins, from parallel moments.

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
    from phonoscreen.bonding.gpaw_basis import basis_of, has_data

    lacking = sorted({chemical_symbols[number] for number in crystal.numbers if not has_data(number)})
    if lacking and not has_data(1):
        raise MachineError("GPAW finds no data sets", where="config bonding.engine", fix="pip install gpaw-data==1.2.1")
    if lacking:
        raise StudyError(
            f"GPAW has no data for {', '.join(lacking)}",
            fix="let LOBSTER do it: bonding.engine lobster, or `phonoscreen bonding STRUCTURE --lobster-inputs FOLDER`",
        )
    atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    symbols = atoms.get_chemical_symbols()
    moments = [MAGNETIC.get(symbol, 0) for symbol in symbols]
    atoms.set_initial_magnetic_moments(moments)
    try:
        atoms.calc = GPAW(
            mode="lcao",
            basis={symbol: basis_of(symbol) for symbol in set(symbols)},
            xc=FUNCTIONAL,
            h=GRID_SPACING_ANGSTROM,
            kpts={"size": _mesh(crystal, min(DENSITY_MESH_ANGSTROM, min_length_angstrom)), "gamma": True},
            nbands="nao",
            spinpol=any(moments),
            occupations=FermiDirac(FERMI_WIDTH_EV),
            convergence={"energy": 1e-3, "density": 1e-3},
            maxiter=100,
            txt=None,
        )
        atoms.get_potential_energy()
        mesh = _mesh(crystal, min_length_angstrom)
        whole_mesh = atoms.calc.fixed_density(
            kpts={"size": mesh, "gamma": True}, symmetry={"point_group": False}, txt=None
        )
        whole_mesh.dft.converge()
    except (ConvergenceError, numpy.linalg.LinAlgError) as error:
        raise StudyError(
            f"GPAW: {type(error).__name__}: {error}", fix="take another engine (bonding.engine) for this structure"
        ) from None
    magnetic = any(moments) and abs(atoms.calc.get_magnetic_moment()) > SMALLEST_MOMENT
    return gather_bands(crystal, mesh, whole_mesh.dft.ibzwfs, spins=(0, 1) if magnetic else (0,))


def _mesh(crystal, density_angstrom):
    from phonoscreen.crystal.mesh import point_group

    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    shape = numpy.maximum(1, numpy.ceil(density_angstrom / lengths - 1e-6).astype(int))
    coupled = (point_group(crystal) != 0).any(axis=0)  # vectors that the symmetry mixes get one number of points
    return tuple(int(shape[(row | column)].max()) for row, column in zip(coupled, coupled.T, strict=True))


def gather_bands(crystal: Crystal, mesh: tuple[int, int, int], states: Any, spins: tuple[int, ...]) -> Bands:
    """Gather the wave functions of a whole mesh; time reversal gives those that GPAW leaves out.

    GPAW takes each atom where it lies inside the cell. An atom given n lattice vectors away from there has the Bloch
    sums exp(2 pi i k.n) times GPAW's: without that factor, bonds would appear between the wrong cells.

    Parameters
    ----------
    crystal : the crystal that was solved
    mesh : numbers of k-points along the reciprocal lattice vectors
    states : GPAW's wave functions in the basis of ``phonoscreen.bonding.gpaw_basis``, without symmetry of the crystal
    spins : those that are wanted; one stands for both
    """
    from phonoscreen.bonding.gpaw_basis import minimal_shells, shells_of_functions

    symbols = [chemical_symbols[number] for number in crystal.numbers]
    sizes, atoms, minimal, extended = [], [], [], []
    for atom, (symbol, setup) in enumerate(zip(symbols, next(iter(states)).setups, strict=True)):
        shells = shells_of_functions(symbol)
        sizes += [2 * orbital.l + 1 for orbital in setup.basis.bf_j]
        atoms += [atom] * len(shells)
        minimal += [shell in minimal_shells(symbol) for shell in shells]
        extended += [shell in minimal_shells(symbol, extended=True) for shell in shells]
    functions = numpy.repeat(atoms, sizes)
    gathered: dict[int, list] = {spin: [] for spin in spins}
    for state in states:
        if state.spin not in gathered:
            continue
        overlap = numpy.tril(state.S_MM.data) + numpy.tril(state.S_MM.data, -1).conj().T
        found = [numpy.array(state.kpt_c), state.eig_n * Hartree, state.C_nM.data.T.copy(), overlap]
        cells_away = numpy.rint(state.relpos_ac - crystal.scaled_positions)[functions]
        if cells_away.any():
            phases = numpy.exp(-2j * numpy.pi * cells_away @ found[0])
            found[2:] = phases[:, None] * found[2], phases[:, None] * overlap * phases.conj()
        gathered[state.spin].append(found)
        if not numpy.allclose(2 * found[0], numpy.round(2 * found[0])):
            gathered[state.spin].append([-found[0], found[1], *map(numpy.conj, found[2:])])
    columns = {spin: [numpy.array(column) for column in zip(*rows, strict=True)] for spin, rows in gathered.items()}
    kpoints, _, _, overlap = columns[spins[0]]
    return Bands(
        crystal.cell, crystal.scaled_positions, crystal.numbers, mesh, kpoints,
        energies_ev=numpy.array([columns[spin][1] for spin in spins]),
        coefficients=numpy.array([columns[spin][2] for spin in spins]),
        overlap=overlap,
        atoms=functions,
        minimal=numpy.repeat(minimal, sizes),
        extended=numpy.repeat(extended, sizes),
        valence_electrons=numpy.array([setup.Nv for setup in state.setups], float),
    )  # fmt: skip
