"""Figure S3: force components on untrained structures, this study's model and universal potentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from phonoscreen.analysis.comparison import OURS, pooled_errors
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(force_errors: pandas.DataFrame, force_components: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    force_errors, force_components : tables of those names
    reference : name of the reference
    """
    models = [OURS, *sorted(set(force_components["model"]) - {OURS})]
    figure, axes = style.new_figure(style.DOUBLE, 68, columns=max(len(models), 2), sharex=True, sharey=True)
    pooled = pooled_errors(force_errors)
    values = force_components[["reference_ev_per_angstrom", "predicted_ev_per_angstrom"]].to_numpy().ravel()
    for axis, model, letter in zip(axes[0], models, "abcdefgh"):
        style.panel(axis, letter)
        axis.set_title(model)
        mine = force_components[force_components["model"] == model]
        if not len(mine):
            style.nothing_to_show(axis, "no labelled structure\nis untrained")
            continue
        limit = float(numpy.quantile(abs(values), 0.9995)) * 1.1
        style.diagonal(axis, [-limit, limit])
        axis.scatter(
            mine["reference_ev_per_angstrom"], mine["predicted_ev_per_angstrom"], s=2, linewidths=0, alpha=0.35,
            color=style.RED if model == OURS else style.BLUE, rasterized=True, zorder=2,
        )  # fmt: skip
        row = pooled.loc[model]
        style.note(
            axis,
            f"RMSE {row['force_rmse_mev_per_angstrom']:.1f} meV Å$^{{-1}}$\n"
            f"{100 * row['force_rmse_relative']:.0f} % of the RMS\nn = {int(row['n_structures'])}",
        )
        axis.set_xlabel("reference force (eV Å$^{-1}$)")
    for axis in axes[0][len(models) :]:
        axis.set_visible(False)
    axes[0, 0].set_ylabel("force of the model (eV Å$^{-1}$)")
    n = force_errors["structure_id"].nunique()
    caption = (
        f"**Figure S3.** Reference: {reference}. Components of the forces on displaced supercells of "
        f"{style.structures(n)} that no round was trained on: the model of this study and universal potentials as "
        f"baselines. RMSE over all components; the points are a sample of them, equal for every model."
    )
    return figure, caption
