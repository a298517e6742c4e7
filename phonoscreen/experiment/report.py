"""The page of the experiment on force models: the paper's numbers beside those of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas

from phonoscreen.analysis.document import Document
from phonoscreen.experiment.measures import PAPER_SIZE, last_points

if TYPE_CHECKING:
    from pathlib import Path

_POTENTIALS = "universal potential"


def report(
    tables: Mapping[str, pandas.DataFrame],
    published: Mapping[str, Any],
    figures: Iterable[tuple[str | Path, str]],
    *,
    reference: str,
) -> Document:
    """Return the page.

    Parameters
    ----------
    tables : dict of the tables ``forces, elements, prototypes, calibration, properties, promises, selection``
    published : dict of the paper's values by key of ``resources/published/numbers.yaml``
    figures : list of (PNG path, caption)
    reference : name of the reference
    """
    page = Document("Experiment on force models")
    page.paragraph(
        f"**Reference: {reference}.** The paper is Rodriguez et al., Communications Materials 4, 61 (2023); its "
        f"reference is DFT (PBE), its training set {PAPER_SIZE} structures. Known: compounds trained on, supercells "
        f"not trained on. Never seen: compounds outside the training set."
    )
    _headline(page, tables, published)
    _curves(page, tables["forces"], tables["promises"])
    _groups(page, tables)
    _calibration(page, tables["calibration"])
    _selection(page, tables["selection"])
    page.heading("Figures")
    for path, caption in figures:
        page.figure(path, caption)
    return page


def text(value: float | None, digits: int = 3, percent: bool = False) -> str:
    """Return a number as text; a missing one as a dash."""
    if value is None or pandas.isna(value):
        return "–"
    return f"{100 * value:.{digits}g} %" if percent else f"{value:.{digits}g}"


def _headline(page, tables, published):
    forces, properties = last_points(tables["forces"]), tables["properties"]
    most = properties.groupby("model")["members"].transform("max")
    properties = properties[(properties["size"] == properties["size"].max()) & (properties["members"] == most)]
    models = sorted(forces["model"].unique())
    columns = [(model, name) for model in models for name in ("known", "unseen")]
    page.heading(f"Largest training set: {int(forces['size'].max())} compounds, mean forces of a committee")

    def of(table, column, percent=False):
        cells = []
        for model, name in columns:
            row = table[(table["model"] == model) & (table["set"] == name)]
            cells.append(text(row[column].iloc[0] if len(row) and column in row else None, percent=percent))
        return cells

    paper_forces = f"{published['force_rmse_training']} / {published['force_rmse_untrained']}"
    rows = [
        ["force RMSE, meV/Å", paper_forces, *of(forces, "force_rmse_mev_per_angstrom")],
        ["force RMSE of single members, meV/Å", "–", *of(forces, "force_rmse_single_member_mev_per_angstrom")],
        ["force RMSE / RMS", "–", *of(forces, "force_rmse_relative", True)],
        ["the same, median over compounds", "–", *of(forces, "force_rmse_relative_median", True)],
        ["compounds with forces", "–", *of(forces, "n_structures")],
        [
            "frequency RMSE / range, mean",
            f"{published['frequency_error']} %",
            *of(properties, "frequency_error_mean", True),
        ],
        ["the same, median", "–", *of(properties, "frequency_error_median", True)],
        ["compounds with a verdict, stable ones", "–", *_counts(properties, columns)],
        ["stable: precision", "–", *of(properties, "stable_precision", True)],
        ["stable: recall", "–", *of(properties, "stable_recall", True)],
        ["unstable: precision", "–", *of(properties, "unstable_precision", True)],
        ["unstable: recall", "–", *of(properties, "unstable_recall", True)],
        ["MAE of log10 κ_p", f"{published['kappa_mae']}", *of(properties, "log_kappa_mae")],
        ["R² of log10 κ_p", f"{published['kappa_r2']}", *of(properties, "log_kappa_r2")],
        ["mean of log10 (predicted / reference κ_p)", "–", *of(properties, "log_kappa_bias")],
        ["compounds with both κ_p", "–", *of(properties, "n_kappa")],
        ["MAE of log10 (κ_c/κ_p)", "–", *of(properties, "log_coherence_ratio_mae")],
        ["mean κ_c/κ_p where κ_p < 1, reference", "–", *of(properties, "coherence_ratio_below_one_reference")],
        [
            "the same, predicted",
            f"{published['coherence_ratio_low']}",
            *of(properties, "coherence_ratio_below_one_predicted"),
        ],
        ["MAE of the largest MSD, Å²", f"{published['msd_mae']}", *of(properties, "msd_max_mae_angstrom2")],
    ]
    headers = ["", "paper", *(f"{model}, {'never seen' if name == 'unseen' else name}" for model, name in columns)]
    page.table(headers, rows)
    potentials = tables["forces"][tables["forces"]["size"].isna()]
    page.paragraph("Universal potentials on the same supercells of the compounds never seen:")
    page.table(
        [_POTENTIALS, "force RMSE, meV/Å", "RMSE / RMS", "median over compounds", "compounds"],
        [
            [row.model, text(row.force_rmse_mev_per_angstrom), text(row.force_rmse_relative, percent=True),
             text(row.force_rmse_relative_median, percent=True), row.n_structures]
            for row in potentials.itertuples()
        ],
    )  # fmt: skip


def _counts(properties, columns):
    cells = []
    for model, name in columns:
        row = properties[(properties["model"] == model) & (properties["set"] == name)]
        cells.append(f"{row['n_judged'].iloc[0]}, {row['n_stable'].iloc[0]}" if len(row) else "–")
    return cells


def _curves(page, forces, promises):
    page.heading("Learning curves")
    trained = forces[forces["size"].notna()]
    names = ["force_rmse_single_member_mev_per_angstrom", "force_rms_mev_per_angstrom"]
    mean = trained.groupby(["model", "size", "set"])[names].agg(["mean", "std", "count"])
    rows = []
    for (model, size, name), row in mean.iterrows():
        value, spread, repeats = row[names[0]]
        relative = text(value / row[names[1]]["mean"], percent=True)
        rows.append([model, int(size), name, int(repeats), text(value), text(spread, 2), relative])
    page.table(
        ["model", "compounds", "measured on", "repeats", "force RMSE, meV/Å", "std over repeats", "RMSE / RMS"], rows
    )
    page.paragraph(
        f"Power laws through the errors on compounds never seen, single members, and what they promise for "
        f"{PAPER_SIZE} structures; in brackets 90 % of the laws after resampling compounds and repeats. That the law "
        f"goes on holding is an assumption."
    )
    page.table(
        ["model", "quantity", "compounds", "exponent", f"promise at {PAPER_SIZE}"],
        [
            [row.model, row.quantity, row.n_compounds,
             f"{row.exponent:.2f} ({row.exponent_low:.2f}–{row.exponent_high:.2f})",
             f"{row.promise:.3g} ({row.promise_low:.3g}–{row.promise_high:.3g})"]
            for row in promises.itertuples()
        ],
    )  # fmt: skip


def _groups(page, tables):
    for by in ("prototype", "element"):
        table = tables[f"{by}s"]
        page.heading(f"Force errors by {by}, largest training set")
        wide = {key: group.set_index(by) for key, group in table.groupby(["model", "set"])}
        columns = sorted(wide)
        rows = []
        for name in sorted(table[by].unique()):
            cells = []
            for key in columns:
                row = wide[key].loc[name] if name in wide[key].index else None
                cells.append("–" if row is None else f"{row['force_rmse_mev_per_angstrom']:.1f}, "
                             f"{100 * row['force_rmse_relative']:.0f} %, {row['n_structures']:.0f}")  # fmt: skip
            rows.append([name, *cells])
        page.paragraph("RMSE in meV/Å, relative to the RMS, compounds.")
        page.table([by, *(f"{model}, {'never seen' if name == 'unseen' else name}" for model, name in columns)], rows)


def _calibration(page, calibration):
    page.heading("Calibration of the committee")
    page.paragraph(
        "ε of Eq. (3) of the paper against the error of the committee's mean. The factor that would make ε an error "
        "bar is found on half of the compounds and checked on the other half: error / recalibrated ε there (1 is "
        "calibrated), and the part of its atoms with an error below one and two recalibrated ε (61 and 99 % for "
        "normal errors)."
    )
    page.table(
        ["model", "measured on", "ε / error", "factor", "check: error / recalibrated ε", "within 1 ε", "within 2 ε",
         "rank correlation, atoms", "the same, compounds", "compounds"],
        [
            [row.model, row.set, text(row.epsilon_over_error), text(row.factor), text(row.error_over_recalibrated),
             text(row.within_one, 2, True), text(row.within_two, 2, True), text(row.rank_correlation_atoms, 2),
             text(row.rank_correlation_structures, 2), row.n_structures]
            for row in calibration.itertuples()
        ],
    )  # fmt: skip


def _selection(page, selection):
    page.heading("Active learning against random selection")
    names = ["force_rmse_mev_per_angstrom", "force_rmse_relative_median"]
    groups = selection.groupby(["n_compounds", "strategy"])[names]
    mean, spread, count = groups.mean(), groups.std(), groups.size()
    paired = selection.set_index(["strategy", "repeat", "n_compounds"])[names[0]]
    rows = []
    for n, strategy in mean.index:
        difference = (paired[strategy] - paired["random"]).dropna() if "random" in paired.index.levels[0] else None
        here = difference.xs(n, level="n_compounds") if difference is not None else None
        gain = (
            "–" if here is None or strategy == "random" else f"{here.mean():+.2g} ± {here.std() / len(here) ** 0.5:.1g}"
        )
        value, error = mean.loc[(n, strategy)], spread.loc[(n, strategy)]
        rows.append([n, strategy, text(value[names[0]]), text(error[names[0]], 2), gain,
                     text(value[names[1]], percent=True), count.loc[(n, strategy)]])  # fmt: skip
    page.table(
        ["labelled compounds", "strategy", "force RMSE, meV/Å", "std over starts", "minus random, same start",
         "median RMSE / RMS", "starts"],
        rows,
    )  # fmt: skip
