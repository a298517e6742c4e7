"""Crystal orbital Hamilton populations and the two descriptors taken from them.

COHP of the pair of atom A in cell 0 and atom B in cell R (Dronskowski and Bloechl, J. Phys. Chem. 97, 8617 (1993)):

    COHP(E) = 2 sum_{mu in A, nu in B} H_mu,nu(R) (1/N_k) sum_kn Re[c*_mu c_nu exp(2 pi i k.R)] delta(E - e_kn)

in eV per eV, both spins counted, each pair in one direction only, as LOBSTER lists it: the band energy is the on-site
part plus the sum of ICOHP over both directions. Negative COHP is bonding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from phonoscreen.bonding.orbitals import OrbitalHamiltonian

BROADENING_EV = 0.2  # Gaussian standard deviation of levels and of the Fermi edge
STEP_EV = 0.05
SAME_DISTANCE_ANGSTROM = 0.01  # pairs of the same elements closer in length than this are one type of bond


@dataclass
class Cohp:
    """COHP of every pair of atoms up to a distance.

    Parameters
    ----------
    energies_ev : (n_energies,) relative to the Fermi level
    symbols : (n_pairs, 2) chemical symbols
    atoms : (n_pairs, 2) indices into the primitive cell, first <= second
    translations : (n_pairs, 3) integer lattice vector of the second atom
    distances_angstrom : (n_pairs,)
    curves : (n_pairs, n_energies) COHP, 1/eV times eV, both spins
    icohp_ev : (n_pairs,) integral up to the Fermi level, both spins
    below_ev : (n_pairs,) part of it from states below the first energy (not zero where a LOBSTER window cuts them off)
    """

    energies_ev: numpy.ndarray
    symbols: numpy.ndarray
    atoms: numpy.ndarray
    translations: numpy.ndarray
    distances_angstrom: numpy.ndarray
    curves: numpy.ndarray
    icohp_ev: numpy.ndarray
    below_ev: numpy.ndarray

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
    hamiltonian: OrbitalHamiltonian, *, cutoff_angstrom: float = 6.0, mesh_density_angstrom: float = 40.0
) -> Cohp:
    """COHP of every pair up to a distance.

    Parameters
    ----------
    hamiltonian : OrbitalHamiltonian
    cutoff_angstrom : largest distance of a pair
    mesh_density_angstrom : number of k-points along an axis times the length of its lattice vector

    Returns
    -------
    Cohp

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
    kpoints, weights = half_mesh(hamiltonian.cell, mesh_density_angstrom)
    energies, vectors = numpy.linalg.eigh(hamiltonian.at(kpoints))
    fermi = fermi_level(energies, weights, hamiltonian.n_electrons)
    symbols = numpy.array(Atoms(hamiltonian.numbers).get_chemical_symbols())
    grid = _energy_grid(energies - fermi)
    result = Cohp(
        energies_ev=grid,
        symbols=symbols[atoms],
        atoms=atoms,
        translations=translations,
        distances_angstrom=distances,
        curves=numpy.zeros((len(atoms), len(grid))),
        icohp_ev=numpy.zeros(len(atoms)),
        below_ev=numpy.zeros(len(atoms)),
    )
    occupations = erfc((energies - fermi) / (numpy.sqrt(2) * BROADENING_EV)) / 2
    smear = _Smear(result.energies_ev, energies - fermi)
    row_of = {tuple(cell): row for row, cell in enumerate(hamiltonian.cells)}
    for _, _, members in result.bond_types():
        block = numpy.zeros((len(kpoints), *hamiltonian.values.shape[1:]), complex)
        for pair in members:
            row = row_of.get(tuple(translations[pair]))
            if row is None:
                continue
            here, there = (numpy.flatnonzero(hamiltonian.atoms == atom) for atom in atoms[pair])
            corner = numpy.ix_(numpy.arange(len(kpoints)), here, there)
            phase = numpy.exp(2j * numpy.pi * kpoints @ translations[pair])
            block[corner] += phase[:, None, None] * hamiltonian.values[row][numpy.ix_(here, there)]
        share = numpy.einsum("kmn,kmn->kn", vectors.conj(), block @ vectors).real
        share *= 2 * weights[:, None] / len(members)
        result.curves[members] = smear(share)
        result.icohp_ev[members] = (share * occupations).sum()
    return result


def half_mesh(cell: NDArray, density_angstrom: float) -> tuple[NDArray, NDArray]:
    """Return the Gamma-centred mesh without the -k partners: (n_k, 3) fractional, (n_k,) weights with sum 1."""
    lengths = numpy.linalg.norm(cell, axis=1)
    mesh = [max(1, int(numpy.ceil(density_angstrom / length))) for length in lengths]
    grid = numpy.stack(numpy.meshgrid(*[numpy.arange(n) for n in mesh], indexing="ij"), axis=-1).reshape(-1, 3)
    index = numpy.arange(len(grid))
    partner = numpy.ravel_multi_index(tuple(((-grid) % mesh).T), mesh)
    chosen = index <= partner
    weights = numpy.where(partner == index, 1.0, 2.0)[chosen] / len(grid)
    return grid[chosen] / mesh, weights


def fermi_level(energies_ev: NDArray, weights: NDArray, n_electrons: float) -> float:
    """Return the level below which Gaussian-broadened bands hold the electrons, eV; mid-gap in an insulator."""
    low, high = energies_ev.min() - 10, energies_ev.max() + 10
    bounds = []
    for target in (n_electrons - 1e-6, n_electrons + 1e-6):
        below, above = low, high
        for _ in range(80):
            middle = (below + above) / 2
            held = (weights[:, None] * erfc((energies_ev - middle) / (numpy.sqrt(2) * BROADENING_EV))).sum()
            below, above = (middle, above) if held < target else (below, middle)
        bounds.append(below)
    return sum(bounds) / 2


def _energy_grid(levels):
    low = numpy.floor((levels.min() - 6 * BROADENING_EV) / STEP_EV)
    high = numpy.ceil((levels.max() + 6 * BROADENING_EV) / STEP_EV)
    return numpy.arange(low, high + 1) * STEP_EV


class _Smear:
    """Sum of Gaussians of given weights at fixed levels, on a grid (levels shared between the two nearest points)."""

    def __init__(self, grid, levels):
        place = (levels - grid[0]) / STEP_EV
        self.left = numpy.floor(place).astype(int)
        self.right_share = place - self.left
        self.n = len(grid)
        reach = numpy.arange(-int(6 * BROADENING_EV / STEP_EV), int(6 * BROADENING_EV / STEP_EV) + 1) * STEP_EV
        kernel = numpy.exp(-(reach**2) / (2 * BROADENING_EV**2))
        self.kernel = kernel / kernel.sum() / STEP_EV

    def __call__(self, weights):
        counts = numpy.bincount(
            self.left.ravel(), weights=(weights * (1 - self.right_share)).ravel(), minlength=self.n
        ) + numpy.bincount(self.left.ravel() + 1, weights=(weights * self.right_share).ravel(), minlength=self.n)
        return numpy.convolve(counts[: self.n], self.kernel, mode="same")


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


def bonding_and_antibonding(cohp: Cohp) -> tuple[float, float]:
    """Return the two descriptors of a structure, eV per pair, both positive.

    Rodriguez et al., Commun. Mater. 4, 61 (2023), Fig. 5: each pair's COHP is integrated up to the Fermi level over
    its bonding (COHP < 0) and its antibonding (COHP > 0) energies separately; each is averaged over the pairs.

    Parameters
    ----------
    cohp : Cohp
        What lies below its energies counts with the sign of its net value.

    Returns
    -------
    bonding, antibonding : bonding - antibonding = -(mean ICOHP)

    Raises
    ------
    StudyError
        If a value is not finite or the energies do not enclose the Fermi level.
    """
    if not numpy.isfinite(cohp.curves).all():
        raise StudyError("COHP with values that are not finite")
    bonding = -integrate_to_fermi(cohp.energies_ev, numpy.minimum(cohp.curves, 0)) - numpy.minimum(cohp.below_ev, 0)
    antibonding = integrate_to_fermi(cohp.energies_ev, numpy.maximum(cohp.curves, 0)) + numpy.maximum(cohp.below_ev, 0)
    return float(bonding.mean()), float(antibonding.mean())
