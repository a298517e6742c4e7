"""The long-ranged part of the interaction of learned charges in a periodic crystal.

Each atom carries a Gaussian charge of width sigma. Its Coulomb energy is a short sum over wave vectors, the reciprocal
part of Ewald's sum with ``alpha = 1 / (2 sigma)``,

    E = 1/2 4 pi k_e / V sum_(k != 0) exp(-sigma^2 k^2) / k^2 |sum_i q_i exp(i k r_i)|^2.

What differs from point charges decays like erfc(r / 2 sigma) / r and is left to the local model, as is the energy of a
charge with itself. Charges that a model learns from forces alone: Cheng, npj Comput. Mater. 11, 80 (2025).
"""

import numpy
import torch

SIGMA_ANGSTROM = 1.5
COULOMB_EV_ANGSTROM = 14.399645
REACH = 3.0  # wave vectors up to this over sigma: what is left out is exp(-9) of the first


def wave_vectors(cell):
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
    grid = numpy.stack(numpy.meshgrid(*(numpy.arange(-n, n + 1) for n in counts), indexing="ij"), axis=-1)
    grid = grid.reshape(-1, 3)
    waves = grid[len(grid) // 2 + 1 :] @ (2 * numpy.pi * numpy.linalg.inv(cell).T)
    square = (waves**2).sum(axis=1)
    waves, square = waves[square < longest**2], square[square < longest**2]
    volume = abs(numpy.linalg.det(cell))
    return waves, 4 * numpy.pi * COULOMB_EV_ANGSTROM / volume * numpy.exp(-(SIGMA_ANGSTROM**2) * square) / square


def describe_waves(structures, dtype):
    """Return the wave vectors of some structures as tensors that can be joined along their first axis.

    Parameters
    ----------
    structures : list of (number of atoms, cell or None), in the order of the atoms; equal ones in a row share theirs
    """
    groups = []  # [copies, atoms, waves, weights]
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


def _same(one, other):
    return one is other or (one is not None and other is not None and numpy.array_equal(one, other))


def coulomb_energy(charges, positions, batch):
    """Return the energy of the charges of all structures, eV, a scalar tensor.

    The mean charge of each structure is subtracted: crystals are neutral.

    Parameters
    ----------
    charges : (n_atoms,) in elementary charges
    positions : (n_atoms, 3), angstrom
    batch : dict with what ``describe_waves`` returns
    """
    energy, atom, wave = charges.new_zeros(()), 0, 0
    for copies, n_atoms, n_waves in batch["wave_groups"].tolist():
        here = slice(atom, atom + copies * n_atoms)
        atom += copies * n_atoms
        if n_waves:
            waves, weights = batch["waves"][wave : wave + n_waves], batch["wave_weights"][wave : wave + n_waves]
            wave += n_waves
            phases = (positions[here] @ waves.T).reshape(copies, n_atoms, n_waves)
            neutral = charges[here].reshape(copies, n_atoms)
            neutral = (neutral - neutral.mean(dim=1, keepdim=True))[:, None]
            cosine, sine = neutral @ torch.cos(phases), neutral @ torch.sin(phases)
            energy = energy + ((cosine**2 + sine**2) * weights).sum()
    return energy
