"""Figure S4: mean square displacement of each element as a periodic table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from phonoscreen.figures import style
from phonoscreen.forcefield.elements import SYMBOLS, element_attributes

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(elements: pandas.DataFrame, *, reference: str, temperature_k: float) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    elements : table of that name
    reference : name of the reference
    temperature_k : kelvin
    """
    figure, axes = style.new_figure(style.DOUBLE, 76)
    axis = axes[0, 0]
    mine = elements[elements["source"] == "predicted"].set_index("atomic_number")
    if not len(mine):
        style.nothing_to_show(axis, "no structure is solved with predicted forces")
        return figure, f"**Figure S4.** Reference: {reference}. No structure is solved with predicted forces."
    values = mine["msd_mean_angstrom2"]
    low, high = values.min(), max(values.max(), 1.01 * values.min())
    colours = ScalarMappable(LogNorm(low, high), style.SEQUENTIAL)
    for number, symbol in SYMBOLS.items():
        attributes = element_attributes([number])[0]
        period, group = round(7 * attributes[1]), round(18 * attributes[2])
        _cell(axis, group, period, symbol, values.get(number), colours)
    axis.set(xlim=(0.4, 17.6), ylim=(6.6, 0.4), aspect="equal")
    axis.axis("off")
    label = f"mean square displacement at {temperature_k:g} K (Å$^2$)"
    bar = figure.colorbar(colours, ax=axis, orientation="horizontal", shrink=0.5, pad=0.02, aspect=30, label=label)
    style.log_ticks(bar.ax.xaxis, low, high)
    caption = (
        f"**Figure S4.** Mean square displacement of each element at {temperature_k:g} K, mean over its atoms in all "
        f"structures solved with predicted forces ({len(mine)} of {len(SYMBOLS)} elements; small numbers: Å², times "
        f"1000). The force model learned from this reference: {reference}."
    )
    return figure, caption


def _cell(axis, group, period, symbol, value, colours):
    known = value is not None and numpy.isfinite(value)
    face = colours.to_rgba(value) if known else (0.96, 0.96, 0.96, 1.0)
    ink = "white" if known and numpy.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5 else "black" if known else "#aaaaaa"
    corner = (group - 0.47, period - 0.47)
    axis.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=face, edgecolor="#888888", linewidth=0.4))
    axis.text(group, period - 0.12, symbol, ha="center", va="center", fontsize=8.5, color=ink)
    if known:
        axis.text(group, period + 0.28, f"{1000 * value:.3g}", ha="center", va="center", fontsize=7, color=ink)
