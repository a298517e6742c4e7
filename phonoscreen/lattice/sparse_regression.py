"""Sparse regression of force constants on normal equations, with cross-validation over groups of supercells.

Compressive sensing of force constants: F. Zhou, W. Nielson, Y. Xia, V. Ozolins, Phys. Rev. Lett. 113, 185501 (2014).
LASSO: R. Tibshirani, J. R. Stat. Soc. B 58, 267 (1996). Adaptive LASSO: H. Zou, J. Am. Stat. Assoc. 101, 1418 (2006).
Automatic relevance determination: D. J. C. MacKay, Neural Comput. 4, 415 (1992). All columns are scaled to unit
length, which also puts the orders on one footing.
"""

import numpy
from sklearn.linear_model import lasso_path

PENALTIES = numpy.logspace(0, -6, 31)
"""Penalties tried, relative to the smallest one that sets every force constant to zero."""

ADAPTIVE_PENALTIES = numpy.logspace(-1, -10, 31)
"""The same for the adaptive LASSO, whose columns are weighted by a first estimate."""

RELEVANCE_LIMITS = numpy.logspace(3, 13, 11)
"""Limits on the relevance precision tried, times the squared forces; columns above are left out."""


def sparse_parameters(method, equations):
    """Parameters of a sparse method, its penalty chosen by the force error on held-out groups.

    Parameters
    ----------
    method : ``lasso``, ``adaptive_lasso`` or ``ardr``
    equations : ``NormalEquations``

    Returns
    -------
    parameters : (n_free, n_sets)
    penalty : the value chosen (for the first set, used for all)
    errors : (n_penalties,) mean squared force error on held-out groups of each penalty tried
    """
    solve, penalties = {
        "lasso": (_lasso, PENALTIES),
        "adaptive_lasso": (_adaptive_lasso, ADAPTIVE_PENALTIES),
        "ardr": (_relevance, RELEVANCE_LIMITS),
    }[method]
    n_groups = len(equations.gram)
    errors = numpy.zeros(len(penalties))
    for group in range(n_groups):
        rest, held_out = equations.without(group if n_groups > 1 else None), equations.only(group)
        errors += [held_out.error(trial)[0] ** 2 for trial in solve(rest, 0, penalties)]
    best = int(errors.argmin())
    every = equations.without()
    sets = range(every.moment.shape[1])
    parameters = numpy.column_stack([solve(every, number, penalties[: best + 1])[-1] for number in sets])
    return parameters, float(penalties[best]), errors / n_groups


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
    gram, moment = sums.gram * scale[:, None] * scale, sums.moment[:, number] * scale
    # a square root of the normal matrix has the same normal equations as the whole fit matrix, but few rows
    values, vectors = numpy.linalg.eigh(gram)
    keep = values > 1e-12 * values[-1]
    root = (numpy.sqrt(values[keep]) * vectors[:, keep]).T
    target = (vectors[:, keep].T @ moment) / numpy.sqrt(values[keep])
    alphas = penalties * numpy.abs(moment).max() / len(target)
    _, path, _ = lasso_path(numpy.asfortranarray(root), target, alphas=alphas, max_iter=5000, tol=1e-6)
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
