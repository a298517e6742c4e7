"""The long-ranged part of the interaction of learned charges in a periodic crystal.

Each atom carries a Gaussian charge of width sigma. Its Coulomb energy is a short sum over wave vectors, the reciprocal
part of Ewald's sum with ``alpha = 1 / (2 sigma)``,

    E = 1/2 4 pi k_e / V sum_(k != 0) exp(-sigma^2 k^2) / k^2 |sum_i q_i exp(i k r_i)|^2.

What differs from point charges decays like erfc(r / 2 sigma) / r and is left to the local model, as is the energy of a
charge with itself. Charges that a model learns from forces alone: Cheng, npj Comput. Mater. 11, 80 (2025).
"""

from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray

SIGMA_ANGSTROM = 1.5
COULOMB_EV_ANGSTROM = 14.399645
REACH = 3.0  # wave vectors up to this over sigma: what is left out is exp(-9) of the first


def wave_vectors(cell: NDArray) -> tuple[NDArray, NDArray]:
    """Return half of the wave vectors of a cell, the other half being their negatives, and their weights.

    Parameters
    ----------
    cell : (3, 3) lattice vectors as rows, angstrom

    Returns
    -------
    (n, 3) in 1/angstrom and (n,) such that the energy is ``sum weight |structure factor|^2``, eV
    """
    longest = REACH / SIGMA_ANGSTROM
    counts = numpy.floor(longest * numpy.linalg.norm(cell, axis=1) / (2 * numpy.pi) + 1e-9).astype(int)
    grid = numpy.indices(2 * counts + 1).reshape(3, -1).T - counts
    waves = grid[len(grid) // 2 + 1 :] @ (2 * numpy.pi * numpy.linalg.inv(cell).T)
    square = (waves**2).sum(axis=1)
    waves, square = waves[square < longest**2], square[square < longest**2]
    volume = abs(numpy.linalg.det(cell))
    return waves, 4 * numpy.pi * COULOMB_EV_ANGSTROM / volume * numpy.exp(-(SIGMA_ANGSTROM**2) * square) / square


def describe_waves(structures: Sequence[tuple[int, NDArray | None]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the wave vectors of some structures as tensors that can be joined along their first axis.

    Parameters
    ----------
    structures : list of (number of atoms, cell or None), in the order of the atoms; equal ones in a row share theirs
    """
    groups: list[list] = []  # [copies, atoms, waves, weights]
    for n_atoms, cell in structures:
        if groups and groups[-1][1] == n_atoms and _same(groups[-1][4], cell):
            groups[-1][0] += 1
        else:
            waves = (numpy.empty((0, 3)), numpy.empty(0)) if cell is None else wave_vectors(cell)
            groups.append([1, n_atoms, *waves, cell])
    copies, atoms, waves, weights, _ = zip(*groups)
    return {
        "wave_groups": torch.tensor([[c, a, len(w)] for c, a, w in zip(copies, atoms, waves)]),
        "waves": torch.as_tensor(numpy.concatenate(waves), dtype=dtype),
        "wave_weights": torch.as_tensor(numpy.concatenate(weights), dtype=dtype),
    }


N_MATRICES = 11
_STRAINS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # the six of the symmetric tensor


def describe_matrices(
    structures: Sequence[tuple[int, NDArray | None]], positions: NDArray, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return the interaction of the atoms of some structures as matrices: what training, which sees them often, keeps.

    With P, which subtracts the mean charge of each structure, these are P, and times P: the energy's matrix
    ``sum_k w cos(k (r_i - r_j))``, its derivatives with respect to the position of the first atom (3) and to strain
    (6).
    Structures do not interact.

    Parameters
    ----------
    structures : list of (number of atoms, cell or None), in the order of the atoms
    positions : (n_atoms, 3), angstrom

    Returns
    -------
    dict of ``charge_matrices``, the (11, n_atoms, n_atoms) numbers in a row, and ``charge_atoms``, (1,) n_atoms
    """
    matrices, begin = numpy.zeros((N_MATRICES, len(positions), len(positions))), 0
    for n_atoms, cell in structures:
        here = slice(begin, begin + n_atoms)
        begin += n_atoms
        if cell is None:
            continue
        waves, weights = wave_vectors(cell)
        phases = positions[here] @ waves.T
        cosine, sine = numpy.cos(phases), numpy.sin(phases)
        block = [(weights * cosine) @ cosine.T + (weights * sine) @ sine.T]
        for axis in range(3):
            along = weights * waves[:, axis]
            block.append((along * cosine) @ sine.T - (along * sine) @ cosine.T)
        slopes = 2 * (SIGMA_ANGSTROM**2 + 1 / (waves**2).sum(axis=1))
        for a, b in _STRAINS:
            along = weights * (slopes * waves[:, a] * waves[:, b] - (a == b))
            block.append((along * cosine) @ cosine.T + (along * sine) @ sine.T)
        neutral = numpy.eye(n_atoms) - 1 / n_atoms
        matrices[:, here, here] = numpy.stack([neutral, *(one - one.mean(axis=1, keepdims=True) for one in block)])
    return {
        "charge_matrices": torch.as_tensor(matrices.ravel(), dtype=dtype),
        "charge_atoms": torch.tensor([len(positions)]),
    }


def matrix_interaction(charges: torch.Tensor, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return energy, its gradient and its derivative with respect to strain by matrices, both at constant charges.

    Parameters
    ----------
    charges : (n_atoms,) in elementary charges
    batch : dict with what ``describe_matrices`` returns

    Returns
    -------
    energy : scalar tensor, eV
    gradients : (n_atoms, 3), eV/angstrom
    virials : (n_atoms, 3, 3), eV, to be added up over the atoms of a structure
    """
    counts, parts, begin = batch["charge_atoms"].tolist(), [], 0
    for n_atoms, charge in zip(counts, charges.split(counts), strict=True):
        size = N_MATRICES * n_atoms * n_atoms
        matrices = batch["charge_matrices"][begin : begin + size].reshape(N_MATRICES * n_atoms, n_atoms)
        begin += size
        parts.append((matrices @ charge).reshape(N_MATRICES, n_atoms))
    fields = torch.cat(parts, dim=1)
    products = fields[0] * fields[1:]
    strain = products[4:]
    virials = strain[[0, 5, 4, 5, 1, 3, 4, 3, 2]].T.reshape(-1, 3, 3)
    return products[0].sum(), 2 * products[1:4].T, virials


def _same(one, other):
    return one is other or (one is not None and other is not None and numpy.array_equal(one, other))


def coulomb_energy(charges: torch.Tensor, positions: torch.Tensor, batch: dict) -> torch.Tensor:
    """Return the energy of the charges of all structures, eV, a scalar tensor.

    The mean charge of each structure is subtracted: crystals are neutral.

    Parameters
    ----------
    charges : (n_atoms,) in elementary charges
    positions : (n_atoms, 3), angstrom
    batch : dict with what ``describe_waves`` returns
    """
    energy = charges.new_zeros(())
    for squares, _, weights in _structure_factors(charges, positions, batch):
        if squares is not None:
            energy = energy + (squares * weights).sum()
    return energy


def coulomb_virials(charges: torch.Tensor, positions: torch.Tensor, batch: dict) -> torch.Tensor:
    """Return the derivative of the energy with respect to a homogeneous strain at constant charges, in eV.

    Phases do not change under strain; wave vectors, their squares and the volume do.

    Returns
    -------
    (n_structures, 3, 3) tensor

    Parameters
    ----------
    charges, positions, batch : see ``coulomb_energy``
    """
    virials = []
    for squares, waves, weights in _structure_factors(charges, positions, batch):
        if squares is None:
            virials.append(charges.new_zeros(waves, 3, 3))
            continue
        terms = (squares * weights)[:, 0]  # (copies, n_waves)
        slopes = 2 * (SIGMA_ANGSTROM**2 + 1 / (waves**2).sum(dim=1))
        tensors = torch.einsum("w,wa,wb->wab", slopes, waves, waves).flatten(1)
        unit = torch.eye(3, dtype=terms.dtype, device=terms.device)
        virials.append((terms @ tensors).reshape(-1, 3, 3) - terms.sum(dim=1)[:, None, None] * unit)
    return torch.cat(virials)


def _structure_factors(charges, positions, batch):
    """Yield |sum_i q_i exp(i k r_i)|^2 (copies, 1, n_waves), wave vectors and weights of each group of structures.

    Structures without wave vectors yield None and their number.
    """
    atom, wave = 0, 0
    for copies, n_atoms, n_waves in batch["wave_groups"].tolist():
        here = slice(atom, atom + copies * n_atoms)
        atom += copies * n_atoms
        if not n_waves:
            yield None, copies, None
            continue
        waves, weights = batch["waves"][wave : wave + n_waves], batch["wave_weights"][wave : wave + n_waves]
        wave += n_waves
        phases = (positions[here] @ waves.T).reshape(copies, n_atoms, n_waves)
        neutral = charges[here].reshape(copies, n_atoms)
        neutral = (neutral - neutral.mean(dim=1, keepdim=True))[:, None]
        cosine, sine = neutral @ torch.cos(phases), neutral @ torch.sin(phases)
        yield cosine**2 + sine**2, waves, weights
