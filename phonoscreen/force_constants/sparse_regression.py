"""Sparse regression of force constants on normal equations.

Compressive sensing of force constants: F. Zhou, W. Nielson, Y. Xia, V. Ozolins, Phys. Rev. Lett. 113, 185501 (2014).
LASSO: R. Tibshirani, J. R. Stat. Soc. B 58, 267 (1996). Adaptive LASSO: H. Zou, J. Am. Stat. Assoc. 101, 1418 (2006).
Automatic relevance determination: D. J. C. MacKay, Neural Comput. 4, 415 (1992). All columns are scaled to unit
length, which also puts the orders on one footing.
"""

import numpy
from numpy.typing import NDArray

from phonoscreen.force_constants.normal_equations import Sums

PENALTIES = {
    "lasso": numpy.logspace(0, -6, 31),
    "adaptive_lasso": numpy.logspace(-1, -10, 31),
    "ardr": numpy.logspace(3, 13, 11),
}
"""Values tried by cross-validation. LASSO: relative to the smallest penalty that sets every force constant to zero;
adaptive LASSO: the same with columns weighted by a first estimate; ARDR: limits on the relevance precision, times the
squared forces, above which columns are left out."""


TOLERANCE = 1e-8
"""Duality gap at which a LASSO is solved, over the squared forces: predicted forces are exact to its square root."""


def sparse_path(method: str, sums: Sums, number: int, penalties: NDArray) -> NDArray:
    """Parameters of a sparse method for several penalties.

    Parameters
    ----------
    method : ``lasso``, ``adaptive_lasso`` or ``ardr``
    sums : ``Sums``, the normal equations
    number : which set of forces
    penalties : see ``PENALTIES``

    Returns
    -------
    (n_penalties, n_free)
    """
    solve = {"lasso": _lasso, "adaptive_lasso": _adaptive_lasso, "ardr": _relevance}[method]
    return solve(sums, number, penalties)


def _lasso(sums, number, penalties):
    """Minimise |A p - F|^2 / 2 + penalty sum |p_k| for each penalty; returns (n_penalties, n_free)."""
    scale = _scale(sums.gram)
    return _scaled_lasso(sums, number, penalties, scale) * scale


def _adaptive_lasso(sums, number, penalties):
    """LASSO with each penalty divided by the size of a first (ridge) estimate."""
    scale = _scale(sums.gram)
    scaled = sums.gram * scale[:, None] * scale
    first = numpy.linalg.solve(scaled + 1e-6 * numpy.eye(len(scaled)), sums.moment[:, number] * scale)
    scale = scale * numpy.abs(first)
    return _scaled_lasso(sums, number, penalties, scale) * scale


def _scaled_lasso(sums, number, penalties, scale):
    from sklearn.linear_model import lasso_path  # seconds to import, and most fits are least squares

    gram, moment = sums.gram * scale[:, None] * scale, sums.moment[:, number] * scale
    # a square root of the normal matrix has the same normal equations as the whole fit matrix, but few rows
    values, vectors = numpy.linalg.eigh(gram)
    keep = values > 1e-12 * values[-1]
    root = (numpy.sqrt(values[keep]) * vectors[:, keep]).T
    target = (vectors[:, keep].T @ moment) / numpy.sqrt(values[keep])
    alphas = penalties * numpy.abs(moment).max() / len(target)
    _, path, _ = lasso_path(numpy.asfortranarray(root), target, alphas=alphas, max_iter=100000, tol=TOLERANCE)
    return path.T


def _relevance(sums, number, limits):
    """Automatic relevance determination for each limit on the precision; returns (n_limits, n_free)."""
    scale = _scale(sums.gram)
    gram, moment = sums.gram * scale[:, None] * scale, sums.moment[:, number] * scale
    return numpy.array([_relevance_at(gram, moment, sums.square[number], sums.equations, x) for x in limits]) * scale


def _relevance_at(gram, moment, square, n_equations, limit):
    """MacKay's fixed-point iteration; columns whose prior precision, in units of F^2, exceeds the limit are dropped."""
    n_free = len(gram)
    kept = numpy.ones(n_free, bool)
    precision = numpy.full(n_free, 1.0 / square)
    noise = n_equations / (0.1 * square)
    mean = numpy.zeros(n_free)
    for _ in range(100):
        covariance = numpy.linalg.inv(noise * gram[numpy.ix_(kept, kept)] + numpy.diag(precision[kept]))
        new = numpy.zeros(n_free)
        new[kept] = noise * covariance @ moment[kept]
        determined = 1 - precision[kept] * covariance.diagonal()
        precision[kept] = determined / numpy.maximum(new[kept] ** 2, 1e-300)
        misfit = max(square - 2 * new @ moment + new @ gram @ new, 1e-14 * square)
        noise = max(n_equations - determined.sum(), 1.0) / misfit
        kept &= precision * square < limit
        change = numpy.abs(new - mean).max()
        mean = numpy.where(kept, new, 0.0)
        if not kept.any() or change < 1e-6 * numpy.abs(mean).max():
            break
    return mean


def _scale(gram):
    diagonal = gram.diagonal()
    return 1 / numpy.sqrt(numpy.maximum(diagonal, 1e-14 * diagonal.max()))
