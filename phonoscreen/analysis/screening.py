"""The maximum mean square displacement as a filter for low thermal conductivity (Fig. 4 of the paper)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.analysis.comparison import pairs
from phonoscreen.analysis.metrics import log_parity
from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Scale:
    """Normalisation of log10 of the maximum MSD to [0, 1] on the reference structures.

    Parameters
    ----------
    low, high : log10 of the smallest and largest maximum MSD of the reference structures, MSD in square angstrom
    """

    low: float
    high: float

    @classmethod
    def of(cls, msd_angstrom2: ArrayLike) -> "Scale":
        """Return the scale of a set of maximum MSDs, square angstrom, of which at least two differ."""
        logs = numpy.log10(numpy.asarray(msd_angstrom2, dtype=float))
        if logs.size < 2 or not logs.max() > logs.min():
            raise StudyError(f"{logs.size} reference structures do not define a scale of log(max MSD)")
        return cls(float(logs.min()), float(logs.max()))

    def normalise(self, msd_angstrom2: ArrayLike) -> NDArray:
        """Return normalised log(max MSD); outside [0, 1] for values beyond the reference structures."""
        return (numpy.log10(numpy.asarray(msd_angstrom2, dtype=float)) - self.low) / (self.high - self.low)

    def msd(self, normalised: float) -> float:
        """Return the maximum MSD, square angstrom, of a normalised value."""
        return 10 ** (self.low + normalised * (self.high - self.low))


@dataclass(frozen=True)
class Line:
    """Least-squares line log10 kappa = intercept + slope x over normalised log(max MSD)."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, x: ArrayLike, kappa_w_per_m_k: ArrayLike) -> "Line":
        """Return the line through at least two points with different x; kappa > 0."""
        x = numpy.asarray(x, dtype=float)
        if x.size < 2 or not x.max() > x.min():
            raise StudyError(f"no line through {x.size} points")
        slope, intercept = numpy.polynomial.polynomial.polyfit(x, numpy.log10(kappa_w_per_m_k), 1)[::-1]
        return cls(float(slope), float(intercept))

    def kappa(self, x: ArrayLike) -> NDArray:
        """Return kappa of the line, W/m/K."""
        return 10 ** (self.intercept + self.slope * numpy.asarray(x, dtype=float))

    def crossing(self, kappa_w_per_m_k: float) -> float:
        """Return x where the line reaches a kappa."""
        return (numpy.log10(kappa_w_per_m_k) - self.intercept) / self.slope


@dataclass(frozen=True)
class FilterCounts:
    """What a filter on the maximum MSD finds among structures with kappa below 1 W/m/K.

    ``precision`` is the share of structures above the filter that are below 1 W/m/K, ``recall`` the share of
    structures below 1 W/m/K that are above the filter (NaN where the share has no members).
    """

    above: int
    above_ultralow: int
    below: int
    below_ultralow: int

    @property
    def precision(self) -> float:
        """Share of the structures above the filter that conduct as little as it promises."""
        return self.above_ultralow / self.above if self.above else numpy.nan

    @property
    def recall(self) -> float:
        """Share of the structures that conduct so little which the filter finds."""
        total = self.above_ultralow + self.below_ultralow
        return self.above_ultralow / total if total else numpy.nan


def count_filter(x: ArrayLike, kappa_w_per_m_k: ArrayLike, threshold: float) -> FilterCounts:
    """Return the ``FilterCounts`` of a threshold on normalised log(max MSD)."""
    above, low = numpy.asarray(x) > threshold, numpy.asarray(kappa_w_per_m_k) < 1.0
    return FilterCounts(int(above.sum()), int((above & low).sum()), int((~above).sum()), int((~above & low).sum()))


@dataclass(frozen=True)
class Screen:
    """The filter of one study.

    Parameters
    ----------
    scale : normalisation of log(max MSD)
    points : by source a DataFrame ``structure_id, space_group_number, msd_max_angstrom2, kappa, x``: all solved
        structures for "reference", those outside the training part for "predicted"; kappa in W/m/K, x normalised
    lines : by source the ``Line`` through the points, or None for fewer than three
    kappa_w_per_m_k : kappa of the reference line at the filter: the mean factor between reference and prediction
    threshold, threshold_msd_angstrom2 : the filter as normalised log(max MSD) and as maximum MSD; None without a
        falling reference line or without structures to take the factor from
    counts : ``FilterCounts`` of the predicted points, or None without a threshold
    """

    scale: Scale
    points: dict
    lines: dict
    kappa_w_per_m_k: float
    threshold: float | None
    threshold_msd_angstrom2: float | None
    counts: FilterCounts | None


def screen(transport: "pandas.DataFrame") -> Screen | None:
    """Return the filter on the maximum MSD that a transport table gives, or None where no scale is defined.

    As in the paper, kappa of the filter is 1 W/m/K times the mean factor between predicted and reference kappa (1.795
    there), and the maximum MSD is the one where the line fitted to the reference structures reaches it.

    Parameters
    ----------
    transport : table of that name
    """
    solved = transport[(transport["status"] == "ok") & (transport["kappa_p_w_per_m_k"] > 0)]
    solved = solved.rename(columns={"kappa_p_w_per_m_k": "kappa"})
    points = {
        "reference": solved[solved["source"] == "reference"],
        "predicted": solved[(solved["source"] == "predicted") & (solved["part"] != "training")],
    }
    if points["reference"]["msd_max_angstrom2"].nunique() < 2:
        return None
    scale = Scale.of(points["reference"]["msd_max_angstrom2"])
    names = ["structure_id", "space_group_number", "msd_max_angstrom2", "kappa", "x"]
    points = {
        source: table.assign(x=scale.normalise(table["msd_max_angstrom2"]))[names] for source, table in points.items()
    }
    lines = {
        source: Line.fit(table["x"], table["kappa"]) if table["x"].nunique() > 2 else None
        for source, table in points.items()
    }
    both = pairs(transport, "kappa_p_w_per_m_k")
    both = both[(both["reference"] > 0) & (both["predicted"] > 0)]
    line = lines["reference"]
    if not len(both) or line is None or not line.slope < 0:
        return Screen(scale, points, lines, numpy.nan, None, None, None)
    kappa = 10 ** log_parity(both["reference"], both["predicted"]).mae
    threshold = float(line.crossing(kappa))
    counts = count_filter(points["predicted"]["x"], points["predicted"]["kappa"], threshold)
    return Screen(scale, points, lines, kappa, threshold, float(scale.msd(threshold)), counts)
