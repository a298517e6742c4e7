"""Errors of a committee on structures it was never trained on."""

from collections.abc import Sequence

import numpy
import pandas
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.committee import uncertainty
from phonoscreen.forcefield.elements import SYMBOLS


def force_errors(
    committee_forces: ArrayLike, perfect_crystal_forces: NDArray, reference: ArrayLike
) -> dict[str, float]:
    """Compare the forces of a committee with reference forces of one structure.

    Parameters
    ----------
    committee_forces : (n_members, n_supercells, n_atoms, 3) eV/angstrom
    perfect_crystal_forces : (n_members, n_primitive_atoms, 3) forces on the undisplaced atoms
    reference : (n_supercells, n_atoms, 3)

    Returns
    -------
    dict of numbers, forces in meV/angstrom: RMSE of the mean and of single members, RMS of the reference, mean net
    force per atom, force on the perfect crystal, and the calibration of epsilon of Eq. (3) (RMS epsilon over RMS error
    vector, rank correlation over atoms)

    Raises
    ------
    StudyError
        If shapes do not fit or values are not finite.
    """
    committee_forces, reference = numpy.asarray(committee_forces), numpy.asarray(reference)
    if committee_forces.shape[1:] != reference.shape or not numpy.isfinite(committee_forces).all():
        raise StudyError(
            f"forces of shape {committee_forces.shape[1:]} against labels of shape {reference.shape}",
            where="force_errors",
            fix="label and predict the same supercells",
        )
    mean = committee_forces.mean(axis=0)
    error = numpy.sqrt(((mean - reference) ** 2).sum(axis=-1))
    epsilon = uncertainty(committee_forces)
    rms = numpy.sqrt((reference**2).mean())
    rmse = numpy.sqrt(((mean - reference) ** 2).mean())
    single = numpy.sqrt(((committee_forces - reference) ** 2).mean(axis=(1, 2, 3)))
    return {
        "force_rmse_mev_per_angstrom": 1e3 * rmse,
        "force_rmse_single_member_mev_per_angstrom": 1e3 * single.mean(),
        "force_rms_mev_per_angstrom": 1e3 * rms,
        "force_rmse_relative": rmse / rms,
        "net_force_per_atom_mev_per_angstrom": 1e3 * numpy.linalg.norm(mean.mean(axis=1), axis=-1).mean(),
        "perfect_crystal_force_rms_mev_per_angstrom": 1e3
        * numpy.sqrt((perfect_crystal_forces.mean(axis=0) ** 2).mean()),
        "epsilon_rms_mev_per_angstrom": 1e3 * numpy.sqrt((epsilon**2).mean()),
        "epsilon_max_mev_per_angstrom": 1e3 * epsilon.max(),
        "error_rms_mev_per_angstrom": 1e3 * numpy.sqrt((error**2).mean()),
        "epsilon_over_error": numpy.sqrt((epsilon**2).mean() / (error**2).mean()),
        "epsilon_error_rank_correlation": spearmanr(epsilon.ravel(), error.ravel()).statistic,
        "n_supercells": len(reference),
        "n_atoms": reference.shape[1],
    }


def squares_by_element(forces: NDArray, reference: NDArray, numbers: NDArray) -> dict[str, list]:
    """Return squared error, squared reference force and number of components for each element.

    Parameters
    ----------
    forces, reference : (n_supercells, n_atoms, 3) eV/angstrom
    numbers : (n_atoms,) atomic numbers

    Returns
    -------
    dict symbol -> [sum of squared errors, sum of squared reference forces, components]
    """
    squares = {}
    for number in sorted(set(numbers.tolist())):
        chosen = numbers == number
        error, size = forces[:, chosen] - reference[:, chosen], reference[:, chosen]
        squares[SYMBOLS[number]] = [float((error**2).sum()), float((size**2).sum()), error.size]
    return squares


def errors_by(groups: Sequence[tuple[str, Sequence[float]]]) -> pandas.DataFrame:
    """Return RMSE (meV/angstrom) and RMSE over RMS force of groups of structures or elements.

    Parameters
    ----------
    groups : list of (name, [sum of squared errors, sum of squared reference forces, components])

    Returns
    -------
    pandas.DataFrame with ``group, structures, force_rmse_mev_per_angstrom, force_rmse_relative``, in the order of the
    names
    """
    names = sorted({name for name, _ in groups})
    rows = []
    for name in names:
        error, size, count = numpy.sum([squares for other, squares in groups if other == name], axis=0)
        structures = sum(other == name for other, _ in groups)
        rows.append((name, structures, 1e3 * (error / count) ** 0.5, (error / size) ** 0.5))
    columns = ["group", "structures", "force_rmse_mev_per_angstrom", "force_rmse_relative"]
    return pandas.DataFrame(rows, columns=columns)
