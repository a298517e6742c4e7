"""Figure 3: harmonic properties from predicted against reference forces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.analysis.comparison import pairs
from phonoscreen.analysis.metrics import log_parity, parity
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

# column, factor to the unit shown, symbol, unit, logarithmic
PANELS = [
    ("heat_capacity_j_per_m3_k", 1e-6, "$c_v$", "10$^6$ J m$^{-3}$ K$^{-1}$", False),
    ("sound_velocity_m_per_s", 1e-3, "$V_\\mathrm{s}$", "km s$^{-1}$", False),
    ("p3_total", 1.0, "$P_3$", "ps", True),
    ("msd_max_angstrom2", 1.0, "max MSD", "Å$^2$", True),
]


def draw(transport: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    transport : table of that name
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 172, rows=2, columns=2)
    counts = []
    for axis, letter, (column, factor, symbol, unit, log) in zip(axes.ravel(), "abcd", PANELS):
        style.panel(axis, letter)
        both = pairs(transport, column)
        if log:  # a coarse mesh may leave no scattering phase space at all
            both = both[(both["reference"] > 0) & (both["predicted"] > 0)]
        counts.append(len(both))
        if not len(both):
            style.nothing_to_show(axis, "no structure has this property\nfrom both kinds of forces")
            continue
        first, second = both["reference"] * factor, both["predicted"] * factor
        style.diagonal(axis, [*first, *second], log=log)
        style.scatter_by_space_group(axis, first, second, both["space_group_number"])
        axis.set(xlabel=f"reference {symbol} ({unit})", ylabel=f"predicted {symbol} ({unit})")
        agreement, linear = (log_parity if log else parity)(first, second), parity(first, second)
        lines = [f"$R^2$ = {agreement.r2:.3f}" + (" (log)" if log else ""), f"MAE = {linear.mae:.2g} {unit}"]
        if log:
            lines.append(f"MAE = {agreement.mae:.2g} (log$_{{10}}$)")
        style.note(axis, "\n".join([*lines, f"n = {agreement.n:,}"]))
        if letter == "a":
            axis.legend(title="space group", loc="lower right", handletextpad=0.1)
    caption = (
        f"**Figure 3.** Reference: {reference}. (a) Heat capacity at constant volume, (b) speed of sound, (c) three-"
        f"phonon scattering phase space and (d) largest mean square displacement of the atoms, from predicted against "
        f"reference forces, {style.structures(max(counts))} stable with both. Solid: equality."
    )
    return figure, caption
