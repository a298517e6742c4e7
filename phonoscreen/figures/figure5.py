"""Figure 5: map of bonding and antibonding, coloured by thermal conductivity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.colors import LogNorm

from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(bonding: pandas.DataFrame, *, reference: str, cohp_engine: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    bonding : table of that name
    reference : name of the reference
    cohp_engine : program behind the COHP
    """
    figure, axes = style.new_figure(style.SINGLE * 1.15, 80)
    axis = axes[0, 0]
    known = bonding[bonding["status"] == "ok"]
    solved = known[known["kappa_p_w_per_m_k"] > 0]
    unsolved = known[~(known["kappa_p_w_per_m_k"] > 0)]
    if len(known):
        axis.scatter(
            unsolved["bonding_ev"], unsolved["antibonding_ev"], s=14, marker="x", color="#999999", linewidths=0.7,
            label="no predicted $\\kappa_\\mathrm{p}$",
        )  # fmt: skip
    else:
        style.nothing_to_show(axis, "no structure has COHP curves")
    if len(solved):
        kappa = solved.sort_values("kappa_p_w_per_m_k", ascending=False)
        points = axis.scatter(
            kappa["bonding_ev"], kappa["antibonding_ev"], c=kappa["kappa_p_w_per_m_k"], cmap=style.SEQUENTIAL,
            norm=LogNorm(), s=1.3 * style.point_area(len(kappa)), edgecolors="black",
            linewidths=0.3 if len(kappa) <= style.MANY else 0, rasterized=len(kappa) > style.MANY,
        )  # fmt: skip
        bar = figure.colorbar(points, ax=axis, label=f"predicted {style.KAPPA}", pad=0.02)
        low, high = kappa["kappa_p_w_per_m_k"].min(), kappa["kappa_p_w_per_m_k"].max()
        style.log_ticks(bar.ax.yaxis, low, high)
    if len(known):
        axis.set(xlabel="bonding (eV per pair)", ylabel="antibonding (eV per pair)")
        axis.set_title(f"n = {len(known):,}", loc="left")
        if len(unsolved):
            axis.legend(loc="lower right", bbox_to_anchor=(1.03, 0.98), handletextpad=0.1)
    caption = (
        f"**Figure 5.** Bonding and antibonding of {style.structures(len(known))} from COHP curves "
        f"({cohp_engine}), mean over the pairs of atoms, coloured by the particle-like thermal conductivity from "
        f"predicted forces ({len(solved)} solved). The force model learned from this reference: {reference}."
    )
    return figure, caption
