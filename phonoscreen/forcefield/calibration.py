"""How far the disagreement of a committee tells its error, and the factor that makes it an error bar."""

from collections.abc import Sequence

import numpy
import pandas
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed

WITHIN_ONE = 0.6827  # of a normal distribution lies within one standard deviation
LEAST = 10  # structures in each half of those that a spread is calibrated on


def calibration_factor(epsilon: ArrayLike, error: ArrayLike) -> float:
    """Return the factor that makes the RMS of the disagreement equal to the RMS error.

    For normal errors of zero mean it is the maximum-likelihood scale of epsilon (Musil et al., J. Chem. Theory Comput.
    15, 906 (2019)) where all atoms share one ratio.

    Parameters
    ----------
    epsilon, error : (n,) disagreement of Eq. (3) and length of the error vector, one unit

    Raises
    ------
    StudyError
        If the members do not disagree at all.
    """
    epsilon, error = numpy.asarray(epsilon, dtype=float), numpy.asarray(error, dtype=float)
    if not (epsilon**2).sum() > 0:
        raise StudyError("the committee does not disagree", where="calibration_factor", fix="train different members")
    return float(numpy.sqrt((error**2).sum() / (epsilon**2).sum()))


def coverage_factor(spread: ArrayLike, error: ArrayLike, names: Sequence[str], seed: int) -> dict[str, float]:
    """Find the factor that makes a spread an error bar on half of the structures, and check it on the other half.

    The factor is the 68.3 % quantile of error over spread: so many errors lie within one standard deviation of a normal
    distribution, and a few large errors do not decide it.

    Parameters
    ----------
    spread, error : (n,) standard deviation over the members and absolute error of each structure, one unit
    names : (n,) ids, which divide the structures with the seed
    seed : of the division

    Returns
    -------
    dict: ``factor``; ``n_fitted, n_checked``, structures of the two halves; ``within_raw, within``, the part of the
        checked ones whose error is at most one spread, and one spread times the factor

    Raises
    ------
    StudyError
        If a half has fewer than ten structures.
    """
    spread, error = numpy.asarray(spread, dtype=float), numpy.asarray(error, dtype=float)
    usable = numpy.flatnonzero(numpy.isfinite(spread) & numpy.isfinite(error) & (spread > 0)).tolist()
    order = sorted(usable, key=lambda row: derive_seed(seed, names[row], "calibration"))
    fitted, checked = order[: len(order) // 2], order[len(order) // 2 :]
    if len(fitted) < LEAST:
        raise StudyError(f"{len(usable)} structures with a spread and an error, {2 * LEAST} are needed",
                         where="coverage_factor", fix="judge more compounds")  # fmt: skip
    ratio = error / numpy.where(spread > 0, spread, numpy.nan)
    factor = float(numpy.quantile(ratio[fitted], WITHIN_ONE))
    return {
        "factor": factor, "n_fitted": len(fitted), "n_checked": len(checked),
        "within_raw": float((ratio[checked] <= 1).mean()), "within": float((ratio[checked] <= factor).mean()),
    }  # fmt: skip


def checked_factor(atoms: pandas.DataFrame, seed: int) -> dict[str, float]:
    """Find the factor on half of the structures and check it on the other half.

    Parameters
    ----------
    atoms : DataFrame with ``structure_id, epsilon_mev_per_angstrom, error_mev_per_angstrom``
    seed : divides the structures

    Returns
    -------
    dict: ``epsilon_over_error`` of all atoms, ``factor``, ``error_over_recalibrated`` on the other half (1:
    calibrated), ``within_one, within_two``: part of its atoms whose error is below one and two recalibrated epsilon
    (0.61 and 0.99 for a normal error, as its length over its RMS length follows the Maxwell distribution), and the rank
    correlations of epsilon and error over atoms and over structures (maximum over the atoms of each)
    """
    epsilon, error = atoms["epsilon_mev_per_angstrom"], atoms["error_mev_per_angstrom"]
    ids = sorted(atoms["structure_id"].unique(), key=lambda name: derive_seed(seed, name, "calibration"))
    fitted = atoms["structure_id"].isin(ids[: len(ids) // 2])
    factor = calibration_factor(epsilon[fitted], error[fitted])
    ratio = error[~fitted] / (factor * epsilon[~fitted])
    largest = atoms.groupby("structure_id")[["epsilon_mev_per_angstrom", "error_mev_per_angstrom"]].max()
    return {
        "n_structures": len(ids),
        "n_atoms": len(atoms),
        "epsilon_over_error": 1 / calibration_factor(epsilon, error),
        "factor": factor,
        "error_over_recalibrated": calibration_factor(epsilon[~fitted], error[~fitted]) / factor,
        "within_one": float((ratio < 1).mean()),
        "within_two": float((ratio < 2).mean()),
        "rank_correlation_atoms": float(spearmanr(epsilon, error).statistic),
        "rank_correlation_structures": float(spearmanr(*largest.to_numpy().T).statistic),
    }


def calibration_bins(epsilon: ArrayLike, error: ArrayLike, n_bins: int = 12) -> pandas.DataFrame:
    """Return RMS epsilon and RMS error of atoms in bins of equal count, sorted by epsilon.

    Returns
    -------
    DataFrame with ``epsilon, error, n_atoms``
    """
    order = numpy.argsort(numpy.asarray(epsilon), kind="stable")
    rows = []
    for part in numpy.array_split(order, min(n_bins, max(len(order), 1))):
        mean = [numpy.sqrt((numpy.asarray(values)[part] ** 2).mean()) for values in (epsilon, error)]
        rows.append((*mean, len(part)))
    return pandas.DataFrame(rows, columns=["epsilon", "error", "n_atoms"])
