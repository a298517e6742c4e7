"""Crystal orbital Hamilton populations and the descriptors taken from them.

COHP of the pair of atom A in cell 0 and atom B in cell R (Dronskowski and Bloechl, J. Phys. Chem. 97, 8617 (1993)):

    COHP(E) = sum_spins sum_{mu in A, nu in B} H_mu,nu(R) (1/N_k) sum_kn Re[c*_mu c_nu exp(2 pi i k.R)] delta(E - e_kn)

in eV per eV, each pair in one direction only, as LOBSTER lists it: the band energy is the on-site part plus the sum of
ICOHP over both directions. Negative COHP is bonding. The sum over k is that of the linear tetrahedron method: no curve
depends on a broadening.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.relevance import RELEVANT_SHARE
from phonoscreen.bonding.tetrahedra import states_below, tetrahedra_of
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.mesh import automatic_mesh, build_mesh

if TYPE_CHECKING:
    from phonoscreen.bonding.orbitals import OrbitalHamiltonian

STEP_EV = 0.02
KJ_PER_MOL = 96.48533212  # of one eV
HIGHEST_ENERGY_EV = 10.0  # of the curves, above the Fermi level
SAME_DISTANCE_ANGSTROM = 0.01  # pairs of the same elements closer in length than this are one type of bond
SPILLING_MENTIONED = 0.015  # above, a record says that its numbers are uncertain
REMAINDER_SHARE = 0.01  # of the bonding part; a smaller antibonding part is a remainder of terms that cancel
CUT_OFF_SHARE = 0.01  # of the strongest bond, below which what lies outside the energies of the curves is not mentioned


@dataclass
class Cohp:
    """COHP of every pair of atoms up to a distance.

    Parameters
    ----------
    energies_ev : (n_energies,) relative to the Fermi level
    symbols : (n_pairs, 2) chemical symbols
    atoms : (n_pairs, 2) indices into the primitive cell
    translations : (n_pairs, 3) integer lattice vector of the second atom
    distances_angstrom : (n_pairs,)
    curves : (n_pairs, n_energies) COHP, 1/eV times eV, both spins
    icohp_ev : (n_pairs,) integral up to the Fermi level, both spins
    below_ev : (n_pairs,) part of it from states below the first energy (not zero where a LOBSTER window cuts them off)
    spilling : fraction of the occupied bands outside the minimal basis; NaN if unknown
    basis : minimal basis in words, empty if unknown
    warnings : what makes the numbers uncertain, one sentence each
    mulliken, loewdin : (n_atoms,) charges in units of the elementary charge, or None
    """

    energies_ev: numpy.ndarray
    symbols: numpy.ndarray
    atoms: numpy.ndarray
    translations: numpy.ndarray
    distances_angstrom: numpy.ndarray
    curves: numpy.ndarray
    icohp_ev: numpy.ndarray
    below_ev: numpy.ndarray
    spilling: float = float("nan")
    basis: str = ""
    warnings: list[str] = field(default_factory=list)
    mulliken: numpy.ndarray | None = None
    loewdin: numpy.ndarray | None = None

    def all_warnings(self) -> list[str]:
        """Return the warnings, with those on a window that cuts off occupied bands and on small antibonding parts."""
        missing = numpy.abs(self.below_ev).max()
        strongest = numpy.abs(self.icohp_ev).max()
        if missing <= CUT_OFF_SHARE * strongest:
            return [*self.warnings, *_small_remainder(self)]
        return [
            *self.warnings,
            f"the curves begin at {self.energies_ev[0]:.1f} eV, above occupied bands that hold up to "
            f"{missing:.3f} eV of the ICOHP of a bond (the strongest has {strongest:.3f} eV): bonding and antibonding "
            "are lower limits; lower COHPstartEnergy in lobsterin",
        ]

    def bond_types(self) -> list[tuple[str, float, list[int]]]:
        """Return ``[(name, length, indices of its pairs)]``, shortest first; the name as in ``"Cl-Na"``."""
        names = numpy.array(["-".join(sorted(pair)) for pair in self.symbols])
        order = numpy.lexsort((names, numpy.round(self.distances_angstrom, 6)))
        types: list[tuple[str, float, list[int]]] = []
        for name in sorted(set(names)):
            chosen = [i for i in order if names[i] == name]
            for i in chosen:
                length = self.distances_angstrom[i]
                if types and types[-1][0] == name and length - types[-1][1] < SAME_DISTANCE_ANGSTROM:
                    types[-1][2].append(i)
                else:
                    types.append((name, float(length), [i]))
        return sorted(types, key=_length_and_name)


def _small_remainder(cohp):
    """Say it where the antibonding part is what is left of contributions that nearly cancel."""
    if cohp.icohp_ev.min() >= 0:
        return []
    bonding, antibonding = reconstructed_descriptors(cohp)
    if not 0.005 <= antibonding < REMAINDER_SHARE * bonding:
        return []
    return [
        f"the antibonding part of the relevant bonds ({antibonding:.2f} kJ/mol) is {antibonding / bonding:.1%} of the "
        "bonding part, a remainder of contributions that cancel: another minimal basis may double or halve it"
    ]


def _length_and_name(bond_type):
    return round(bond_type[1], 2), bond_type[0]


def pairs_within(
    cell: ArrayLike, scaled_positions: ArrayLike, numbers: ArrayLike, cutoff_angstrom: float
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the pairs of atoms up to a distance as LOBSTER lists them: first <= second, every translation.

    Returns
    -------
    atoms (n_pairs, 2), translations (n_pairs, 3), distances (n_pairs,)
    """
    crystal = Atoms(numbers, cell=cell, scaled_positions=scaled_positions, pbc=True)
    first, second, distance, shift = neighbor_list("ijdS", crystal, cutoff_angstrom)
    once = first <= second
    order = numpy.lexsort((*shift[once].T, second[once], first[once], numpy.round(distance[once], 4)))
    atoms = numpy.column_stack([first[once], second[once]])
    return atoms[order], shift[once][order], distance[once][order]


def cohp_of_pairs(
    hamiltonian: OrbitalHamiltonian, *, cutoff_angstrom: float = 6.0, mesh_density_angstrom: float = 80.0
) -> Cohp:
    """COHP of every pair up to a distance.

    Parameters
    ----------
    hamiltonian : OrbitalHamiltonian
    cutoff_angstrom : largest distance of a pair
    mesh_density_angstrom : number of k-points along an axis times the length of its lattice vector

    Returns
    -------
    Cohp, pairs of one type (``Cohp.bond_types``) with the mean of their type: symmetry makes them equal

    Raises
    ------
    StudyError
        If no pair lies within the cutoff.
    """
    atoms, translations, distances = pairs_within(
        hamiltonian.cell, hamiltonian.scaled_positions, hamiltonian.numbers, cutoff_angstrom
    )
    if not len(atoms):
        raise StudyError(f"no pair of atoms within {cutoff_angstrom} A", fix="raise the cutoff of the pairs")
    symbols = numpy.array(Atoms(hamiltonian.numbers).get_chemical_symbols())
    result = Cohp(
        energies_ev=numpy.zeros(1),
        symbols=symbols[atoms],
        atoms=atoms,
        translations=translations,
        distances_angstrom=distances,
        curves=numpy.zeros((len(atoms), 1)),
        icohp_ev=numpy.zeros(len(atoms)),
        below_ev=numpy.zeros(len(atoms)),
        spilling=hamiltonian.spilling,
        mulliken=hamiltonian.mulliken,
        loewdin=hamiltonian.loewdin,
    )
    types = [members for _, _, members in result.bond_types()]
    crystal = Crystal(
        hamiltonian.cell, hamiltonian.scaled_positions, hamiltonian.numbers, numpy.ones(len(hamiltonian.numbers))
    )
    mesh = build_mesh(crystal, automatic_mesh(crystal, mesh_density_angstrom))
    kpoints = mesh.fractional[mesh.irreducible]
    energies, vectors = numpy.linalg.eigh(hamiltonian.at(kpoints))
    corners, weights = tetrahedra_of(mesh)
    fermi = fermi_of_tetrahedra(energies, corners, weights, hamiltonian.n_electrons)
    grid = _energy_grid(energies - fermi)
    edges = numpy.append(grid - STEP_EV / 2, grid[-1] + STEP_EV / 2)
    degeneracy = 2 / len(energies)
    curves, strengths = numpy.zeros((len(types), len(grid))), numpy.zeros(len(types))
    for spin, (levels, states) in enumerate(zip(energies - fermi, vectors, strict=True)):
        shares = degeneracy * _shares_of_types(hamiltonian, spin, result, types, kpoints, states)
        curves += numpy.diff(states_below(levels, shares, corners, weights, edges), axis=0).T / STEP_EV
        strengths += states_below(levels, shares, corners, weights, numpy.zeros(1))[0]
    result.energies_ev, result.curves = grid, numpy.zeros((len(atoms), len(grid)))
    for members, curve, strength in zip(types, curves, strengths, strict=True):
        result.curves[members], result.icohp_ev[members] = curve, strength
    return result


def _shares_of_types(hamiltonian, spin, pairs, types, kpoints, states):
    """Return (n_k, n_bands, n_types): each type's mean contribution to the energy of each band."""
    row_of = {tuple(cell): row for row, cell in enumerate(hamiltonian.cells)}
    orbitals = [numpy.flatnonzero(hamiltonian.atoms == atom) for atom in range(len(hamiltonian.numbers))]
    shares = numpy.zeros((*states.shape[::2], len(types)))
    for number, members in enumerate(types):
        for pair in members:
            row = row_of.get(tuple(pairs.translations[pair]))
            if row is None:  # farther than the engine's mesh of k-points reaches
                continue
            here, there = (orbitals[atom] for atom in pairs.atoms[pair])
            block = hamiltonian.values[spin, row][numpy.ix_(here, there)]
            overlap = (states[:, here].conj() * (block @ states[:, there])).sum(axis=1)
            phase = numpy.exp(2j * numpy.pi * kpoints @ pairs.translations[pair])
            shares[:, :, number] += (phase[:, None] * overlap).real / len(members)
    return shares


def fermi_of_tetrahedra(energies_ev: NDArray, corners: NDArray, weights: NDArray, n_electrons: float) -> float:
    """Return the Fermi level, eV; mid-gap in an insulator.

    Parameters
    ----------
    energies_ev : (n_spins, n_k, n_bands); one spin stands for both
    corners, weights : of ``tetrahedra_of``
    n_electrons : electrons of both spins
    """
    degeneracy = 2 / len(energies_ev)
    every = numpy.concatenate(list(energies_ev), axis=1)
    ones = numpy.ones((*every.shape, 1))
    tops, bottoms = numpy.sort(every.max(axis=0)), numpy.sort(every.min(axis=0))
    n_bands = n_electrons / degeneracy
    filled = round(n_bands)
    if abs(n_bands - filled) < 1e-6 and 0 < filled < len(tops) and tops[filled - 1] < bottoms[filled]:
        return float(tops[filled - 1] + bottoms[filled]) / 2
    low, high = every.min(), every.max()
    while high - low > 1e-7:
        limits = numpy.linspace(low, high, 41)
        held = degeneracy * states_below(every, ones, corners, weights, limits)[:, 0]
        above = int(numpy.clip(numpy.searchsorted(held, n_electrons), 1, 40))
        low, high = limits[above - 1], limits[above]
    return float(low + high) / 2


def _energy_grid(levels):
    low = numpy.floor(levels.min() / STEP_EV) - 2
    high = numpy.ceil(min(levels.max(), HIGHEST_ENERGY_EV) / STEP_EV) + 2
    return numpy.arange(low, high + 1) * STEP_EV


def integrate_to_fermi(energies_ev: NDArray, curves: NDArray) -> NDArray:
    """Return the integral of curves over the energies up to zero (trapezoid; zero itself interpolated).

    Parameters
    ----------
    energies_ev : (n_energies,) rising, relative to the Fermi level
    curves : (..., n_energies)
    """
    if energies_ev[0] >= 0 or energies_ev[-1] < 0:
        raise StudyError(f"energies {energies_ev[0]:g} to {energies_ev[-1]:g} eV do not enclose the Fermi level")
    below = energies_ev < 0
    last = below.sum()
    share = -energies_ev[last - 1] / (energies_ev[last] - energies_ev[last - 1])
    at_fermi = curves[..., last - 1] + share * (curves[..., last] - curves[..., last - 1])
    values = numpy.concatenate([curves[..., below], at_fermi[..., None]], axis=-1)
    return numpy.trapezoid(values, numpy.append(energies_ev[below], 0.0), axis=-1)


def parts_of_bonds(cohp: Cohp) -> tuple[NDArray, NDArray]:
    """Return the bonding and the antibonding part of each pair's ICOHP, (n_pairs,), eV, both positive.

    Each pair's COHP is integrated up to the Fermi level over its bonding (COHP < 0) and its antibonding (COHP > 0)
    energies separately. What lies below the energies of the curves counts with the sign of its net value.

    Raises
    ------
    StudyError
        If a value is not finite or the energies do not enclose the Fermi level.
    """
    if not numpy.isfinite(cohp.curves).all():
        raise StudyError("COHP with values that are not finite")
    bonding = -integrate_to_fermi(cohp.energies_ev, numpy.minimum(cohp.curves, 0)) - numpy.minimum(cohp.below_ev, 0)
    antibonding = integrate_to_fermi(cohp.energies_ev, numpy.maximum(cohp.curves, 0)) + numpy.maximum(cohp.below_ev, 0)
    return bonding, antibonding


def bonding_and_antibonding(cohp: Cohp) -> tuple[float, float]:
    """Return the two descriptors of a structure averaged over all its pairs, eV per pair, both positive.

    Rodriguez et al., Commun. Mater. 4, 61 (2023), Fig. 5, which pairs are averaged is not stated there.

    Returns
    -------
    bonding, antibonding : bonding - antibonding = -(mean ICOHP)

    Raises
    ------
    StudyError
        As ``parts_of_bonds``.
    """
    bonding, antibonding = parts_of_bonds(cohp)
    return float(bonding.mean()), float(antibonding.mean())


def relevant_bonds(cohp: Cohp) -> NDArray:
    """Return (n_pairs,) bool: bonds with at least a tenth of the strongest ICOHP."""
    return cohp.icohp_ev <= RELEVANT_SHARE * cohp.icohp_ev.min()


def reconstructed_descriptors(cohp: Cohp) -> tuple[float, float]:
    """Return the two descriptors averaged over the relevant bonds, kJ/mol, both positive.

    A reconstruction: the paper's axes carry no unit and reach 200 and 1, which no energy in eV per pair does. Of the
    definitions that were tried on outputs of LOBSTER this is the one in which both of its limits divide
    (docs/bonding.md).

    Returns
    -------
    bonding, antibonding : kJ/mol per relevant bond

    Raises
    ------
    StudyError
        As ``parts_of_bonds``, or if no bond is bonding.
    """
    if cohp.icohp_ev.min() >= 0:
        raise StudyError("no bond with negative ICOHP: there is nothing to average over")
    chosen = relevant_bonds(cohp)
    bonding, antibonding = parts_of_bonds(cohp)
    return float(bonding[chosen].mean()) * KJ_PER_MOL, float(antibonding[chosen].mean()) * KJ_PER_MOL
