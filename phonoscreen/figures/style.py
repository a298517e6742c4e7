"""The one style of all figures: print size, colours, axes, and files that are equal in every run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy
from numpy.typing import ArrayLike, NDArray

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from phonoscreen.audit.atomic import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.typing import HashableList

MM = 1 / 25.4
SINGLE, DOUBLE = 90 * MM, 180 * MM  # column and page width, inches

# Okabe and Ito, Color Universal Design (2008): told apart by every kind of colour vision.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
COLOUR = {"reference": BLACK, "predicted": RED}
SPACE_GROUP = {216: (BLUE, "o"), 221: (ORANGE, "s"), 225: (GREEN, "^"), 227: (PURPLE, "D")}
OTHER_SPACE_GROUP = ("#999999", "v")
SEQUENTIAL = "cividis"
DASHED = (0, (4, 3))
POINT_AREA = 14.0  # square points
MANY = 3000  # points that are drawn as dots
GREY = "#555555"

KAPPA = "$\\kappa_\\mathrm{p}$ (W m$^{-1}$ K$^{-1}$)"

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}


def new_figure(
    width: float, height_mm: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, NDArray]:
    """Return an empty figure of a printed size and its axes, (rows, columns).

    Parameters
    ----------
    width : ``SINGLE`` or ``DOUBLE``
    height_mm : millimetres
    options : further arguments of ``matplotlib.pyplot.subplots``
    """
    seaborn.set_theme(context="paper", style="ticks", rc=_SETTINGS)
    return plt.subplots(rows, columns, figsize=(width, height_mm * MM), squeeze=False, **options)


def new_mosaic(
    width: float, height_mm: float, mosaic: list[HashableList[str]], **options: Any
) -> tuple[Figure, dict[str, Axes]]:
    """Return an empty figure of a printed size and its axes by name (``matplotlib.pyplot.subplot_mosaic``)."""
    seaborn.set_theme(context="paper", style="ticks", rc=_SETTINGS)
    return plt.subplot_mosaic(mosaic, figsize=(width, height_mm * MM), **options)


def save(figure: Figure, caption: str, output: Any, footnote: str = "") -> None:
    """Write a figure as PDF and PNG, and its caption as text beside it.

    The files hold no time and no name of a machine: equal tables give equal files.

    Parameters
    ----------
    figure : matplotlib figure
    caption : what is shown, with the number of structures and the reference
    output : outputs of the job: ``pdf, png, caption``
    footnote : what a reader must know about the data, below the figure and at the end of the caption
    """
    if footnote:
        width = int(figure.get_figwidth() / 0.037)  # characters of 5 points
        figure.supxlabel("\n".join(textwrap.wrap(footnote, width)), fontsize=5, color=RED, x=0.01, ha="left")
        caption = f"{caption} {footnote}"
    for path, metadata in ((output.pdf, {"CreationDate": None}), (output.png, {"Software": None})):
        with written_whole(path) as partial:
            figure.savefig(partial, format=Path(path).suffix[1:], dpi=300, metadata=metadata)
    Path(output.caption).write_text(f"{caption}\n")
    plt.close(figure)


def panel(axis: Axes, letter: str) -> None:
    """Write the letter of a panel outside its upper left corner."""
    axis.annotate(
        letter, (0, 1), xycoords="axes fraction", xytext=(-4, 4), textcoords="offset points",
        ha="right", va="bottom", fontsize=9, fontweight="bold",
    )  # fmt: skip


def note(axis: Axes, text: str, place: str = "upper left", **options: Any) -> None:
    """Write a few lines into a corner of the axes."""
    vertical, horizontal = place.split()
    x, y = {"left": 0.04, "right": 0.96}[horizontal], {"upper": 0.96, "lower": 0.04}[vertical]
    va = {"upper": "top", "lower": "bottom"}[vertical]
    axis.text(x, y, text, transform=axis.transAxes, ha=horizontal, va=va, fontsize=7, linespacing=1.3, **options)


def nothing_to_show(axis: Axes, reason: str) -> None:
    """Say in the middle of the axes why they are empty."""
    axis.set(xticks=[], yticks=[])
    axis.minorticks_off()
    axis.text(0.5, 0.5, reason, transform=axis.transAxes, ha="center", va="center", fontsize=7, color=GREY, wrap=True)


def diagonal(axis: Axes, values: ArrayLike, *, log: bool = False, factor: float | None = None) -> None:
    """Draw the line of perfect agreement over the range of the values, and make both axes equal.

    Parameters
    ----------
    values : all values of both axes
    log : logarithmic axes
    factor : with ``log``, also dashed lines at this factor above and below
    """
    values = numpy.asarray(values, dtype=float)
    if log:
        low, high = values.min() / 1.6, values.max() * 1.6
        axis.set(xscale="log", yscale="log")
        log_ticks(axis.xaxis, low, high)
        log_ticks(axis.yaxis, low, high)
    else:
        margin = 0.06 * (numpy.ptp(values) or abs(values[0]) or 1)
        low, high = values.min() - margin, values.max() + margin
    ends = numpy.array([low, high])
    axis.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
    if factor:
        for scale in (factor, 1 / factor):
            axis.plot(ends, ends * scale, color=GREY, linewidth=0.7, linestyle=DASHED, zorder=1)
    axis.set(xlim=(low, high), ylim=(low, high))
    axis.set_box_aspect(1)


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis at its decades, or at 1, 2 and 5 where it spans less than two decades.

    Parameters
    ----------
    axis : ``axes.xaxis`` or ``axes.yaxis``
    low, high : its range
    """
    short = numpy.log10(high / low) < 2
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())


def _power(value, _):
    """Return 0.001 to 1000 as they are, other numbers with a power of ten."""
    if 0.00099 < value < 1001:
        return f"{value:g}"
    exponent = int(numpy.floor(numpy.log10(value) + 1e-9))
    mantissa = round(value / 10.0**exponent)
    return f"$10^{{{exponent}}}$" if mantissa == 1 else f"${mantissa}\\times10^{{{exponent}}}$"


def formula(text: str) -> str:
    """Return a chemical formula with its numbers as subscripts."""
    return "".join(f"$_{{{part}}}$" if part.isdigit() else plain(part) for part in re.split(r"(\d+)", text))


def plain(text: str) -> str:
    """Return a text of other hands, such as an id, in which matplotlib finds no formula."""
    return text.replace("$", r"\$").lstrip("_")


def scatter_by_space_group(
    axis: Axes, x: ArrayLike, y: ArrayLike, space_groups: ArrayLike, *, scale: float = 1.0
) -> None:
    """Draw points with the colour and marker of their space group; those that the paper lacks are one group, "other".

    More than ``MANY`` points are drawn as dots in a shuffled order, so that no group hides another.

    Parameters
    ----------
    x, y, space_groups : (n,) values
    scale : factor on the area of the points
    """
    x, y, space_groups = numpy.asarray(x), numpy.asarray(y), numpy.asarray(space_groups)
    space_groups = numpy.where(numpy.isin(space_groups, list(SPACE_GROUP)), space_groups, 999)
    many, area = len(x) > MANY, scale * point_area(len(x))
    for group in numpy.unique(space_groups):
        colour, marker = SPACE_GROUP.get(int(group), OTHER_SPACE_GROUP)
        name = str(group) if int(group) in SPACE_GROUP else "other"
        mine = (space_groups == group) & (not many)
        size = POINT_AREA if many else area  # of the key, which is all that is drawn of many points here
        axis.scatter(x[mine], y[mine], s=size, marker=marker, color=colour, linewidths=0, label=name, zorder=2)
    if many:
        order = numpy.random.default_rng(0).permutation(len(x))
        colours = numpy.array([SPACE_GROUP.get(int(group), OTHER_SPACE_GROUP)[0] for group in space_groups])
        axis.scatter(x[order], y[order], s=area, color=colours[order], linewidths=0, rasterized=True, zorder=2)


def point_area(n: int) -> float:
    """Return the area in square points at which n points stay readable."""
    return POINT_AREA if n < 300 else 6.0 if n <= MANY else 1.5


def structures(n: int) -> str:
    """Return "1 structure" or "n structures"."""
    return f"{n:,} structure{'' if n == 1 else 's'}"
