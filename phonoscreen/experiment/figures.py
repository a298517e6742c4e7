"""Figures of the experiment on force models, drawn from its tables only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy

from phonoscreen.experiment.measures import KAPPA, PAPER_SIZE
from phonoscreen.figures import style

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

# The paper's errors on compounds it was not trained on (forces) and on all compared ones, at 3182 training structures.
PAPER = {"force_rmse_mev_per_angstrom": 29.3, "frequency_error_mean": 0.0188, "log_kappa_mae": 0.254}
_COLOURS = (style.BLUE, style.RED, style.GREEN, style.PURPLE)
_QUANTITIES = {
    "force_rmse_mev_per_angstrom": "force RMSE (meV Å$^{-1}$)",
    "force_rmse_relative": "force RMSE / RMS",
    "frequency_error_mean": "frequency RMSE / range",
    "log_kappa_mae": "MAE of log$_{10}$ $\\kappa_\\mathrm{p}$",
}
_STRATEGIES = {"worst_supercell": "most uncertain", "diverse": "uncertain and diverse", "random": "random"}


def colours_of(models: Iterable[str]) -> dict[str, str]:
    """Return one colour per model, the same in every figure."""
    return dict(zip(sorted(models), _COLOURS))


def words(name: str) -> str:
    """Return the name of a model as it is written in figures and tables."""
    return {"elemental_sdnnff": "Elemental-SDNNFF"}.get(name, name.replace("_", " "))


def draw_curves(tables: Mapping[str, pandas.DataFrame], reference: str) -> tuple[Figure, str]:
    """Errors on compounds never seen against the number of compounds trained on, with power laws."""
    figure, axes = style.new_figure(style.DOUBLE, 125, rows=2, columns=2)
    forces, promises = tables["forces"], tables["promises"]
    trained = forces[forces["size"].notna()]
    colours = colours_of(trained["model"].unique())
    for axis, letter, (quantity, label) in zip(axes.flat, "abcd", _QUANTITIES.items()):
        style.panel(axis, letter)
        shown = _curve_values(trained, tables["properties"], quantity)
        for (model, name), group in shown.groupby(["model", "set"]):
            filled = name == "unseen"
            axis.scatter(
                group["size"], group["value"], s=16, color=colours[model] if filled else "none", zorder=3,
                edgecolors=colours[model], linewidths=0.8,
                label=f"{words(model)}, {'never seen' if filled else 'known'}",
            )  # fmt: skip
        laws: Any = promises[promises["quantity"] == quantity].itertuples()
        for law in laws:
            sizes = numpy.geomspace(shown["size"].min(), PAPER_SIZE, 60)
            line = "-" if law.exponent_low > 0 else ":"
            axis.plot(sizes, law.scale * sizes**-law.exponent, line, color=colours[law.model], linewidth=0.9)
            span = [[law.promise - law.promise_low], [law.promise_high - law.promise]]
            axis.errorbar(
                [PAPER_SIZE], [law.promise], span, fmt="_", color=colours[law.model], capsize=2, linewidth=0.9
            )
        if quantity in PAPER:
            axis.scatter([PAPER_SIZE], [PAPER[quantity]], marker="*", s=45, color=style.ORANGE, zorder=4, label="paper")
        potentials = forces[forces["size"].isna()] if quantity in forces else forces.iloc[:0]
        rows: Any = potentials.sort_values(quantity).itertuples() if len(potentials) else ()
        for row, dashes, side in zip(rows, (":", style.DASHED), ("top", "bottom")):
            value = getattr(row, quantity)
            axis.axhline(value, color=style.GREY, linewidth=0.7, linestyle=dashes)
            axis.annotate(row.model, (PAPER_SIZE / 2, value), fontsize=6, va=side, ha="right", color=style.GREY)
        axis.set(xlabel="compounds trained on", ylabel=label, xscale="log", yscale="log")
        style.log_ticks(axis.xaxis, *axis.get_xlim())
        style.log_ticks(axis.yaxis, *axis.get_ylim())
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=6)
    n = int(trained.loc[trained["set"] == "unseen", "n_structures"].max())
    return figure, (
        f"**Learning curves.** Reference: {reference}. Single members, every repeat; filled: {n} compounds never seen; "
        f"open: supercells not trained on of compounds trained on. Lines: power laws through the compounds never seen "
        f"that have a value at every size, with the value they promise for the paper's {PAPER_SIZE} structures and "
        f"90 % of the laws resampled over compounds and repeats (dotted where the exponent may be zero). Star: the "
        f"paper's networks against DFT. Grey: universal potentials on the same supercells. (c, d) compounds stable "
        f"with the reference."
    )


def _curve_values(forces, properties, quantity):
    if quantity in forces:
        single = {"force_rmse_mev_per_angstrom": "force_rmse_single_member_mev_per_angstrom"}.get(quantity)
        values = forces[single] if single else (
            forces["force_rmse_single_member_mev_per_angstrom"] / forces["force_rms_mev_per_angstrom"]
        )  # fmt: skip
        return forces[["model", "size", "set"]].assign(value=values.astype(float)).astype({"size": float})
    single = properties[properties["members"] == 1]
    return single[["model", "size", "set"]].assign(value=single[quantity]).dropna().astype({"size": float})


def draw_phonons(tables: Mapping[str, pandas.DataFrame], reference: str) -> tuple[Figure, str]:
    """Conductivity and frequency errors of the committees, compound by compound."""
    phonons = tables["phonons"]
    phonons = phonons[phonons["members"] == phonons["members"].max()]
    models = sorted(phonons["model"].unique())
    figure, axes = style.new_figure(style.DOUBLE, 62 * len(models), rows=len(models), columns=3)
    colours = colours_of(models)
    for row, model in zip(axes, models):
        mine = phonons[phonons["model"] == model]
        for axis, name in zip(row, ("unseen", "known")):
            both = mine[mine["set"] == name].dropna(subset=[f"{KAPPA}_reference", f"{KAPPA}_predicted"])
            title = f"{words(model)}, {'never seen' if name == 'unseen' else 'known'}"
            axis.set_title(title)
            if not len(both):
                style.nothing_to_show(axis, "no compound has both conductivities")
                continue
            pair = both[f"{KAPPA}_reference"], both[f"{KAPPA}_predicted"]
            style.scatter_by_space_group(axis, *pair, both["space_group_number"])
            style.diagonal(axis, numpy.concatenate(pair), log=True, factor=2)
            axis.set(xlabel=f"reference {style.KAPPA}", ylabel=f"predicted {style.KAPPA}")
        axis = row[2]
        stable = mine[mine["status_reference"] == "ok"]
        for name, line in (("unseen", "-"), ("known", "--")):
            errors = numpy.sort(100 * stable.loc[stable["set"] == name, "frequency_rmse_relative"].dropna())
            if len(errors):
                share = numpy.arange(1, len(errors) + 1) / len(errors)
                label = "never seen" if name == "unseen" else name
                axis.step(errors, share, line, where="post", color=colours[model], label=f"{label} ({len(errors)})")
        axis.axvline(100 * PAPER["frequency_error_mean"], color=style.ORANGE, linewidth=0.8, label="mean of the paper")
        axis.set(xlabel="frequency RMSE / range (%)", ylabel="part of the compounds", xscale="log", ylim=(0, 1))
        style.log_ticks(axis.xaxis, *axis.get_xlim())
        axis.legend(loc="lower right")
    axes[0, 0].legend(loc="upper left", title="space group", handletextpad=0.2)
    return figure, (
        f"**Phonons from predicted forces.** Reference: {reference}. Mean forces of a committee at the largest "
        f"training set. Left and middle: thermal conductivity at 300 K of compounds stable with both; dashed: a factor "
        f"of two. Right: part of the compounds (number in brackets, stable with the reference) whose frequency error "
        f"is lower."
    )


def draw_calibration(tables: Mapping[str, pandas.DataFrame], reference: str) -> tuple[Figure, str]:
    """Disagreement of the committees against their true error."""
    bins, calibration = tables["bins"], tables["calibration"].set_index(["model", "set"])
    models = sorted(bins["model"].unique())
    figure, axes = style.new_figure(style.SINGLE * len(models), 80, columns=len(models))
    for axis, model in zip(axes[0], models):
        for name, colour in (("unseen", style.RED), ("known", style.BLUE)):
            part = bins[(bins["model"] == model) & (bins["set"] == name)]
            if not len(part):
                continue
            facts = calibration.loc[(model, name)]
            label = f"{'never seen' if name == 'unseen' else name}: factor {facts['factor']:.2f}"
            axis.plot(part["epsilon"], part["error"], "o-", markersize=3, color=colour, label=label)
        style.diagonal(axis, bins[["epsilon", "error"]].to_numpy().ravel(), log=True)
        axis.set(xlabel="RMS $\\varepsilon$ (meV Å$^{-1}$)", ylabel="RMS error (meV Å$^{-1}$)", title=words(model))
        axis.legend(loc="lower right")
    return figure, (
        f"**Calibration.** Reference: {reference}. Atoms in twelve bins of equal count by the committee's disagreement "
        f"(Eq. (3) of the paper) against the length of the error vector of its mean; on the line the disagreement "
        f"would be an error bar. Factor: what makes it one, found on half of the compounds."
    )


def draw_selection(tables: Mapping[str, pandas.DataFrame], reference: str) -> tuple[Figure, str]:
    """Errors against the number of labelled compounds, by strategy."""
    table = tables["selection"]
    figure, axes = style.new_figure(style.DOUBLE, 70, columns=2)
    names = {"force_rmse_mev_per_angstrom": "force RMSE (meV Å$^{-1}$)",
             "force_rmse_relative_median": "median of force RMSE / RMS"}  # fmt: skip
    for axis, letter, (name, label) in zip(axes[0], "ab", names.items()):
        style.panel(axis, letter)
        for strategy, colour in zip(_STRATEGIES, (style.RED, style.GREEN, style.BLACK)):
            groups = table[table["strategy"] == strategy].groupby("n_compounds")[name]
            if not len(groups):
                continue
            mean, spread = groups.mean(), groups.std(ddof=0)
            axis.errorbar(mean.index, mean, spread, fmt="o-", markersize=3, color=colour, capsize=2,
                          label=_STRATEGIES[strategy])  # fmt: skip
        axis.set(xlabel="labelled compounds", ylabel=label)
    axes[0, 0].legend(loc="upper right")
    n = int(table["n_structures"].max())
    return figure, (
        f"**Selection.** Reference: {reference}. Active learning replayed on labelled compounds: error on {n} "
        f"compounds never seen after each round; mean and standard deviation over {table['repeat'].nunique()} starts, "
        f"equal for all strategies."
    )


DRAWINGS = {
    "curves": draw_curves,
    "phonons": draw_phonons,
    "calibration": draw_calibration,
    "selection": draw_selection,
}
