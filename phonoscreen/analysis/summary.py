"""The summary of a study: its numbers beside the published ones, its checks, its records and its figures."""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy

from phonoscreen.analysis.bonding import bonding_in_words
from phonoscreen.analysis.classes import COUNTS
from phonoscreen.analysis.comparison import OURS, pooled_errors
from phonoscreen.analysis.dft_comparison import DftComparison, add_dft
from phonoscreen.analysis.document import Document
from phonoscreen.analysis.ranking import add_found
from phonoscreen.analysis.screening_headline import add_screening
from phonoscreen.analysis.wording import column_heading, number, published
from phonoscreen.audit.records import count_reasons
from phonoscreen.crystal.masses import STANDARD
from phonoscreen.forcefield.pooled import pooled_rms

if TYPE_CHECKING:
    import os

    import pandas

TABLES = (
    "table1", "status", "timings", "phonons", "transport", "modes", "bonding", "bonds", "rounds", "round_errors",
    "histories", "force_errors", "filter_records",
)  # fmt: skip
"""Tables that the page is made of, beside the headline numbers."""
CHECKS = ("supercell_size", "transport", "force_constants")
"""Checks of the study's own choices; each is made on request."""
_REASONS_SHOWN = 30
_SIZES = ("study", "larger")


def summarise(
    tables: "Mapping[str, pandas.DataFrame]",
    checks: "Mapping[str, pandas.DataFrame | None]",
    contradictions: Iterable[Mapping[str, str]],
    figures: "Iterable[tuple[str | os.PathLike, str]]",
    *,
    reference: str,
    bonding_engine: str,
    dft: DftComparison,
    screened: "tuple[str, str] | None" = None,
    outdated: str = "",
    beginning: str = "",
) -> Document:
    """Return the page.

    Parameters
    ----------
    tables : dict of tables, with ``headline`` of ``phonoscreen.analysis.headline.headline_table`` among them, and the
        records of the filter as ``filter_records``
    checks : dict of tables ``supercell_size``, ``transport`` and ``force_constants``; None where a check was not made
    contradictions : list of dicts with ``first, second, note``
    figures : list of (PNG path, caption)
    reference : name of the reference
    bonding_engine : program behind the COHP
    dft : what the study on true DFT found; not shown in a study on DFT
    screened : files of the kept screening, its table and what a potential makes of some, or None
    outdated : sentence on what was made with other settings or code, empty if nothing was
    beginning : what the force model had learned before, see ``phonoscreen.analysis.beginning``
    """
    page = Document("Summary of the study")
    if outdated:
        page.paragraph(f"**{outdated}** The commands that compute it again stand at the start of every run.")
    page.paragraph(
        f"**Reference of this study: {reference}.** Wherever a number, table or figure says reference, it is this. "
        f"The paper is Rodriguez et al., Communications Materials 4, 61 (2023); its reference is DFT (PBE)."
    )
    if beginning:
        page.paragraph(beginning)
    page.paragraph(f"Atomic masses: {STANDARD}; a structure file that gives masses of its own keeps them.")
    add_found(page, tables)
    _verdict(page, tables)
    _headline(page, tables["headline"])
    _left_out(page, tables["filter_records"])
    _classes(page, tables["table1"])
    _forces(page, tables)
    if not reference.startswith("DFT"):
        add_dft(page, dft)
    if screened:
        add_screening(page, *screened)
    _stability(page, tables["phonons"])
    _mesh_errors(page, tables["transport"])
    _status(page, tables["status"])
    _checks(page, checks)
    _timings(page, tables["timings"], reference)
    page.heading("Bonding")
    page.paragraph(bonding_in_words(tables["bonding"], tables["bonds"], bonding_engine))
    page.heading("Where the paper disagrees with itself")
    page.table(["first", "second", "note"], [[row["first"], row["second"], row["note"]] for row in contradictions])
    page.heading("Figures")
    for path, caption in figures:
        page.figure(path, caption)
    return page


def _verdict(page, tables):
    rows, known = [], tables["headline"].set_index("key")

    def add(question, *keys, text="{}"):
        values = [known.loc[key] for key in keys]
        ours = [number(value["this_study"]) for value in values]
        answered = all(numpy.isfinite(value["this_study"]) for value in values)
        paper = text.format(*(published(value["paper"]) for value in values))
        rows.append([question, text.format(*ours) if answered else "not attempted", paper, values[0]["basis"]])

    add("classes of Table 1 covered", "n_classes")
    add("unexplored structures predicted stable", "n_unexplored_stable", "n_unexplored", text="{} of {}")
    add("force RMSE on untrained structures", "force_rmse_untrained", text="{} meV/Å")
    add("the same, best universal potential", "force_rmse_baseline", text="{} meV/Å")
    add("frequency RMSE / range", "frequency_error", text="{} %")
    add("conductivity: R² of log10 κ, mean factor", "kappa_r2", "kappa_factor", text="{}, {}")
    add("untrained: κ < 1 W/m/K confirmed of predicted", "untrained_confirmed", "untrained_ultralow", text="{} of {}")
    add("MSD filter: precision", "filter_precision", text="{} %")
    add("MSD filter: recall", "filter_recall", text="{} %")
    add("mean κ_c/κ_p where κ_p < 1 W/m/K", "coherence_ratio_low")
    page.heading("In short")
    page.table(["", "this study", "paper", "this study rests on"], rows)
    status = tables["status"]
    sums = status.groupby(["stage", "source"])["n_structures"].sum()
    manifest = int(status["n_manifest"].iloc[0])
    complete = "sum to the manifest" if (sums == manifest).all() else "DO NOT sum to the manifest"
    page.paragraph(f"The statuses of all {len(sums)} recorded stages {complete} ({manifest:,} structures).")


def _headline(page, headline):
    page.heading("Headline numbers")
    page.paragraph("Not attempted: this study has no structures that could answer; the last column says why.")
    for section, rows in headline.groupby("section", sort=False):
        page.heading(section, 3)
        cells = []
        for row in rows.to_dict("records"):
            unit = f" ({row['unit']})" if row["unit"] else ""
            ours = number(row["this_study"]) if numpy.isfinite(row["this_study"]) else "not attempted"
            cells.append([row["quantity"] + unit, ours, published(row["paper"]), row["basis"], row["place"]])
        page.table(["quantity", "this study", "paper", "this study rests on", "place in the paper"], cells)


def _left_out(page, records):
    """Structures that the filter left out, counted by their reason."""
    page.heading("Structures left out")
    kept = int((records["status"] == "ok").sum())
    page.paragraph(f"{number(len(records))} candidates, {number(kept)} of them in the study.")
    rows = [
        [status, reason, number(count), ", ".join(examples) + (", …" if count > len(examples) else "")]
        for status, reason, count, examples in count_reasons(records)
    ]
    if rows:
        page.table(["status", "reason", "structures", "which"], rows[:_REASONS_SHOWN])
    if len(rows) > _REASONS_SHOWN:
        page.paragraph(f"{len(rows) - _REASONS_SHOWN} further reasons stand in structures/filter_records.parquet.")


def _classes(page, table1):
    page.heading("Table 1: structures per class")
    page.paragraph(
        "Each cell: this study / paper. Reference: part training of the manifest, phonons from reference forces. "
        "Unexplored: all other parts, stable with predicted forces. Other: every class that the paper lacks."
    )

    def cells(row):
        return [f"{row[name]:,} / {row[f'paper_{name}']:,}" for name in COUNTS]

    rows = [[row["space_group_number"] or "", row["formula_type"], *cells(row)] for row in table1.to_dict("records")]
    total = table1[[*COUNTS, *(f"paper_{name}" for name in COUNTS)]].sum()
    headers = ["space group", "type", "reference", "of these stable", "unexplored", "predicted stable"]
    page.table(headers, [*rows, ["**total**", "", *cells(total)]])


def _forces(page, tables):
    page.heading("Forces on structures never trained on")
    rounds, errors = tables["rounds"], tables["round_errors"]
    rows = []
    for row in rounds.to_dict("records"):
        mine = errors[errors["round"] == row["round"]]
        rmse = pooled_rms(mine["force_rmse_mev_per_angstrom"], numpy.ones(len(mine))) if len(mine) else None
        relative = f"{100 * mine['force_rmse_relative'].median():.0f} %" if len(mine) else "—"
        names = ("n_structures", "n_environments_augmented", "n_recommended", "n_selected")
        counts = [number(row[name]) for name in names]
        rows.append([row["round"], *counts, number(rmse), relative, len(mine), row["reason"]])
    headers = ["round", "structures trained on", "environments, augmented", "recommended", "labelled"]
    headers += ["force RMSE (meV/Å)", "median of RMSE / force RMS", "untrained structures", "query"]
    page.paragraph(
        "The committee of every round on the same structures: those labelled by the reference that entered no round's "
        "training data. RMSE over structures; relative: to the RMS of the reference forces of each structure."
    )
    page.table(headers, rows)
    pooled = pooled_errors(tables["force_errors"])
    if len(pooled):
        order = [OURS, *pooled.drop(index=OURS, errors="ignore").sort_values("force_rmse_mev_per_angstrom").index]
        cells = [
            [
                f"{name} (published model)" if name == OURS else name,
                number(pooled.loc[name, "force_rmse_mev_per_angstrom"]),
                f"{100 * pooled.loc[name, 'force_rmse_relative']:.1f} %",
                number(pooled.loc[name, "n_structures"]),
            ]
            for name in order
            if name in pooled.index
        ]
        page.paragraph("The published model and the universal potentials, over all force components (figure S3):")
        page.table(["model", "force RMSE (meV/Å)", "relative to the force RMS", "structures"], cells)


def _stability(page, phonons):
    page.heading("Stability")
    uncertain = {
        source: (phonons[f"status_{source}"] == "not_converged").sum() for source in ("reference", "predicted")
    }
    if any(uncertain.values()):
        page.paragraph(
            f"Uncertain, and in no row below: {uncertain['reference']} with reference and {uncertain['predicted']} "
            "with predicted forces. Only frequencies interpolated between the wave vectors of their supercells are "
            "imaginary; a larger supercell decides."
        )
    both = phonons[phonons["status_reference"].isin(["ok", "unstable"])]
    both = both[both["status_predicted"].isin(["ok", "unstable"])]
    if not len(both):
        page.paragraph("No structure has phonons from both kinds of forces.")
        return
    words = {"ok": "stable", "unstable": "unstable"}
    rows = []
    for first in words:
        mine = both[both["status_reference"] == first]["status_predicted"]
        rows.append([words[first], *(number((mine == second).sum()) for second in words)])
    page.table(["reference", "predicted stable", "predicted unstable"], rows)
    agree = (both["status_reference"] == both["status_predicted"]).sum()
    page.paragraph(f"Reference and prediction agree for {agree} of {len(both)} structures.")


def _mesh_errors(page, transport):
    """How far conductivities are from their limits of dense q meshes."""
    page.heading("Numerical error of the conductivities")
    page.paragraph(
        "Estimated deviation from the limit of dense q meshes, from two coarser meshes of each structure; it is an "
        "upper estimate for errors that fall at least as one over the number of points along a direction. Structures "
        "above 10 % want a larger transport.mesh_density_angstrom."
    )
    rows = []
    for source, symbol in itertools.product(("reference", "predicted"), "pc"):
        column = f"kappa_{symbol}_mesh_error_percent"
        mine = transport[(transport["source"] == source) & transport[column].notna()].reset_index()
        if len(mine):
            worst = mine.loc[mine[column].idxmax()]
            largest = f"{worst[column]:.1f} % ({worst['structure_id']})"
            above = number((mine[column] > 10).sum())
            rows.append([source, f"κ_{symbol}", number(len(mine)), f"{mine[column].median():.1f} %", largest, above])
    if not rows:
        page.paragraph("No conductivity has an estimate.")
        return
    page.table(["forces", "conductivity", "structures", "median", "largest", "above 10 %"], rows)


def _status(page, status):
    page.heading("Records of every stage")
    wide = status.assign(source=status["source"].replace("", "—"))
    order = list(dict.fromkeys(zip(wide["stage"], wide["source"])))
    names = [name for name in ("ok", "unstable", "not_converged", "skipped", "failed") if name in set(wide["status"])]
    rows = []
    for stage, source in order:
        mine = wide[(wide["stage"] == stage) & (wide["source"] == source)].set_index("status")["n_structures"]
        rows.append([stage, source, *(number(mine.get(name, 0)) for name in names), number(mine.sum())])
    page.table(["stage", "forces", *(name.replace("_", " ") for name in names), "sum"], rows)


def _checks(page, checks):
    page.heading("Checks")
    page.heading("Size of the supercell", 3)
    page.paragraph("Conductivity with reference forces in the supercell of this study and in the next larger one.")
    _supercell_size(page, checks["supercell_size"])
    page.heading("Independent solver", 3)
    page.paragraph("The same force constants solved by phono3py.")
    _plain_table(page, checks["transport"])
    page.heading("Independent fits", 3)
    page.paragraph(
        "Force constants of a few structures fitted again to the same forces by hiphive and by symfc: least squares in "
        "all programs, the residual forces and the dipole–dipole part taken out before, no rotational sum rules, the "
        "third-order cutoff of this study; the second order reaches as far as the column says. Differences are "
        "relative to the norm of the constants, and the largest of a frequency at the supercell's wave vectors."
    )
    _plain_table(page, checks["force_constants"])


def _supercell_size(page, table):
    if table is None or not len(table):
        page.paragraph("Not attempted.")
        return
    rows = []
    for row in table.to_dict("records"):
        if row["status"] != "ok":
            rows.append([row["structure_id"], row["status"], row["reason"].splitlines()[0], *[""] * 4])
            continue
        cells = [f"{row[f'repetitions_{name}']} ({row[f'n_supercell_atoms_{name}']:.0f})" for name in _SIZES]
        kappa = [number(row[f"kappa_p_{name}_w_per_m_k"]) for name in _SIZES]
        rta = [number(row[f"kappa_p_rta_{name}_w_per_m_k"]) for name in _SIZES]
        change = f"{100 * row['relative_change']:+.1f} %"
        rows.append([row["structure_id"], *cells, " → ".join(rta), *kappa, change])
    headers = ["structure", "this study: cells (atoms)", "larger: cells (atoms)", "κ_p RTA (W/m/K)"]
    page.table([*headers, "κ_p this study (W/m/K)", "κ_p larger (W/m/K)", "change"], rows)


def _plain_table(page, table):
    if table is None or not len(table):
        page.paragraph("Not attempted.")
        return
    table = table.drop(columns="stage", errors="ignore")
    shown = [name for name in table.columns if table[name].notna().any() and (table[name].astype(str) != "").any()]
    rows = [
        [number(float(value)) if isinstance(value, (int, float, numpy.number)) else str(value or "—") for value in row]
        for row in table[shown].itertuples(index=False)
    ]
    page.table([column_heading(name) for name in shown], rows)


def _timings(page, timings, reference):
    page.heading("Time per supercell")
    if not len(timings):
        page.paragraph("No supercell has a time.")
        return
    rows = []
    for source, name in (("reference", reference), ("predicted", "committee of this study")):
        mine = timings[timings["source"] == source]
        if len(mine):
            seconds = mine["seconds_per_supercell"]
            atoms = f"{mine['n_supercell_atoms'].min()}–{mine['n_supercell_atoms'].max()}"
            rows.append([name, number(len(mine)), atoms, number(seconds.median()), number(seconds.max())])
    page.table(["forces", "structures", "atoms", "median (s)", "longest (s)"], rows)
