"""Figure 6: share of coherences in the thermal conductivity, reference and predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

MARKER = {"reference": ("o", "none"), "predicted": ("^", style.RED)}


def draw(transport: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    transport : table of that name
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.SINGLE * 1.1, 82)
    axis = axes[0, 0]
    solved = transport[(transport["status"] == "ok") & (transport["kappa_c_w_per_m_k"] > 0)]
    total = solved["kappa_p_w_per_m_k"] + solved["kappa_c_w_per_m_k"]
    solved = solved.assign(total=total, share=100 * solved["kappa_c_w_per_m_k"] / total)
    counts = {source: int((solved["source"] == source).sum()) for source in MARKER}
    for source, (marker, face) in MARKER.items():
        points = solved[solved["source"] == source]
        axis.scatter(
            points["total"], points["share"], s=style.point_area(len(solved)), marker=marker, facecolors=face,
            edgecolors=style.COLOUR[source], linewidths=0.7 if len(solved) <= style.MANY else 0.2,
            label=f"{source}, n = {len(points):,}", rasterized=len(solved) > style.MANY,
        )  # fmt: skip
    if len(solved):
        axis.axhline(50, color=style.GREY, linestyle=style.DASHED, linewidth=0.8)
        axis.set(xscale="log", yscale="log")
        axis.set_ylim(axis.get_ylim()[0], 130)
        style.log_ticks(axis.xaxis, *axis.get_xlim())
        style.log_ticks(axis.yaxis, *axis.get_ylim())
        axis.set(
            xlabel="$\\kappa_\\mathrm{total}$ (W m$^{-1}$ K$^{-1}$)",
            ylabel="$\\kappa_\\mathrm{c}$ / $\\kappa_\\mathrm{total}$ (%)",
        )
        axis.legend(loc="lower left", handletextpad=0.1)
    else:
        style.nothing_to_show(axis, "no structure has a coherence conductivity")
    caption = (
        f"**Figure 6.** Reference: {reference}. Share of the coherences in the total thermal conductivity, "
        f"{style.structures(counts['reference'])} with reference and {style.structures(counts['predicted'])} with "
        f"predicted forces. Dashed: 50 %, above which heat flows mainly wave-like."
    )
    return figure, caption
