"""Electronic structure in an orthonormal minimal basis: the common ground of all engines.

An engine solves the electrons in whatever basis it has; COHP is defined in a minimal basis of atomic orbitals. The
bands are projected on that basis and orthonormalised as LOBSTER does: Maintz et al., J. Comput. Chem. 34, 2557
(2013), and 37, 1030 (2016). Bloch sums carry lattice vectors: phi_k(r) = sum_R exp(2 pi i k.R) phi(r - R).
"""

from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

SMALLEST_OVERLAP = 1e-4  # eigenvalue of an overlap matrix below which a basis counts as linearly dependent
DECAY_EV = 2.0  # how fast empty bands lose weight with their height above the occupied ones


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
    energies_ev : (n_k, n_basis)
    coefficients : (n_k, n_basis, n_basis), band n in column n, c^H S c = 1
    overlap : (n_k, n_basis, n_basis)
    atoms : (n_basis,) atom of each basis function
    minimal : (n_basis,) bool, basis functions that belong to the minimal basis
    n_electrons : electrons of the primitive cell that the bands hold
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
    n_electrons: float


@dataclass
class OrbitalHamiltonian:
    """Hamiltonian between orthonormal atomic orbitals in real space, and what it belongs to.

    Parameters
    ----------
    cell, scaled_positions, numbers : the primitive cell
    cells : (n_cells, 3) integer lattice vectors R
    values : (n_cells, n_orbitals, n_orbitals) of <mu in cell 0|H|nu in cell R>, eV
    atoms : (n_orbitals,) atom of each orbital
    n_electrons : electrons of the primitive cell
    spilling : fraction of the occupied bands outside the minimal basis, before orthonormalisation
    """

    cell: numpy.ndarray
    scaled_positions: numpy.ndarray
    numbers: numpy.ndarray
    cells: numpy.ndarray
    values: numpy.ndarray
    atoms: numpy.ndarray
    n_electrons: float
    spilling: float

    def at(self, kpoints: ArrayLike) -> NDArray:
        """Return H(k), (n_k, n_orbitals, n_orbitals), eV, by Fourier interpolation."""
        phases = numpy.exp(2j * numpy.pi * numpy.asarray(kpoints) @ self.cells.T)
        n = self.values.shape[1]
        return (phases @ self.values.reshape(len(self.cells), -1)).reshape(-1, n, n)


def orthonormal_hamiltonian(bands: Bands) -> OrbitalHamiltonian:
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

    Returns
    -------
    OrbitalHamiltonian

    Raises
    ------
    StudyError
        If values are not finite, the occupied bands do not fit, or a basis is linearly dependent.
    """
    if not (numpy.isfinite(bands.energies_ev).all() and numpy.isfinite(bands.coefficients).all()):
        raise StudyError("bands with values that are not finite", fix="the electronic structure did not converge")
    keep = numpy.flatnonzero(bands.minimal)
    n_orbitals = len(keep)
    if bands.n_electrons > 2 * n_orbitals or bands.n_electrons <= 0:
        raise StudyError(f"{bands.n_electrons:g} electrons do not fit into {n_orbitals} orbitals of the minimal basis")
    n_occupied = int(numpy.ceil(bands.n_electrons / 2 - 1e-6))
    small_overlap = bands.overlap[:, keep][:, :, keep]
    projection = _inverse_root(small_overlap, "minimal basis") @ bands.overlap[:, keep] @ bands.coefficients
    subspace = _kept_subspace(projection, bands.energies_ev, n_occupied)
    projection = projection @ subspace
    band_overlap = projection.conj().transpose(0, 2, 1) @ projection
    spilling = 1 - numpy.einsum("knn->kn", band_overlap).real[:, :n_occupied].mean()
    vectors = projection @ _inverse_root(band_overlap, "set of projected bands") @ subspace.conj().transpose(0, 2, 1)
    hamiltonian = (vectors * bands.energies_ev[:, None]) @ vectors.conj().transpose(0, 2, 1)
    cells, values = _nearest_images(bands, bands.atoms[keep], hamiltonian)
    return OrbitalHamiltonian(
        bands.cell, bands.scaled_positions, bands.numbers, cells, values, bands.atoms[keep], bands.n_electrons, spilling
    )


def _kept_subspace(projection, energies_ev, n_occupied):
    """Return (n_k, n_bands, n_orbitals) orthonormal columns: the occupied bands, then the best of the empty space."""
    n_k, n_orbitals, n_bands = projection.shape
    height = energies_ev[:, n_occupied:] - energies_ev[:, n_occupied - 1 : n_occupied]
    occupied, _ = numpy.linalg.qr(projection[:, :, :n_occupied])
    empty = projection[:, :, n_occupied:]
    empty = empty - occupied @ (occupied.conj().transpose(0, 2, 1) @ empty)  # what the occupied bands leave free
    empty = empty * numpy.maximum(numpy.exp(-height / (2 * DECAY_EV)), 1e-3)[:, None]
    _, vectors = numpy.linalg.eigh(empty.conj().transpose(0, 2, 1) @ empty)
    subspace = numpy.zeros((n_k, n_bands, n_orbitals), complex)
    subspace[:, range(n_occupied), range(n_occupied)] = 1
    subspace[:, n_occupied:, n_occupied:] = vectors[:, :, ::-1][:, :, : n_orbitals - n_occupied]
    return subspace


def _inverse_root(matrices, what):
    values, vectors = numpy.linalg.eigh(matrices)
    if values.min() < SMALLEST_OVERLAP:
        raise StudyError(
            f"linearly dependent {what}: smallest eigenvalue of its overlap {values.min():.1e}",
            fix="the atomic orbitals are too diffuse for this crystal; take another engine",
        )
    return (vectors / numpy.sqrt(values)[:, None]) @ vectors.conj().transpose(0, 2, 1)


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
