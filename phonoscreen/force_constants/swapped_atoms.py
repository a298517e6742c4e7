"""Two like atoms whose forces or displacements were exchanged in one supercell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from ase.data import chemical_symbols
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.harmonic_model import HarmonicModel

PAIRS_TRIED = 200
"""Pairs of one supercell, those that promise most, for which the exchange is worked out."""

LEAST, LEAST_SINGLE = 0.12, 0.3
"""Smallest difference of the two forces that matters, over the root mean square force of the supercell's atoms."""

ATOMS_TRIED = 12
"""Atoms with the largest misfit of a supercell, among which exchanged displacements are looked for."""


@dataclass
class Swap:
    """An exchange between two like atoms that repairs a supercell.

    Parameters
    ----------
    supercell, first, second : indices
    what : "forces" or "displacements"
    gain : what it takes from the sum of squared misfits, eV^2/angstrom^2
    before, after : misfit of the two atoms, eV/angstrom
    """

    supercell: int
    first: int
    second: int
    what: str
    gain: float
    before: float
    after: float


def check_swaps(model: HarmonicModel, numbers: NDArray, names: Sequence[object]) -> None:
    """Refuse supercells in which two like atoms look exchanged.

    Parameters
    ----------
    model : ``HarmonicModel``
    numbers : (n_supercell_atoms,) atomic numbers
    names : what messages call the supercells

    Raises
    ------
    StudyError
        Naming the supercell and the two atoms.
    """
    found = [swap for s in range(len(model.forces)) if (swap := find_swap(model, numbers, s))]
    if not found:
        return
    worst = max(found, key=lambda swap: swap.gain)
    more = f" ({len(found)} supercells show such pairs)" if len(found) > 1 else ""
    raise StudyError(
        f"supercell {names[worst.supercell]}: atoms {worst.first} and {worst.second} (both "
        f"{chemical_symbols[numbers[worst.first]]}) look swapped: exchanging their {worst.what} lowers the misfit of "
        f"the forces on them from {worst.before:.4f} to {worst.after:.4f} eV/angstrom{more}",
        fix="compare the order of the atoms in its positions and in its forces, and calculate it again if in doubt",
    )


def find_swap(model: HarmonicModel, numbers: NDArray, supercell: int) -> Swap | None:
    """The exchange between two like atoms that repairs a supercell, or None.

    An exchange counts if it improves the fit by far more than the misfit of any other atom of the supercell.

    Parameters
    ----------
    model : ``HarmonicModel``
    numbers : (n_supercell_atoms,) atomic numbers
    supercell : index

    Returns
    -------
    Swap or None
    """
    found = [_swapped_forces(model, numbers, supercell), _swapped_displacements(model, numbers, supercell)]
    return max(filter(None, found), key=lambda swap: swap.gain, default=None)


def _swapped_forces(model, numbers, supercell):
    force, residual = model.forces[supercell], model.residuals[supercell]
    steps = force[:, None] - force[None]
    size = numpy.square(steps).sum(axis=2)
    toward = numpy.einsum("ijx,ijx->ij", steps, residual[:, None] - residual[None])
    promising = numpy.triu((numbers[:, None] == numbers) & (toward > 0.5 * size) & (toward > 0), 1)
    pairs = numpy.argwhere(promising)
    if not len(pairs):
        return None
    pairs = pairs[numpy.argsort(-toward[promising])[:PAIRS_TRIED]]
    factor = model.hat(supercell).reshape(len(force), 3, -1)
    best, gain = None, 0.0
    for i, j in pairs:
        answer = steps[i, j] @ (factor[i] - factor[j])
        own = 2 * toward[i, j] - 2 * size[i, j] + answer @ answer
        if own > gain:
            best, gain = (i, j, answer), own
    if best is None:
        return None
    i, j, answer = best
    after = residual + factor @ answer
    after[i] -= steps[i, j]
    after[j] += steps[i, j]
    return _judged(model, supercell, (i, j), "forces", gain, residual, after)


def _swapped_displacements(model, numbers, supercell):
    residual, moves = model.residuals[supercell], model.displacements[supercell]
    misfits = numpy.square(residual).sum(axis=1)
    typical = numpy.median(numpy.square(model.residuals).sum(axis=(1, 2)))
    if len(model.forces) < 3 or misfits.sum() < 4 * typical:
        return None
    worst = numpy.argsort(-misfits)[:ATOMS_TRIED]
    pairs = [(i, j) for i in worst for j in worst if i < j and numbers[i] == numbers[j]]
    pairs = [(i, j) for i, j in pairs if numpy.abs(moves[i] - moves[j]).max() > 1e-8]
    if not pairs:
        return None
    exchanged = numpy.repeat(moves[None], len(pairs), axis=0)
    for own, (i, j) in zip(exchanged, pairs):
        own[[i, j]] = own[[j, i]]
    after = model.forces[supercell] - model.predict(exchanged)
    gains = misfits.sum() - numpy.square(after).sum(axis=(1, 2))
    best = int(gains.argmax())
    if gains[best] < 0.5 * misfits.sum():
        return None
    return _judged(model, supercell, pairs[best], "displacements", gains[best], residual, after[best])


def _judged(model, supercell, pair, what, gain, before, after):
    """The exchange if it matters and stands out from all other misfits, else None."""
    i, j = pair
    force, moves = model.forces[supercell], model.displacements[supercell]
    size = numpy.sqrt(numpy.square(force).sum(axis=1).mean())
    # Where few atoms are displaced, misfits are few, and what looks like an exchange may be one of them: it must then
    # be most of what the whole model leaves unexplained.
    few = (numpy.abs(moves) > 1e-8).any(axis=1).mean() < 0.5
    if few and gain < 0.6 * numpy.square(model.residuals).sum():
        return None
    least = LEAST_SINGLE if few else LEAST
    others = numpy.square(numpy.delete(after, [i, j], axis=0)).sum(axis=1)
    left = [float(numpy.sqrt(numpy.square(x[[i, j]]).sum())) for x in (before, after)]
    typical = max(others.mean(), (numpy.square(model.residuals).sum() - gain) / model.forces[..., 0].size)
    if numpy.sqrt(gain / 2) < least * size or gain < 30 * typical or gain < 4 * others.max() or 3 * left[1] > left[0]:
        return None
    return Swap(supercell, int(i), int(j), what, float(gain), *left)
