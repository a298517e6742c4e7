"""Convergence, on request: conductivity against q mesh, broadening and third-order cutoff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.audit.foreign_text import markdown_text
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PANELS = {
    "mesh_density_angstrom": "q-mesh density (Å)",
    "scalebroad": "scalebroad",
    "third_cutoff_angstrom": "third-order cutoff (Å)",
}
COLOURS = [style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE, style.SKY]
MARKERS = "osv^D<"


def draw(convergence: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    convergence : table of that name
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 70, 1, len(PANELS), sharey=True)
    names = list(convergence["structure_id"].unique())
    for axis, letter, (varied, label) in zip(axes[0], "abc", PANELS.items(), strict=True):
        style.panel(axis, letter)
        axis.axhline(1, color=style.GREY, linestyle=style.DASHED, linewidth=0.6)
        for number, name in enumerate(names):
            rows = convergence[(convergence["structure_id"] == name) & (convergence["varied"] == varied)]
            rows, own = rows[rows["reason"] == ""], rows[rows["study"]]
            look = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6]}
            for column, line in (("kappa_p_w_per_m_k", "-"), ("kappa_p_rta_w_per_m_k", ":")):
                scale = own[column].iloc[0]
                axis.plot(
                    rows["value"], rows[column] / scale, line, **look, label=style.plain(name) if line == "-" else None
                )
            axis.plot(own["value"], [1], "o", markersize=8, fillstyle="none", color=style.BLACK)
        axis.set_xlabel(label)
    axes[0, 0].set_ylabel("$\\kappa_\\mathrm{p}$ / $\\kappa_\\mathrm{p}$(study)")
    if len(names):
        axes[0, -1].legend(loc="best")
    else:
        style.nothing_to_show(axes[0, 0], "no structure was solved")
    worst = convergence.groupby("structure_id")["kappa_p_w_per_m_k"].agg(lambda k: k.max() / k.min())
    caption = (
        f"**Convergence.** Reference: {reference}. Particle-like thermal conductivity of "
        f"{style.structures(len(names))}, over its value with the study's own choice (ring), when one choice is "
        f"varied: solid full solution, dotted relaxation time. "
        + "; ".join(f"{markdown_text(name)}: highest over lowest {ratio:.2f}" for name, ratio in worst.items())
        + "."
    )
    return figure, caption
