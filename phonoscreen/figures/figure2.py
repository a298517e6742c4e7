"""Figure 2: errors of the phonon frequencies, and thermal conductivity against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from matplotlib.ticker import MaxNLocator

from phonoscreen.analysis.comparison import pairs
from phonoscreen.analysis.metrics import log_parity
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from matplotlib.typing import HashableList

MOSAIC: list[HashableList[str]] = [["low", "middle", "high", "kappa"], ["errors", "errors", "errors", "kappa"]]


def draw(
    phonons: pandas.DataFrame, dispersions: pandas.DataFrame, transport: pandas.DataFrame, *, reference: str
) -> tuple[Figure, str]:
    """Return the figure and its caption.

    Parameters
    ----------
    phonons, dispersions, transport : tables of those names
    reference : name of the reference
    """
    ratios = {"width_ratios": [1, 1, 1, 3.6], "height_ratios": [1, 1.5]}
    figure, axes = style.new_mosaic(style.DOUBLE, 84, MOSAIC, **ratios)
    errors = phonons[(phonons["status_reference"] == "ok") & phonons["frequency_rmse_relative"].notna()]
    kappa = pairs(transport, "kappa_p_w_per_m_k")
    kappa = kappa[(kappa["reference"] > 0) & (kappa["predicted"] > 0)]
    _band_structures([axes["low"], axes["middle"], axes["high"]], errors, dispersions)
    _frequency_errors(axes["errors"], errors)
    _conductivity(axes["kappa"], kappa)
    style.panel(axes["low"] if len(errors) else axes["errors"], "a")
    style.panel(axes["kappa"], "b")
    untrained = int((~kappa["trained"].astype(bool)).sum())
    caption = (
        f"**Figure 2.** Reference: {reference}. (a) RMSE of the phonon frequencies along the band path divided by the "
        f"frequency range, {style.structures(len(errors))} stable with reference forces; above: band structures at "
        f"the 10, 50 and 90 % quantile, reference black, predicted red. (b) Particle-like thermal conductivity at "
        f"{_temperature(transport)} from predicted against reference forces, {style.structures(len(kappa))}; solid: "
        f"equality, dashed: factor 2. Inset, on the same scale: {style.structures(untrained)} that no round was "
        f"trained on."
    )
    return figure, caption


def _temperature(transport):
    values = transport["temperature_k"].dropna().unique()
    return " and ".join(f"{value:g} K" for value in sorted(values)) or "the set temperature"


def _band_structures(axes, errors, dispersions):
    shown = errors[errors["structure_id"].isin(dispersions["structure_id"])].sort_values("frequency_rmse_relative")
    for axis, row in zip(axes, shown.to_dict("records")):
        _bands(axis, dispersions[dispersions["structure_id"] == row["structure_id"]])
        name, percent = style.formula(row["formula"]), 100 * row["frequency_rmse_relative"]
        axis.set_title(f"{name}\n{percent:.1f} %", fontsize=7, pad=2)
    axes[0].set_ylabel("frequency (THz)")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)


def _bands(axis, bands):
    for source in ("reference", "predicted"):
        colour = style.COLOUR[source]
        for _, branch in bands[bands["source"] == source].groupby("band"):
            axis.plot(branch["distance_per_angstrom"], branch["frequency_thz"], color=colour, linewidth=0.5)
    points = bands[(bands["band"] == 0) & (bands["label"] != "")].drop_duplicates("distance_per_angstrom")
    labels = points["label"].str.replace("G", "Γ").where(~points["label"].str.contains("|", regex=False), "")
    for distance in points["distance_per_angstrom"]:
        axis.axvline(distance, color="#bbbbbb", linewidth=0.4, zorder=0)
    axis.set(xlim=(bands["distance_per_angstrom"].min(), bands["distance_per_angstrom"].max()))
    axis.set_xticks(points["distance_per_angstrom"], labels)
    axis.tick_params(axis="x", top=False, length=0, pad=2.5)
    axis.tick_params(axis="y", length=2, pad=1.5)
    axis.yaxis.set_major_locator(MaxNLocator(3))


def _frequency_errors(axis, errors):
    if not len(errors):
        return style.nothing_to_show(axis, "no structure is stable with reference forces\nand has both band structures")
    percent = 100 * errors["frequency_rmse_relative"].to_numpy()
    top = max(numpy.quantile(percent, 0.98) * 1.25, 1e-3)
    bins = int(numpy.clip(2 * numpy.sqrt(len(percent)), 8, 50))
    axis.hist(numpy.clip(percent, 0, top), bins=bins, range=(0, top), color=style.SKY, edgecolor="white", linewidth=0.4)
    axis.axvline(percent.mean(), color=style.BLACK, linestyle=style.DASHED, linewidth=0.8)
    axis.set(xlabel="frequency RMSE / frequency range (%)", ylabel="structures", xlim=(0, top))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    lines = f"mean {percent.mean():.2f} % (dashed)\nmedian {numpy.median(percent):.2f} %\nn = {len(percent):,}"
    style.note(axis, lines, "upper right", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})


def _conductivity(axis, kappa):
    if not len(kappa):
        return style.nothing_to_show(axis, "no structure has a conductivity\nfrom both kinds of forces")
    values = kappa[["reference", "predicted"]].to_numpy().ravel()
    style.diagonal(axis, values, log=True, factor=2)
    style.scatter_by_space_group(axis, kappa["reference"], kappa["predicted"], kappa["space_group_number"])
    axis.set(xlabel=f"reference {style.KAPPA}", ylabel=f"predicted {style.KAPPA}")
    axis.legend(title="space group", loc="lower right", handletextpad=0.1, borderaxespad=0.2)
    agreement = log_parity(kappa["reference"], kappa["predicted"])
    lines = [f"$R^2$ = {agreement.r2:.2f}", f"MAE = {agreement.mae:.2f} (factor {10**agreement.mae:.2f})"]
    style.note(axis, "\n".join([*lines, f"n = {agreement.n:,}"]))
    untrained = kappa[~kappa["trained"].astype(bool)]
    if len(untrained):
        inset = axis.inset_axes([0.04, 0.43, 0.30, 0.30])
        style.diagonal(inset, values, log=True, factor=2)
        groups = untrained["space_group_number"]
        style.scatter_by_space_group(inset, untrained["reference"], untrained["predicted"], groups, scale=0.4)
        inset.set_title(f"untrained, n = {len(untrained):,}", fontsize=7, pad=2)
        inset.tick_params(which="both", labelbottom=False, labelleft=False, length=2)
        inset.minorticks_off()
