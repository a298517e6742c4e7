"""The page of a screening: its headline numbers beside the paper's, from the table of a screening alone.

``python -m phonoscreen.analysis.screening_page TABLE PAGE`` writes the page in Markdown.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy
import pandas
import yaml

from phonoscreen.analysis.compounds import FIGURE7, rows_of
from phonoscreen.analysis.ranking import with_factor
from phonoscreen.analysis.screening import FilterCounts, Line, Scale, count_filter
from phonoscreen.analysis.screening_headline import headline_rows, percent, published, share, solved_of
from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json
from phonoscreen.stages.confirmed import KAPPA, compared_of
from phonoscreen.stages.screening_product import read_product

WAVES, MSD = "kappa_c_w_per_m_k", "msd_max_angstrom2"
RANGES = {"low": (0.0, 1.0), "medium": (1.0, 10.0), "high": (10.0, numpy.inf)}
RANGE_WORDS = {"low": "κ_p < 1", "medium": "κ_p 1–10", "high": "κ_p > 10"}
ELEMENTS_SHOWN, EXTREMES = 12, 12
BLOCKS = 160
"""Blocks of the whole pool, the default of the setting ``screening.blocks``."""


def table1() -> pandas.DataFrame:
    """Return the unexplored structures of Table 1 and those of them predicted stable, by class."""
    rows = yaml.safe_load(shipped("resources/published/table1.yaml").read_text())["classes"]
    classes = {f"{number}-{kind}": (unexplored, stable) for number, kind, _, _, unexplored, stable in rows}
    return pandas.DataFrame.from_dict(classes, orient="index", columns=["unexplored", "stable"])


def by_class(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return structures, those stable, solved and below 1 W/m/K, by class of the formula's structure type.

    Structures whose relaxation failed count as not stable.
    """
    kind = table["source"].str.split(":").str[1].str.split("-").str[:2].str.join("-")
    solved = table.index.isin(solved_of(table).index)
    flags = pandas.DataFrame(
        {
            "screened": 1, "stable": (table["verdict"] == "stable").fillna(False).astype(int),
            "solved": solved.astype(int), "ultralow": (solved & (table[KAPPA] < 1).fillna(False)).astype(int),
        }
    )  # fmt: skip
    return flags.groupby(kind).sum().sort_index()


def filters(table: pandas.DataFrame) -> dict[str, tuple[float, FilterCounts]]:
    """Return the maximum MSD of two filters, square angstrom, and what each finds.

    ``paper`` is the paper's 0.076 square angstrom, ``own`` the one where the line through the solved structures
    reaches 1 W/m/K.
    """
    solved = solved_of(table)
    scale = Scale.of(solved[MSD])
    x, kappa = scale.normalise(solved[MSD]), solved[KAPPA].to_numpy(float)
    line = Line.fit(x, kappa)
    msd = published()["filter_msd"]
    own = float(line.crossing(1.0))
    return {
        "paper": (msd, count_filter(x, kappa, float(scale.normalise([msd])[0]))),
        "own": (float(scale.msd(own)), count_filter(x, kappa, own)),
    }


def coherences(table: pandas.DataFrame) -> dict[str, tuple[int, float]]:
    """Return the number of structures and the mean of kappa_c / kappa_p by range of kappa_p."""
    solved = solved_of(table)
    found = {}
    for name, (low, high) in RANGES.items():
        mine = solved[(solved[KAPPA] >= low) & (solved[KAPPA] < high)]
        found[name] = len(mine), float((mine[WAVES] / mine[KAPPA]).mean()) if len(mine) else numpy.nan
    return found


def extremes(table: pandas.DataFrame, number: int = EXTREMES) -> tuple[pandas.DataFrame, int]:
    """Return the structures of lowest and highest conductivity that most members solve, and how many others there are.

    The size of the committee is the largest number of members that solved a structure.
    """
    solved = solved_of(table)
    confirmed = 2 * solved["members_solved"] > solved["members_solved"].max()
    order = (solved[KAPPA] + solved[WAVES])[confirmed].sort_values(kind="stable").index
    shown = order if len(order) <= 2 * number else order[:number].append(order[-number:])
    return solved.loc[shown], int((~confirmed).sum())


def elements(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return the mean square displacement of each element, mean over the structures that hold it (figure S4).

    Returns
    -------
    pandas.DataFrame, index element, ``msd_angstrom2, structures``, largest first
    """
    rows = []
    for text in solved_of(table)["msd_by_element_angstrom2"].dropna():
        words = text.split()
        rows += [(words[n], float(words[n + 1])) for n in range(0, len(words), 2)]
    found = pandas.DataFrame(rows, columns=["element", "msd"]).groupby("element")["msd"].agg(["mean", "size"])
    found.columns = ["msd_angstrom2", "structures"]
    return found.sort_values("msd_angstrom2", ascending=False)


def three_compounds(table: pandas.DataFrame) -> list[list[str]]:
    """Return the rows of the compounds of figure 7: both conductivities here, in the paper predicted and by DFT."""
    rows, paper = [], published()
    for name, (composition, space_group) in FIGURE7.items():
        mine = solved_of(rows_of(table, composition, space_group))
        key = name.lower()
        for label, column in (("p", KAPPA), ("c", WAVES)):
            own = f"{mine[column].iloc[0]:.3g}" if len(mine) else _why(rows_of(table, composition, space_group))
            known = [f"{paper[f'{key}_kappa_{label}_{source}']:.3g}" for source in ("predicted", "reference")]
            rows.append([f"{name} ({space_group}) κ_{label}", own, *known])
    return rows


def _why(rows):
    return "not among them" if not len(rows) else str(rows["status"].iloc[0]).replace("_", " ")


def page(table: pandas.DataFrame, origin: dict, compared: pandas.DataFrame | None) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    table, origin : see ``phonoscreen.stages.screening_product.read_product``
    compared : structures recomputed with the potential (``phonoscreen confirm --write``), or None
    """
    headline = _markdown(["", "here", "paper"], headline_rows(table, origin, compared))
    figure7 = _markdown(["compound", "here", "paper, predicted", "paper, DFT"], three_compounds(table))
    sections = [
        _head(table, origin), f"## In numbers\n\n{headline}", _extremes(table), _classes(table), _filters(table),
        _coherences(table), _elements(table), f"## Three compounds (figure 7)\n\nW/m/K, 300 K.\n\n{figure7}",
        _repeat(round(BLOCKS * len(table) / origin["pool_structures"])),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _head(table, origin):
    seconds, whole = table["seconds"], origin["pool_structures"]
    hours = seconds.sum() / 3600
    return f"""# The screening

{len(table):,} of the {whole:,} structures of the enumerated pool ([structures](structures.md)), every class in its
proportion, each from formula to conductivity at 300 K with the forces of one model: {origin["forces"]}
(networks {origin["networks"][:16]}…, {_published(origin)}). No number here is DFT's: the card of the model says what it
learned from.
{hours:.1f} CPU hours, {seconds.mean():.2f} CPU s per structure (median {seconds.median():.2f}); the whole pool:
{hours * whole / len(table):.1f} CPU hours. This page is made from the table `resources/screening/screening.parquet`,
one row per structure."""


def _published(origin):
    """Whether the networks that screened are those that the repository publishes, in words."""
    same = networks_digest(read_model_json(shipped("resources/model/model.json"))) == origin["networks"]
    return "those of `resources/model`" if same else "not those that `resources/model` holds now"


def _extremes(table):
    found, doubted = extremes(table)
    rows = [
        [row["formula"], row["class"], with_factor(row[KAPPA], row["kappa_p_error_decades"]), f"{row[WAVES]:.2g}",
         f"{row['members_solved']:.0f}"]
        for row in found.to_dict("records")
    ]  # fmt: skip
    return (
        f"## Structures found\n\nThe {EXTREMES} lowest and the {EXTREMES} highest κ_p + κ_c, W/m/K, where more than "
        f"half of the committee's members solve the crystal by themselves ({doubted:,} structures with a conductivity "
        "are left out by that). ×/÷: expected error as a factor.\n\n"
        + _markdown(["formula", "class", "κ_p", "κ_c", "members that solve it"], rows)
    )


def _classes(table):
    found, known, rows = by_class(table), table1(), []
    for name, row in found.iterrows():
        theirs = known.loc[str(name)] if name in known.index else None
        rows.append([str(name), f"{row['screened']:,}", percent(row["stable"], row["screened"]),
                     "" if theirs is None else percent(theirs["stable"], theirs["unexplored"]),
                     f"{row['solved']:,}", percent(row["ultralow"], row["solved"])])  # fmt: skip
    return "## By class\n\n" + _markdown(
        ["class", "screened", "stable", "stable in the paper", "solved", "of these κ < 1 W/m/K"], rows
    )


def _filters(table):
    paper, rows = published(), []
    for name, (msd, found) in filters(table).items():
        words = "the paper's" if name == "paper" else "where the line of log κ over log MSD reaches 1 W/m/K"
        rows.append(
            [
                f"{msd:.3g} Å², {words}",
                f"{found.above:,}",
                f"{100 * found.precision:.1f} %",
                f"{100 * found.recall:.1f} %",
            ]
        )
    rows.append(
        [
            f"paper: {paper['filter_msd']} Å²",
            f"{paper['filter_above']:,}",
            f"{paper['filter_precision']} %",
            f"{paper['filter_recall']} %",
        ]
    )
    return "## Mean square displacement as a filter for κ < 1 W/m/K\n\n" + _markdown(
        ["largest mean square displacement above", "structures", "precision", "recall"], rows
    )


def _coherences(table):
    paper, rows = published(), []
    for name, (number, ratio) in coherences(table).items():
        rows.append(
            [RANGE_WORDS[name] + " W/m/K", f"{number:,}", f"{ratio:.3g}", f"{paper[f'coherence_ratio_{name}']:.3g}"]
        )
    solved = solved_of(table)
    by_waves = solved[WAVES] / (solved[WAVES] + solved[KAPPA])
    text = f"Coherences carry more than half in {share((by_waves > 0.5).sum(), len(solved))}."
    return "## Coherences\n\n" + _markdown(["", "structures", "mean κ_c/κ_p", "paper"], rows) + f"\n\n{text}"


def _elements(table):
    found = elements(table)
    shown = pandas.concat([found.head(ELEMENTS_SHOWN), found.tail(ELEMENTS_SHOWN).iloc[::-1]])
    parts = [f"{name} {row['msd_angstrom2']:.3g}" for name, row in shown.iterrows()]
    return (
        "## Elements (figure S4)\n\nMean square displacement at 300 K, Å², mean over the solved structures that hold "
        f"the element ({len(found)} elements). Largest: {', '.join(parts[:ELEMENTS_SHOWN])}. "
        f"Smallest: {', '.join(parts[ELEMENTS_SHOWN:])}."
    )


def _repeat(first):
    product, folder = "resources/screening/screening.parquet", "results/screening"
    return f"""## To repeat it

```
.venv/bin/snakemake --profile screening --cores 2 --config 'screening={{first: {first}}}'    # of {BLOCKS} blocks
.venv/bin/python -m phonoscreen.stages.screening_product {folder} {product}
.venv-nequix/bin/python -m phonoscreen confirm {product} runs/confirmation --write resources/screening/confirmation.csv
.venv/bin/python -m phonoscreen.analysis.screening_page {product} docs/screening.md
```

The first goes on where it was stopped, block by block and structure by structure; the second takes the blocks that are
complete. Numbers in the table have four digits; model, settings, code and packages stand in the metadata of the file.
Columns: [screen](screen.md#columns)."""


def _markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, help="Parquet file of a screening")
    parser.add_argument("page", type=Path, help="Markdown file to write")
    parser.add_argument("--confirmation", type=Path, help="CSV of phonoscreen confirm (default: beside the table)")
    arguments = parser.parse_args()
    table, origin = read_product(arguments.table)
    if not len(solved_of(table)):
        raise StudyError("no structure of the table has a conductivity", where=str(arguments.table), fix="screen more")
    beside = arguments.confirmation or arguments.table.with_name("confirmation.csv")
    compared = compared_of(beside) if arguments.confirmation or beside.exists() else None
    with written_whole(arguments.page) as partial:
        partial.write_text(page(table, origin, compared))


if __name__ == "__main__":
    main()
