"""Figure S6: ratio of coherences to particle-like conductivity, predicted against reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.analysis.comparison import pairs
from phonoscreen.analysis.metrics import log_parity
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
    figure, axes = style.new_figure(style.SINGLE, 88)
    axis = axes[0, 0]
    ratios = transport.assign(ratio=transport["kappa_c_w_per_m_k"] / transport["kappa_p_w_per_m_k"])
    both = pairs(ratios, "ratio")
    both = both[(both["reference"] > 0) & (both["predicted"] > 0)]
    if len(both):
        style.diagonal(axis, both[["reference", "predicted"]].to_numpy().ravel(), log=True, factor=2)
        style.scatter_by_space_group(axis, both["reference"], both["predicted"], both["space_group_number"])
        symbol = "$\\kappa_\\mathrm{c}$ / $\\kappa_\\mathrm{p}$"
        axis.set(xlabel=f"reference {symbol}", ylabel=f"predicted {symbol}")
        agreement = log_parity(both["reference"], both["predicted"])
        lines = [f"$R^2$ = {agreement.r2:.2f} (log)", f"MAE = {agreement.mae:.2f} (log$_{{10}}$)"]
        style.note(axis, "\n".join([*lines, f"n = {agreement.n:,}"]))
        axis.legend(title="space group", loc="lower right", handletextpad=0.1)
    else:
        style.nothing_to_show(axis, "no structure has coherences\nfrom both kinds of forces")
    caption = (
        f"**Figure S6.** Reference: {reference}. Ratio of coherences to particle-like thermal conductivity from "
        f"predicted against reference forces, {style.structures(len(both))}. Solid: equality, dashed: factor 2."
    )
    return figure, caption
