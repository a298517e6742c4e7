"""Figures of one screened structure: band structure, and conductivity against temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.figures import style

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def draw_bands(arrays: Mapping[str, NDArray], title: str) -> Figure:
    """Return the figure of a band structure.

    Parameters
    ----------
    arrays : ``band/distances, band/frequencies_thz, band/labels`` of the stability check
    title : formula or id
    """
    figure, axes = style.new_figure(style.SINGLE, 65)
    axis, x = axes[0, 0], arrays["band/distances"]
    labels = [bytes(name).decode() for name in arrays["band/labels"]]
    axis.plot(x, arrays["band/frequencies_thz"], color=style.BLUE, linewidth=0.8)
    corners = [n for n, name in enumerate(labels) if name]
    for corner in corners:
        axis.axvline(x[corner], color=style.GREY, linewidth=0.5)
    axis.axhline(0, color=style.GREY, linewidth=0.5)
    axis.set_xticks([x[n] for n in corners], [labels[n].replace("G", "Γ") for n in corners])
    axis.set(xlim=(x[0], x[-1]), ylabel="frequency (THz)", title=style.plain(title))
    return figure


def draw_conductivity(arrays: Mapping[str, NDArray], title: str) -> Figure:
    """Return the figure of the conductivities against temperature.

    Parameters
    ----------
    arrays : ``curve/temperatures_k, curve/kappa_p_w_per_m_k, curve/kappa_c_w_per_m_k`` of the transport stage
    title : formula or id
    """
    figure, axes = style.new_figure(style.SINGLE, 65)
    axis, temperatures = axes[0, 0], arrays["curve/temperatures_k"]
    kinds = {"p": ("particle-like", style.BLUE, "o-"), "c": ("coherences", style.ORANGE, "s-")}
    drawn = []
    for symbol, (name, colour, marks) in kinds.items():
        kappa = arrays[f"curve/kappa_{symbol}_w_per_m_k"]
        shown = numpy.isfinite(kappa) & (kappa > 0)
        if shown.any():
            axis.plot(temperatures[shown], kappa[shown], marks, markersize=3, color=colour, label=name)
            drawn += [*kappa[shown]]
    if not drawn:
        style.nothing_to_show(axis, "no conductivity at any temperature")
        return figure
    axis.set(xscale="log", yscale="log", xlabel="temperature (K)", ylabel="conductivity (W m$^{-1}$ K$^{-1}$)")
    style.log_ticks(axis.xaxis, temperatures.min(), temperatures.max())
    style.log_ticks(axis.yaxis, min(drawn), max(drawn))
    axis.set_title(style.plain(title))
    axis.legend()
    return figure


def write_png(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG; it appears under its name when it is complete."""
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})
    style.plt.close(figure)
