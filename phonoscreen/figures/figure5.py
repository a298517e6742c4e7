"""Figure 5: map of bonding and antibonding in two definitions, coloured by thermal conductivity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.colors import LogNorm

from phonoscreen.analysis.bonding import CORNER_ANTIBONDING_MIN, CORNER_BONDING_MAX, corner_in_words
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_DEFINITIONS = {"ev": "eV per pair", "kj_per_mol": "kJ/mol per relevant bond"}


def draw(bonding: pandas.DataFrame, *, reference: str, cohp_engine: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    bonding : table of that name
    reference : name of the reference
    cohp_engine : program behind the COHP
    """
    figure, axes = style.new_figure(style.DOUBLE, 80, columns=2, layout="constrained")
    known = bonding[bonding["status"] == "ok"]
    solved = known[known["kappa_p_w_per_m_k"] > 0]
    for axis, (unit, words) in zip(axes[0], _DEFINITIONS.items(), strict=True):
        points = _draw_map(axis, known, unit)
        axis.set(xlabel=f"bonding ({words})", ylabel=f"antibonding ({words})")
        if not len(known):
            style.nothing_to_show(axis, "no structure has COHP curves")
    if len(known):
        axes[0, 0].set_title(f"n = {len(known):,}", loc="left")
        axes[0, 1].plot(
            [0, CORNER_BONDING_MAX, CORNER_BONDING_MAX], [CORNER_ANTIBONDING_MIN] * 2 + [axes[0, 1].get_ylim()[1]],
            color="#999999", linewidth=0.7, linestyle="--",
        )  # fmt: skip
    if len(solved):
        bar = figure.colorbar(points, ax=axes[0, 1], label=f"predicted {style.KAPPA}", pad=0.02)
        kappa = solved["kappa_p_w_per_m_k"]
        style.log_ticks(bar.ax.yaxis, kappa.min(), kappa.max())
    caption = (
        f"**Figure 5.** Bonding and antibonding of {style.structures(len(known))} from COHP curves "
        f"({cohp_engine}), left the mean over all pairs of atoms, right a reconstruction of the paper's axes: the mean "
        "over the bonds above a tenth of the strongest ICOHP, with the corner that the paper singles out. "
        f"Coloured by the particle-like thermal conductivity from predicted forces ({len(solved)} solved). "
        f"{corner_in_words(known)} The force model learned from this reference: {reference}."
    )
    return figure, caption


def _draw_map(axis, known, unit):
    """Draw one definition; return the coloured points, or None."""
    solved = known[known["kappa_p_w_per_m_k"] > 0].sort_values("kappa_p_w_per_m_k", ascending=False)
    unsolved = known[~(known["kappa_p_w_per_m_k"] > 0)]
    columns = f"bonding_{unit}", f"antibonding_{unit}"
    if len(unsolved):
        axis.scatter(*(unsolved[name] for name in columns), s=14, marker="x", color="#999999", linewidths=0.7)
    if not len(solved):
        return None
    return axis.scatter(
        *(solved[name] for name in columns), c=solved["kappa_p_w_per_m_k"], cmap=style.SEQUENTIAL, norm=LogNorm(),
        s=1.3 * style.point_area(len(solved)), edgecolors="black",
        linewidths=0.3 if len(solved) <= style.MANY else 0, rasterized=len(solved) > style.MANY,
    )  # fmt: skip
