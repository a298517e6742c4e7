"""The structures that stand out, ranked, with their uncertainty."""

import pandas

WIDTHS = (24, 14, 12)


def ranked(table):
    """Return the rows that have conductivities, the lowest sum of both first, with ``kappa_w_per_m_k``."""
    good = table[table["status"] == "ok"].copy()
    good["kappa_w_per_m_k"] = (good["kappa_p_w_per_m_k"] + good["kappa_c_w_per_m_k"]).astype(float)
    return good.sort_values(["kappa_w_per_m_k", "structure_id"], ignore_index=True)


def with_factor(kappa, decades):
    """Return a conductivity with the factor within which it is expected: ``1.2 (×/÷ 1.3)``."""
    if decades is None or pandas.isna(decades):
        return f"{kappa:.3g}"
    return f"{kappa:.3g} (×/÷ {10**decades:.2g})"


def committee_verdict(members, stable, solved):
    """Return what the members of a committee say, in words."""
    if pandas.isna(members) or not members:
        return "one source of forces"
    verdict = f"{stable} of {members} members stable"
    return verdict if pandas.isna(solved) or solved == stable else f"{verdict}, {solved} solved"


def lines_of_ranking(table, top=10):
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
