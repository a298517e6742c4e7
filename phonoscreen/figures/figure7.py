"""Figure 7: relaxation time of every mode of three compounds, predicted and reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from matplotlib.colors import Normalize

from phonoscreen.analysis.compounds import FIGURE7, rows_of
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SOURCES = ("predicted", "reference")
AREA_MAX = 80.0  # points^2 of the mode with the largest kappa_p of a compound


def draw(modes: pandas.DataFrame, transport: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    modes, transport : tables of those names
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 190, rows=3, columns=2, sharex="row", sharey="row")
    counts, colours = [], None
    for row, compound in enumerate(FIGURE7):
        mine = modes[modes["compound"] == compound]
        counts.append(mine["structure_id"].nunique())
        largest = mine["kappa_p_w_per_m_k"].max() if len(mine) else numpy.nan
        for axis, source, letter in zip(axes[row], SOURCES, "abcdef"[2 * row :]):
            style.panel(axis, letter)
            points = mine[(mine["source"] == source) & (mine["frequency_thz"] > 0)]
            axis.set_title(f"{style.formula(compound)} ({FIGURE7[compound][1]}), {source}", loc="left")
            if len(points):
                colours = _modes(axis, points, largest)
                _conductivities(axis, transport, points["structure_id"].iloc[0], source)
            else:
                style.nothing_to_show(axis, _reason(transport, compound, source))
        axes[row, 0].set_ylabel("relaxation time (ps)")
        if len(mine):
            style.log_ticks(axes[row, 0].yaxis, *axes[row, 0].get_ylim())
    for axis in axes[-1]:
        axis.set_xlabel("frequency (THz)")
    if colours is not None:
        figure.colorbar(
            colours, ax=axes, label="mode $\\kappa_\\mathrm{c}$ / $\\kappa_\\mathrm{total}$", shrink=0.5, pad=0.01
        )
    caption = (
        f"**Figure 7.** Reference: {reference}. Relaxation time of every phonon mode on the irreducible mesh, "
        f"{style.structures(sum(counts))}; left: predicted forces, right: reference forces. Area of a circle: its "
        f"particle-like conductivity, equal scale in both panels of a compound. Colour: share of the coherences."
    )
    return figure, caption


def _modes(axis, points, largest):
    kappa_p, kappa_c = points["kappa_p_w_per_m_k"].to_numpy(), points["kappa_c_w_per_m_k"].to_numpy()
    total = kappa_p + kappa_c
    share = numpy.clip(numpy.divide(kappa_c, total, out=numpy.zeros_like(total), where=total > 0), 0, 1)
    area = 1.0 + AREA_MAX * numpy.clip(kappa_p, 0, None) / largest
    order = numpy.argsort(-area)
    drawn = axis.scatter(
        points["frequency_thz"].to_numpy()[order], points["relaxation_time_ps"].to_numpy()[order], s=area[order],
        c=share[order], cmap=style.SEQUENTIAL, norm=Normalize(0, 1), linewidths=0.2, edgecolors="black", alpha=0.85,
        rasterized=len(points) > style.MANY,
    )  # fmt: skip
    axis.set_yscale("log")
    return drawn


def _conductivities(axis, transport, structure_id, source):
    row = transport[(transport["structure_id"] == structure_id) & (transport["source"] == source)].iloc[0]
    text = (
        f"$\\kappa_\\mathrm{{p}}$ {row['kappa_p_w_per_m_k']:.2g}, $\\kappa_\\mathrm{{c}}$ "
        f"{row['kappa_c_w_per_m_k']:.2g} W m$^{{-1}}$ K$^{{-1}}$"
    )
    axis.set_title(text, loc="right", fontsize=7)


def _reason(transport, compound, source):
    rows = rows_of(transport[transport["source"] == source], *FIGURE7[compound])
    if not len(rows):
        return "not in the manifest"
    return f"not solved with {source} forces\n{rows['status'].iloc[0]}: {rows['reason'].iloc[0]}"
