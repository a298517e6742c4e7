"""Figure 4: thermal conductivity against the largest mean square displacement, and the filter it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from phonoscreen.analysis.screening import screen
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(transport: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    transport : table of that name
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 84, columns=2, sharex=True, sharey=True)
    result = screen(transport)
    for axis, letter, source in zip(axes[0], "ab", ("reference", "predicted")):
        style.panel(axis, letter)
        _panel(axis, source, result)
    axes[0, 0].set_ylabel(style.KAPPA)
    if result is None:
        return figure, f"**Figure 4.** Reference: {reference}. Too few solved structures to define the scale."
    caption = (
        f"**Figure 4.** Reference: {reference}. Thermal conductivity against log(max MSD), normalised on the reference "
        f"structures, (a) for {style.structures(len(result.points['reference']))} with reference forces and (b) for "
        f"{style.structures(len(result.points['predicted']))} outside the training part with predicted forces. "
        f"Black line: fit to the reference, red line: fit to the predictions."
    )
    if result.threshold is not None:
        caption += (
            f" Dashed: the filter at max MSD = {result.threshold_msd_angstrom2:.3f} Å² ({result.threshold:.3f} "
            f"normalised), where the reference line reaches {result.kappa_w_per_m_k:.2f} W/m/K."
        )
    return figure, caption


def _panel(axis, source, result):
    if result is None or not len(result.points[source]):
        return style.nothing_to_show(axis, f"too few structures solved\nwith {source} forces")
    points = result.points[source]
    style.scatter_by_space_group(axis, points["x"], points["kappa"], points["space_group_number"])
    ends = numpy.array([min(0.0, points["x"].min()), max(1.0, points["x"].max())])
    for name, line in result.lines.items():
        if line is not None and (name == "reference" or source == "predicted"):
            axis.plot(ends, line.kappa(ends), color=style.COLOUR[name], label=f"fit, {name}", zorder=3)
    if result.threshold is not None:
        axis.axvline(result.threshold, color=style.GREY, linestyle=style.DASHED, linewidth=0.8)
    axis.axhline(1.0, color=style.GREY, linestyle=":", linewidth=0.6)
    axis.set(yscale="log", xlabel="normalised log(max MSD)")
    style.log_ticks(axis.yaxis, *axis.get_ylim())
    axis.legend(loc="lower left", ncols=2, columnspacing=0.8, handletextpad=0.3)
    axis.set_title(f"{source}, n = {len(points):,}")
