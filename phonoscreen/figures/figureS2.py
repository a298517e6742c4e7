"""Figure S2: growth of the training data and supercells recommended in each round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from matplotlib.ticker import MaxNLocator

from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


def draw(rounds: pandas.DataFrame, histories: pandas.DataFrame, *, reference: str) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    rounds, histories : tables of those names
    reference : name of the reference
    """
    figure, axes = style.new_figure(style.DOUBLE, 65, columns=3)
    growth, query, training = axes[0]
    for axis, letter in zip(axes[0], "abc"):
        style.panel(axis, letter)
    if not len(rounds):
        for axis in axes[0]:
            style.nothing_to_show(axis, "no round was trained")
        return figure, f"**Figure S2.** Reference: {reference}. No round was trained."
    number = rounds["round"].to_numpy()
    growth.bar(number, rounds["n_environments_augmented"], color=style.SKY, width=0.7, label="with rotated copies")
    growth.bar(number, rounds["n_environments"], color=style.BLUE, width=0.7, label="from supercells")
    for x, y, n in zip(number, rounds["n_environments_augmented"], rounds["n_structures"]):
        growth.annotate(f"{n:,}", (x, y), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7)
    growth.set(xlabel="round", ylabel="atomic environments")
    growth.set_ylim(0, rounds["n_environments_augmented"].max() * 1.5)
    growth.legend(loc="upper left")
    asked = rounds[rounds["n_recommended"].notna()]
    if len(asked):
        query.plot(asked["round"], asked["n_recommended"], "o-", color=style.BLACK, label="recommended")
        query.plot(asked["round"], asked["n_selected"], "^--", color=style.RED, label="labelled")
        query.set(xlabel="round", ylabel="structures")
        query.set_ylim(-0.05, max(asked["n_recommended"].max(), 1) * 1.35)
        query.yaxis.set_major_locator(MaxNLocator(integer=True))
        query.legend(loc="upper right")
    else:
        style.nothing_to_show(query, "no round has asked for labels")
    _training(training, histories)
    for axis in (growth, query):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    most = int(rounds["n_structures"].max())
    caption = (
        f"**Figure S2.** Reference: {reference}. (a) Atomic environments trained on in each round, with their rotated "
        f"copies; above the bars the number of structures ({style.structures(most)} at the end). (b) Structures whose "
        f"uncertainty exceeds the threshold, and those labelled. (c) Force RMSE on training and held-out structures "
        f"over all rounds, mean of the committee."
    )
    return figure, caption


def _training(axis, histories):
    if not len(histories):
        return style.nothing_to_show(axis, "no training history")
    values = ["training_rmse_mev_per_angstrom", "held_out_rmse_mev_per_angstrom"]
    mean = histories.groupby(["round", "epoch"], as_index=False)[values].mean()
    steps = numpy.arange(1, len(mean) + 1)
    for name, label, colour, line in zip(values, ("training", "held out"), (style.BLACK, style.RED), ("-", "--")):
        axis.plot(steps, mean[name], line, color=colour, label=label)
    for start in steps[1:][numpy.diff(mean["round"]) != 0]:
        axis.axvline(start, color="#999999", linewidth=0.6, linestyle=":")
    axis.set(xlabel="epoch, all rounds", ylabel="force RMSE (meV Å$^{-1}$)", yscale="log")
    low, high = axis.get_ylim()
    axis.set_ylim(low, 1.5 * high)
    style.log_ticks(axis.yaxis, low, 1.5 * high)
    axis.legend(loc="upper right", ncols=2)
