"""The structures that stand out, ranked, with their uncertainty."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy
import pandas

from phonoscreen.analysis.comparison import pairs
from phonoscreen.analysis.metrics import bootstrap_interval, log_parity, parity

if TYPE_CHECKING:
    from phonoscreen.analysis.document import Document

WIDTHS = (24, 14, 12)
SHOWN = 15
NAMED = 8
"""Ids that stand in a sentence at most."""


def ranked(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows that have conductivities, the lowest sum of both first, with ``kappa_w_per_m_k``."""
    good = table[table["status"] == "ok"].copy()
    good["kappa_w_per_m_k"] = (good["kappa_p_w_per_m_k"] + good["kappa_c_w_per_m_k"]).astype(float)
    return good.sort_values(["kappa_w_per_m_k", "structure_id"], ignore_index=True)


def doubted_by_committee(table: pandas.DataFrame) -> pandas.Series:
    """Return which rows half of the committee or more cannot confirm: members unstable by themselves, or failed.

    A conductivity from the committee's mean forces may exist where most members find the crystal unstable; it is no
    find. Rows whose members were not asked are not doubted.
    """
    solved = table["members_solved"].astype(float)
    others = table["members_unstable"].astype(float) + table["members_failed"].astype(float)
    return solved <= others


def with_factor(kappa: float, decades: float | None) -> str:
    """Return a conductivity with the factor within which it is expected: ``1.2 (×/÷ 1.3)``."""
    if decades is None or pandas.isna(decades):
        return f"{kappa:.3g}"
    return f"{kappa:.3g} (×/÷ {10**decades:.2g})"


def committee_verdict(members: float, stable: float, solved: float) -> str:
    """Return what the members of a committee say, in words."""
    if pandas.isna(members) or not members:
        return "one source of forces"
    verdict = f"{stable} of {members} members stable"
    return verdict if pandas.isna(solved) or solved == stable else f"{verdict}, {solved} solved"


def lines_of_ranking(table: pandas.DataFrame, top: int = 10) -> list[str]:
    """Return lines for a terminal: how many structures ended how, and the most extreme ones of a screening.

    Parameters
    ----------
    table : of ``phonoscreen.stages.screening_table``
    top : structures shown from each end; where fewer than twice as many are known, all of them
    """
    counts = table["status"].value_counts()
    lines = ["", ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in counts.index)]
    good = ranked(table)
    if not len(good):
        return [*lines, "no structure has a conductivity"]
    lowest, highest = good.head(top), good.iloc[max(top, len(good) - top) :]
    parts = [("lowest conductivity first", good)] if len(good) <= 2 * top else [
        ("lowest conductivity", lowest), ("highest conductivity", highest.iloc[::-1])
    ]  # fmt: skip
    for title, rows in parts:
        lines += ["", f"{title} (W/m/K at {rows['temperature_k'].iloc[0]:g} K)", _line(
            "structure", "formula", "class", "κ_p", "κ_c", "mesh error", "committee"
        )]  # fmt: skip
        lines += [_line_of(row) for row in rows.to_dict("records")]
    if not good["calibrated"].fillna(False).all() and good["kappa_p_error_decades"].notna().any():
        lines.append("×/÷: standard deviation over the members, uncalibrated: not an error bar")
    return lines


def _line_of(row):
    mesh = row["kappa_p_mesh_error_percent"]
    return _line(
        row["structure_id"], row["formula"], row["class"],
        with_factor(row["kappa_p_w_per_m_k"], row["kappa_p_error_decades"]), f"{row['kappa_c_w_per_m_k']:.2g}",
        "—" if pandas.isna(mesh) else f"{mesh:.0f} %",
        committee_verdict(row["members"], row["members_stable"], row["members_solved"]),
    )  # fmt: skip


def _line(structure, formula, kind, kappa_p, kappa_c, mesh, committee):
    return (
        f"{structure:<{WIDTHS[0]}} {formula:<{WIDTHS[1]}} {kind:<{WIDTHS[2]}} {kappa_p:>18} {kappa_c:>7} {mesh:>10}  "
        f"{committee}"
    )


def add_found(page: "Document", tables: Mapping[str, pandas.DataFrame]) -> None:
    """Begin the summary with what a reader came for: the structures found, what drops out, and how sure it is.

    Parameters
    ----------
    page : ``phonoscreen.analysis.document.Document``
    tables : dict with ``transport`` and ``phonons``
    """
    page.heading("Structures found")
    transport = tables["transport"]
    solved = ranked(transport[transport["source"] == "predicted"])
    doubted = doubted_by_committee(solved)
    good = solved[~doubted]
    if len(good):
        page.paragraph(
            f"The {min(SHOWN, len(good))} lowest of {len(good)} conductivities from predicted forces, in W/m/K at "
            f"{good['temperature_k'].iloc[0]:g} K. ×/÷ is the standard deviation of log10 κ_p over the members of the "
            "committee that could be solved, as a factor and uncalibrated; members unstable by their own force "
            "constants are counted. Files of a structure: phonoscreen export ID --source predicted."
        )
        page.table(
            ["structure", "formula", "class", "trained on", "κ_p", "κ_c", "κ_p with reference forces", "committee"],
            _found_rows(good.head(SHOWN), transport[transport["source"] == "reference"].set_index("structure_id")),
        )
    else:
        page.paragraph("No structure has a conductivity from predicted forces.")
    if doubted.any():
        page.paragraph(
            f"Not ranked, for no majority of the committee could be solved: {doubted.sum()} of {len(solved)} "
            f"structures ({_named(solved.loc[doubted, 'structure_id'])}). Their conductivities stand in the tables."
        )
    for sentence in _dropped(tables["phonons"]):
        page.paragraph(sentence)
    _agreement(page, transport)


def _found_rows(found, reference):
    rows = []
    for row in found.to_dict("records"):
        known = reference.loc[row["structure_id"]] if row["structure_id"] in reference.index else None
        other = "—" if known is None else (
            f"{known['kappa_p_w_per_m_k']:.3g}" if known["status"] == "ok" else str(known["status"]).replace("_", " ")
        )  # fmt: skip
        rows.append([
            row["structure_id"], row["formula"], row["prototype"], "yes" if row["trained"] else "no",
            with_factor(row["kappa_p_w_per_m_k"], row["kappa_p_rta_std_decades"]), f"{row['kappa_c_w_per_m_k']:.2g}",
            other, _members(row),
        ])  # fmt: skip
    return rows


def _members(row):
    counts = [row["members_solved"], row["members_unstable"], row["members_failed"]]
    if pandas.isna(counts).any():
        return "not asked"
    solved, unstable, failed = (int(count) for count in counts)
    words = [f"{solved} of {solved + unstable + failed} solved"]
    words += [f"{count} {name}" for count, name in ((unstable, "unstable"), (failed, "failed")) if count]
    return ", ".join(words)


def _named(ids):
    names = [str(name) for name in ids]
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _dropped(phonons):
    """Return sentences that count the structures that are stable with one source of forces only."""
    sentences, known = [], ["ok", "unstable", "not_converged"]
    both = phonons[phonons["status_reference"].isin(known) & phonons["status_predicted"].isin(known)]
    for kept, lost in (("reference", "predicted"), ("predicted", "reference")):
        mine = both[(both[f"status_{kept}"] == "ok") & (both[f"status_{lost}"] != "ok")]
        named = f" ({_named(mine['structure_id'])})" if len(mine) else ""
        sentences.append(
            f"Stable with {kept} forces only, and in no comparison of conductivities: {len(mine)} of {len(both)} "
            f"structures{named}."
        )
    return sentences


def _agreement(page, transport):
    """How well predicted conductivities agree with the reference, trained and never-seen structures apart."""
    both, rows = pairs(transport, "kappa_p_w_per_m_k"), []
    both = both[(both["reference"] > 0) & (both["predicted"] > 0)]
    for name, mine in (("never seen", both[~both["trained"]]), ("trained on", both[both["trained"]])):
        found = log_parity(mine["reference"], mine["predicted"])
        logs = numpy.log10(mine[["reference", "predicted"]].to_numpy(float)).T
        low, high = bootstrap_interval(logs[0], logs[1], lambda *of: parity(*of).r2)
        interval = f"{low:.2f} to {high:.2f}" if numpy.isfinite([low, high]).all() else "—"
        r2 = f"{found.r2:.2f}" if numpy.isfinite(found.r2) else "—"
        rows.append([name, found.n, r2, interval, f"{found.mae:.2f}" if found.n else "—"])
    page.paragraph(
        "Agreement of log10 κ_p with the reference, structures that the force model was trained on apart from those it "
        "has never seen. Interval: 95 % of R² when the structures are drawn again with replacement; none below five."
    )
    page.table(["structures", "number", "R²", "95 % interval of R²", "mean absolute error (decades)"], rows)
