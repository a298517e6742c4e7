"""Figure S1: time per supercell of the reference and of the network against the number of atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(timings: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    timings : table of that name
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.SINGLE, 75)
    axis = axes[0, 0]
    labels = {"reference": reference, "predicted": "committee of this study"}
    for source, marker in (("reference", "o"), ("predicted", "^")):
        points = timings[timings["source"] == source]
        axis.scatter(
            points["n_supercell_atoms"], points["seconds_per_supercell"], s=style.point_area(len(points)),
            marker=marker, linewidths=0, color=style.COLOUR[source], rasterized=len(points) > style.MANY,
            label=f"{labels[source]}, n = {len(points):,}",
        )  # fmt: skip
    if len(timings):
        axis.set(yscale="log", xlabel="atoms in the supercell", ylabel="time per supercell (s)")
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * 8)
        style.log_ticks(axis.yaxis, low, high * 8)
        axis.legend(loc="upper left", handletextpad=0.1)
    else:
        style.nothing_to_show(axis, "no supercell has a time")
    caption = (
        f"**Figure S1.** Reference: {reference}. Wall time of the forces of one displaced supercell against its number "
        f"of atoms, {style.structures(timings['structure_id'].nunique())}."
    )
    return figure, caption
