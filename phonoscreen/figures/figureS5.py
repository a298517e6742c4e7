"""Figure S5: map of the structure vectors, coloured by space group, conductivity and displacement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.colors import LogNorm

from phonoscreen.analysis.screening import screen
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(embedding: pandas.DataFrame, transport: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    embedding, transport : tables of those names
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 78, columns=3, sharex=True, sharey=True)
    placed = embedding.dropna(subset=["tsne_1", "tsne_2"])
    result = screen(transport)
    scale = result.scale if result else None
    solved = transport[(transport["source"] == "predicted") & (transport["status"] == "ok")]
    solved = solved[["structure_id", "kappa_p_w_per_m_k", "msd_max_angstrom2"]]
    solved = placed.merge(solved[solved["kappa_p_w_per_m_k"] > 0], on="structure_id")
    for axis, letter in zip(axes[0], "abc"):
        style.panel(axis, letter)
        axis.set(xticks=[], yticks=[], xlabel="t-SNE 1")
        axis.set_box_aspect(1)
    axes[0, 0].set_ylabel("t-SNE 2")
    if len(placed):
        groups = axes[0, 0]
        style.scatter_by_space_group(groups, placed["tsne_1"], placed["tsne_2"], placed["space_group_number"])
        legend = groups.legend(
            title="space group", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, handletextpad=0,
            columnspacing=0.5,
        )  # fmt: skip
        legend.set_in_layout(not len(solved))  # there is room for it beside the colour bars of the other panels
    else:
        style.nothing_to_show(axes[0, 0], "fewer than four structures:\nno map can be drawn")
    if len(solved):
        _coloured(figure, axes[0, 1], solved, solved["kappa_p_w_per_m_k"], f"predicted {style.KAPPA}", norm=LogNorm())
    else:
        style.nothing_to_show(axes[0, 1], "no structure is solved\nwith predicted forces")
    if len(solved) and scale is not None:
        label = "1 − normalised log(max MSD)"
        _coloured(figure, axes[0, 2], solved, 1 - scale.normalise(solved["msd_max_angstrom2"]), label)
    else:
        style.nothing_to_show(axes[0, 2], "no reference structures\nto normalise with")
    caption = (
        f"**Figure S5.** t-SNE map of the elemental spatial density at the centre of the cell of "
        f"{style.structures(len(placed))}, coloured by (a) space group, (b) particle-like thermal conductivity from "
        f"predicted forces and (c) one minus log(max MSD), normalised on the reference structures ({len(solved)} "
        f"solved). Reference: {reference}."
    )
    return figure, caption


def _coloured(figure, axis, points, values, label, **options):
    many = len(points) > style.MANY
    drawn = axis.scatter(
        points["tsne_1"], points["tsne_2"], c=values, cmap=style.SEQUENTIAL, s=style.point_area(len(points)),
        edgecolors="black", linewidths=0 if many else 0.2, rasterized=many, **options,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axis, orientation="horizontal", label=label, pad=0.03, shrink=0.9)
