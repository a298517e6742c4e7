"""Power laws through learning curves, and what they promise for more data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class PowerLaw:
    """error = scale * size ** -exponent.

    Parameters
    ----------
    scale, exponent : of the fit to the data
    samples : (n, 2) scale and exponent of fits to resampled data
    """

    scale: float
    exponent: float
    samples: numpy.ndarray

    def at(self, size: float) -> float:
        """Return the error promised at a size of the training set."""
        return self.scale * size**-self.exponent

    def interval(self, size: float, coverage: float = 0.9) -> tuple[float, ...]:
        """Return the interval that holds ``coverage`` of the resampled promises at a size."""
        values = self.samples[:, 0] * float(size) ** -self.samples[:, 1]
        return tuple(numpy.quantile(values, [0.5 - coverage / 2, 0.5 + coverage / 2]))


def fit_power_law(sizes: ArrayLike, errors: ArrayLike) -> tuple[float, float]:
    """Return (scale, exponent) by least squares on logarithms, every point of equal weight.

    Parameters
    ----------
    sizes, errors : (n,) positive values, at least two different sizes
    """
    slope, intercept = numpy.polyfit(numpy.log(sizes), numpy.log(errors), 1)
    return float(numpy.exp(intercept)), float(-slope)


def learning_curve(
    points: "pandas.DataFrame", pool: "Callable[[pandas.DataFrame], float]", seed: int, n_samples: int = 400
) -> PowerLaw:
    """Fit a power law to a learning curve and resample what it rests on.

    Compounds are drawn with replacement (all points are tested on the same ones, so they share the draw) and one repeat
    of every size is drawn; a size measured once gets the scatter between the repeats of the other sizes. Whether the
    law holds beyond the sizes measured is an assumption that no resampling tests. The law itself goes through the
    geometric means over the repeats.

    Parameters
    ----------
    points : DataFrame with ``size, repeat, structure_id`` and the columns ``pool`` needs
    pool : function of a part of ``points`` that returns the error over its compounds
    seed : of the resampling

    Returns
    -------
    PowerLaw
    """
    rng = numpy.random.default_rng(seed)
    groups: dict[tuple, pandas.DataFrame] = {
        key: group.set_index("structure_id") for key, group in points.groupby(["size", "repeat"])
    }
    repeats = {size: sorted(r for s, r in groups if s == size) for size in sorted({s for s, _ in groups})}
    ids = sorted(set.intersection(*(set(group.index) for group in groups.values())))
    logarithms = {
        size: [numpy.log(pool(groups[size, repeat].loc[ids])) for repeat in options]
        for size, options in repeats.items()
    }
    several = [values for values in logarithms.values() if len(values) > 1]
    scatter = numpy.sqrt(numpy.mean([numpy.var(values, ddof=1) for values in several])) if several else 0.0
    samples = []
    for _ in range(n_samples):
        drawn, errors = rng.choice(ids, len(ids)), []
        for size, options in repeats.items():
            error = pool(groups[size, rng.choice(options)].loc[drawn])
            errors.append(error if len(options) > 1 else error * numpy.exp(scatter * rng.standard_normal()))
        samples.append(fit_power_law(list(repeats), errors))
    means = [numpy.exp(numpy.mean(values)) for values in logarithms.values()]
    return PowerLaw(*fit_power_law(list(repeats), means), numpy.array(samples))
