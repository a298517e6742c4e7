"""Electronic structure in an orthonormal minimal basis: the common ground of all engines.

An engine solves the electrons in whatever basis it has; COHP is defined in a minimal basis of atomic orbitals. The
bands are projected on that basis and orthonormalised as LOBSTER does: Maintz et al., J. Comput. Chem. 34, 2557
(2013), and 37, 1030 (2016). Bloch sums carry lattice vectors: phi_k(r) = sum_R exp(2 pi i k.R) phi(r - R).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc

from phonoscreen.audit.errors import StudyError

SMALLEST_OVERLAP = 1e-6  # eigenvalue of the overlap of the minimal basis below which it counts as linearly dependent
SMALLEST_PART = 1e-3  # the same for the occupied bands inside the minimal basis
NO_PART = 1e-8  # of an empty band, squared, below which LOBSTER's choice of it is undefined
DECAY_EV = 2.0  # how fast empty bands lose weight with their height above the occupied ones
WIDTH_EV = 0.1  # Gaussian width of the occupations on the engine's own mesh, for charges and spilling


class MissingSymmetry(StudyError):
    """An occupied band has no function of its symmetry in the minimal basis; a larger one may have it."""


@dataclass
class Bands:
    """Solution of an engine on the full Gamma-centred mesh of the primitive cell (both k and -k present).

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom
    scaled_positions : (n_atoms, 3)
    numbers : (n_atoms,)
    mesh : (3,) integers
    kpoints : (n_k, 3) fractional
    energies_ev : (n_spins, n_k, n_basis); one spin stands for both
    coefficients : (n_spins, n_k, n_basis, n_basis), band n in column n, c^H S c = 1
    overlap : (n_k, n_basis, n_basis)
    atoms : (n_basis,) atom of each basis function
    minimal : (n_basis,) bool, basis functions that belong to the minimal basis
    extended : (n_basis,) bool, the same with the next shell of each element
    valence_electrons : (n_atoms,) electrons that each neutral atom brings into the bands
    """

    cell: numpy.ndarray
    scaled_positions: numpy.ndarray
    numbers: numpy.ndarray
    mesh: tuple
    kpoints: numpy.ndarray
    energies_ev: numpy.ndarray
    coefficients: numpy.ndarray
    overlap: numpy.ndarray
    atoms: numpy.ndarray
    minimal: numpy.ndarray
    extended: numpy.ndarray
    valence_electrons: numpy.ndarray

    @property
    def n_electrons(self) -> float:
        """Electrons of the primitive cell that the bands hold."""
        return float(self.valence_electrons.sum())


@dataclass
class OrbitalHamiltonian:
    """Hamiltonian between orthonormal atomic orbitals in real space, and what it belongs to.

    Parameters
    ----------
    cell, scaled_positions, numbers : the primitive cell
    cells : (n_cells, 3) integer lattice vectors R
    values : (n_spins, n_cells, n_orbitals, n_orbitals) of <mu in cell 0|H|nu in cell R>, eV
    atoms : (n_orbitals,) atom of each orbital
    n_electrons : electrons of the primitive cell
    spilling : fraction of the occupied bands outside the minimal basis, before orthonormalisation (LOBSTER's absolute
        charge spilling)
    smallest_overlap : smallest eigenvalue of the overlap of the minimal basis; near zero the diffuse orbitals nearly
        depend on each other and what is said of their bonds is uncertain
    mulliken, loewdin : (n_atoms,) charges, in units of the elementary charge
    """

    cell: numpy.ndarray
    scaled_positions: numpy.ndarray
    numbers: numpy.ndarray
    cells: numpy.ndarray
    values: numpy.ndarray
    atoms: numpy.ndarray
    n_electrons: float
    spilling: float
    smallest_overlap: float
    mulliken: numpy.ndarray
    loewdin: numpy.ndarray

    def at(self, kpoints: ArrayLike) -> NDArray:
        """Return H(k), (n_spins, n_k, n_orbitals, n_orbitals), eV, by Fourier interpolation."""
        phases = numpy.exp(2j * numpy.pi * numpy.asarray(kpoints) @ self.cells.T)
        n_spins, n_cells, n, _ = self.values.shape
        return (phases @ self.values.reshape(n_spins, n_cells, -1)).reshape(n_spins, -1, n, n)


def orthonormal_hamiltonian(
    bands: Bands, *, extended: bool = False, empty_bands: str = "weighted"
) -> OrbitalHamiltonian:
    """Project the bands on the minimal basis and return their Hamiltonian between Loewdin orbitals.

    At each k, n_orbitals combinations of bands are kept, projected on the minimal functions and orthonormalised among
    each other (LOBSTER's band-overlap Loewdin step); H between them is taken to real space, each element at the nearest
    image of its pair of atoms. LOBSTER keeps the lowest n_orbitals bands; where one of these has no part in the
    minimal basis (d bands of Si at Gamma) that is undefined. Here the occupied bands are kept and, of the empty ones,
    the combinations with most weight in the minimal basis, a band DECAY_EV higher counting 1/e as much: the same where
    LOBSTER's choice is safe, smooth in k where it is not.

    Parameters
    ----------
    bands : Bands
    extended : take the minimal basis with the next shell of each element
    empty_bands : which of them are kept: ``"weighted"`` as above; ``"lowest"``, LOBSTER's choice, in which the next
        band takes the place of one without a part of its own in the minimal basis; ``"alike"``, weighted without regard
        to their height

    Raises
    ------
    MissingSymmetry
        If an occupied band lies outside the minimal basis, or these are more bands than the basis has functions.
    StudyError
        If the minimal basis is linearly dependent.
    """
    keep = numpy.flatnonzero(bands.extended if extended else bands.minimal)
    n_spins = len(bands.energies_ev)
    weights = numpy.full(len(bands.kpoints), 1 / len(bands.kpoints))
    fermi = fermi_level(bands.energies_ev, weights, bands.n_electrons)
    small_overlap = bands.overlap[:, keep][:, :, keep]
    inverse_root, smallest = _inverse_root(small_overlap)
    if smallest < SMALLEST_OVERLAP:
        raise StudyError(
            f"linearly dependent minimal basis: smallest eigenvalue of its overlap {smallest:.1e}",
            fix="the atomic orbitals are too diffuse for this crystal; take LOBSTER (bonding.engine)",
        )
    projection = inverse_root @ bands.overlap[:, keep]
    values, lost, loewdin, mulliken = [], 0.0, 0.0, 0.0
    root = small_overlap @ inverse_root
    for energies, coefficients in zip(bands.energies_ev, bands.coefficients, strict=True):
        projected = projection @ coefficients
        filled = erfc((energies - fermi) / (numpy.sqrt(2) * WIDTH_EV)) / n_spins * weights[:, None]
        lost += (filled * (1 - numpy.einsum("kmn,kmn->kn", projected.conj(), projected).real)).sum()
        vectors = _orthonormal_bands(projected, energies, fermi, empty_bands)
        hamiltonian = (vectors * energies[:, None]) @ vectors.conj().transpose(0, 2, 1)
        cells, in_space = _nearest_images(bands, bands.atoms[keep], hamiltonian)
        values.append(in_space)
        loewdin += numpy.einsum("kmn,kmn,kn->m", vectors.conj(), vectors, filled).real
        mulliken += numpy.einsum("kmn,kmn,kn->m", (inverse_root @ vectors).conj(), root @ vectors, filled).real
    charges = [
        bands.valence_electrons - numpy.bincount(bands.atoms[keep], populations, len(bands.numbers))
        for populations in (mulliken, loewdin)
    ]
    return OrbitalHamiltonian(
        bands.cell, bands.scaled_positions, bands.numbers, cells, numpy.array(values), bands.atoms[keep],
        bands.n_electrons, lost / bands.n_electrons, smallest, *charges,
    )  # fmt: skip


def fermi_level(energies_ev: NDArray, weights: NDArray, n_electrons: float) -> float:
    """Return the level below which Gaussian-broadened bands hold the electrons, eV; mid-gap in an insulator.

    Parameters
    ----------
    energies_ev : (n_spins, n_k, n_bands); one spin stands for both
    weights : (n_k,) with sum 1
    n_electrons : electrons of both spins
    """
    bounds = []
    per_spin = len(energies_ev)
    for target in (n_electrons - 1e-6, n_electrons + 1e-6):
        below, above = energies_ev.min() - 10, energies_ev.max() + 10
        for _ in range(80):
            middle = (below + above) / 2
            filled = erfc((energies_ev - middle) / (numpy.sqrt(2) * WIDTH_EV)) / per_spin
            below, above = (middle, above) if (weights[:, None] * filled).sum() < target else (below, middle)
        bounds.append(below)
    return sum(bounds) / 2


def _orthonormal_bands(projected, energies_ev, fermi_ev, empty_bands):
    """Return the Loewdin-orthonormal bands, (n_k, n_orbitals, n_bands), of rank n_orbitals at each k."""
    n_orbitals = projected.shape[1]
    vectors = numpy.zeros_like(projected)
    counts = (energies_ev < fermi_ev).sum(axis=1)
    if counts.max() > n_orbitals:
        raise MissingSymmetry(
            f"{counts.max()} occupied bands do not fit into {n_orbitals} orbitals of the minimal basis"
        )
    for n_occupied in numpy.unique(counts):
        chosen = counts == n_occupied
        height = energies_ev[chosen] - fermi_ev
        if empty_bands == "lowest":
            subspace = _lowest_subspace(projected[chosen], n_occupied)
        else:
            subspace = _kept_subspace(projected[chosen], height * (empty_bands == "weighted"), n_occupied)
        kept = projected[chosen] @ subspace
        inverse_root, smallest = _inverse_root(kept.conj().transpose(0, 2, 1) @ kept)
        if smallest < SMALLEST_PART and empty_bands != "lowest":
            raise MissingSymmetry(
                "an occupied band has no function of its symmetry in the minimal basis "
                f"(smallest eigenvalue of the overlap of the projected bands {smallest:.1e})",
                fix="take LOBSTER with a larger basis (bonding.engine)",
            )
        vectors[chosen] = kept @ inverse_root @ subspace.conj().transpose(0, 2, 1)
    return vectors


def _kept_subspace(projection, height_ev, n_occupied):
    """Return (n_k, n_bands, n_orbitals) orthonormal columns: the occupied bands, then the best of the empty space."""
    n_k, n_orbitals, n_bands = projection.shape
    occupied, _ = numpy.linalg.qr(projection[:, :, :n_occupied])
    empty = projection[:, :, n_occupied:]
    empty = empty - occupied @ (occupied.conj().transpose(0, 2, 1) @ empty)  # what the occupied bands leave free
    height = height_ev[:, n_occupied:]
    empty = empty * numpy.exp(-(height - height[:, :1]) / (2 * DECAY_EV))[:, None]
    _, vectors = numpy.linalg.eigh(empty.conj().transpose(0, 2, 1) @ empty)
    subspace = numpy.zeros((n_k, n_bands, n_orbitals), complex)
    subspace[:, range(n_occupied), range(n_occupied)] = 1
    subspace[:, n_occupied:, n_occupied:] = vectors[:, :, ::-1][:, :, : n_orbitals - n_occupied]
    return subspace


def _lowest_subspace(projection, n_occupied):
    """Return (n_k, n_bands, n_orbitals): the lowest bands, without those that add nothing to the ones below them."""
    n_k, n_orbitals, n_bands = projection.shape
    subspace = numpy.zeros((n_k, n_bands, n_orbitals), complex)
    for vectors, chosen in zip(projection, subspace, strict=True):
        directions = numpy.zeros((n_orbitals, 0), complex)
        for band, vector in enumerate(vectors.T):
            rest = vector - directions @ (directions.conj().T @ vector)
            part = numpy.linalg.norm(rest)
            if part**2 > NO_PART or band < n_occupied:
                chosen[band, directions.shape[1]] = 1
                directions = numpy.column_stack([directions, rest / part])
            if directions.shape[1] == n_orbitals:
                break
    return subspace


def _inverse_root(matrices):
    """Return the inverse square roots of overlap matrices and the smallest eigenvalue of them all."""
    values, vectors = numpy.linalg.eigh(matrices)
    roots = numpy.sqrt(numpy.maximum(values, 1e-12))
    return (vectors / roots[:, None]) @ vectors.conj().transpose(0, 2, 1), float(values.min())


def _nearest_images(bands, atoms, hamiltonian):
    """Return H(R), each pair of atoms at the lattice vectors that bring it nearest (shared equally if several)."""
    mesh = numpy.array(bands.mesh)
    grid = numpy.stack(numpy.meshgrid(*[numpy.arange(n) for n in mesh], indexing="ij"), axis=-1).reshape(-1, 3)
    if len(grid) != len(bands.kpoints):
        raise StudyError(f"{len(bands.kpoints)} k-points on a {mesh} mesh", fix="pass the full mesh")
    phases = numpy.exp(-2j * numpy.pi * grid @ bands.kpoints.T)
    n = hamiltonian.shape[1]
    periodic = (phases @ hamiltonian.reshape(len(grid), -1)).real.reshape(-1, n, n) / len(grid)
    shifts = numpy.stack(numpy.meshgrid(*[[-2, -1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    images = grid[:, None] + shifts * mesh
    between = bands.scaled_positions[None, :] - bands.scaled_positions[:, None]
    separation = images[:, :, None, None] + between
    distance = numpy.linalg.norm(separation @ bands.cell, axis=-1)
    nearest = distance < distance.min(axis=1, keepdims=True) + 1e-3
    weight = nearest / nearest.sum(axis=1, keepdims=True)
    used = nearest.any(axis=(2, 3))
    weight = weight[used]
    source = numpy.broadcast_to(numpy.arange(len(grid))[:, None], used.shape)[used]
    return images[used], periodic[source] * weight[:, atoms][:, :, atoms]
