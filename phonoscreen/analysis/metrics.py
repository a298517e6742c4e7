"""Measures of agreement between reference and predicted values."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError


@dataclass(frozen=True)
class Parity:
    """Agreement of two sets of values.

    Parameters
    ----------
    n : number of pairs
    r2 : coefficient of determination, 1 - sum (p - r)^2 / sum (r - mean r)^2; NaN below two distinct references
    mae : mean absolute error, unit of the values
    rmse : root mean square error, unit of the values
    """

    n: int
    r2: float
    mae: float
    rmse: float


def parity(reference: ArrayLike, predicted: ArrayLike) -> Parity:
    """Return the agreement of predicted with reference values.

    Parameters
    ----------
    reference, predicted : (n,) values of equal unit

    Returns
    -------
    Parity; all measures NaN where n is 0

    Raises
    ------
    StudyError
        If the shapes differ or a value is not finite.
    """
    reference, predicted = numpy.asarray(reference, dtype=float), numpy.asarray(predicted, dtype=float)
    if reference.shape != predicted.shape or reference.ndim != 1:
        raise StudyError(f"cannot compare values of shapes {reference.shape} and {predicted.shape}")
    if not (numpy.isfinite(reference).all() and numpy.isfinite(predicted).all()):
        raise StudyError("cannot compare values that are not finite", fix="leave out structures that are not ok")
    if not reference.size:
        return Parity(0, numpy.nan, numpy.nan, numpy.nan)
    error = predicted - reference
    spread = ((reference - reference.mean()) ** 2).sum()
    distinct = spread > 1e-20 * (reference**2).sum()
    r2 = 1 - (error**2).sum() / spread if distinct else numpy.nan
    return Parity(reference.size, float(r2), float(abs(error).mean()), float(numpy.sqrt((error**2).mean())))


def log_parity(reference: ArrayLike, predicted: ArrayLike) -> Parity:
    """Return the agreement of the decadic logarithms of positive values.

    ``10 ** mae`` is the factor within which the predicted values lie on average.

    Raises
    ------
    StudyError
        If a value is not positive.
    """
    reference, predicted = numpy.asarray(reference, dtype=float), numpy.asarray(predicted, dtype=float)
    if (reference <= 0).any() or (predicted <= 0).any():
        raise StudyError("the logarithm of a value that is not positive was asked for")
    return parity(numpy.log10(reference), numpy.log10(predicted))


BOOTSTRAP_SAMPLES, BOOTSTRAP_LEAST = 2000, 5


def bootstrap_interval(
    reference: ArrayLike, predicted: ArrayLike, measure: Callable[[NDArray, NDArray], float], seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of a measure over structures drawn again with replacement.

    Percentiles of Efron's bootstrap (Efron, Ann. Statist. 7, 1 (1979)).

    Parameters
    ----------
    reference, predicted : (n,) values
    measure : function of both that returns a number, such as R^2
    seed : of the draws

    Returns
    -------
    (low, high); NaN below five structures, where the draws say nothing
    """
    reference, predicted = numpy.asarray(reference, dtype=float), numpy.asarray(predicted, dtype=float)
    if len(reference) < BOOTSTRAP_LEAST:
        return numpy.nan, numpy.nan
    draws = numpy.random.default_rng(seed).integers(len(reference), size=(BOOTSTRAP_SAMPLES, len(reference)))
    found = numpy.array([measure(reference[draw], predicted[draw]) for draw in draws])
    found = found[numpy.isfinite(found)]
    if not len(found):
        return numpy.nan, numpy.nan
    low, high = numpy.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def frequency_error(reference_thz: ArrayLike, predicted_thz: ArrayLike) -> tuple[float, float, float]:
    """Return RMSE of the frequencies, range of the reference frequencies, and their ratio.

    The measure of Fig. 2a of Rodriguez et al., Commun. Mater. 4, 61 (2023): bands are compared in ascending order at
    each q point of the path.

    Parameters
    ----------
    reference_thz, predicted_thz : (n_q, n_band) frequencies, THz, imaginary ones negative

    Returns
    -------
    rmse_thz, range_thz, rmse over range

    Raises
    ------
    StudyError
        If the shapes differ, a frequency is not finite, or the reference has no spread.
    """
    reference_thz, predicted_thz = numpy.asarray(reference_thz), numpy.asarray(predicted_thz)
    if reference_thz.shape != predicted_thz.shape or not reference_thz.size:
        raise StudyError(f"cannot compare bands of shapes {reference_thz.shape} and {predicted_thz.shape}")
    difference = numpy.sort(predicted_thz, axis=-1) - numpy.sort(reference_thz, axis=-1)
    span = float(reference_thz.max() - reference_thz.min())
    rmse = float(numpy.sqrt((difference**2).mean()))
    if not (numpy.isfinite(rmse) and span > 0):
        raise StudyError(f"frequencies that cannot be compared: RMSE {rmse} THz, range {span} THz")
    return rmse, span, rmse / span
