"""Counts per class of space group and formula type (Table 1 of the paper)."""

from typing import TYPE_CHECKING

import pandas
import yaml

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    import os

COUNTS = ["n_reference", "n_reference_stable", "n_unexplored", "n_unexplored_stable"]
OTHER = (0, "other")
_CALCULATED = ("ok", "unstable")


def class_table(
    manifest: pandas.DataFrame, reference: pandas.DataFrame, predicted: pandas.DataFrame, published: "str | os.PathLike"
) -> pandas.DataFrame:
    """Return the counts of Table 1 for this run beside the published ones, one row per class.

    ``n_reference`` counts structures of the part "training" whose phonons follow from reference forces;
    ``n_unexplored`` every structure of the other parts, with or without a result. A stable structure has status ok.

    Parameters
    ----------
    manifest : DataFrame
    reference, predicted : records of ``check_stability`` from reference and from predicted forces
    published : path of ``resources/published/table1.yaml``

    Returns
    -------
    DataFrame with ``space_group_number, formula_type``, the counts, ``n_structures`` of the manifest and the counts
    of the paper with the prefix ``paper_``. The classes that the paper lacks are one row, ``OTHER``, with 0 there
    """
    table = manifest[["structure_id", "space_group_number", "formula_type", "part"]]
    for name, records in (("reference", reference), ("predicted", predicted)):
        status = records.set_index("structure_id")["status"]
        if not status.index.is_unique:
            raise StudyError("a structure has two records", where=f"check_stability, {name}")
        table = table.assign(**{name: table["structure_id"].map(status)})
    training = table["part"] == "training"
    counted = table.assign(
        n_reference=training & table["reference"].isin(_CALCULATED),
        n_reference_stable=training & (table["reference"] == "ok"),
        n_unexplored=~training,
        n_unexplored_stable=~training & (table["predicted"] == "ok"),
        n_structures=True,
    )
    counts = counted.groupby(["space_group_number", "formula_type"])[[*COUNTS, "n_structures"]].sum()
    paper = published_classes(published)
    joined = paper.join(counts, how="left")
    other = counts[~counts.index.isin(paper.index)].sum().rename(OTHER)
    if other["n_structures"]:
        joined = pandas.concat([joined, other.to_frame().T]).rename_axis(paper.index.names)
    joined = joined.fillna(0).astype(int).reset_index()
    return joined[
        ["space_group_number", "formula_type", *COUNTS, "n_structures", *(f"paper_{name}" for name in COUNTS)]
    ]


def published_classes(path: "str | os.PathLike") -> pandas.DataFrame:
    """Return Table 1 of the paper, indexed by space group and formula type, columns with the prefix ``paper_``."""
    with open(path) as stream:
        rows = yaml.safe_load(stream)["classes"]
    names = ["space_group_number", "formula_type", *(f"paper_{name}" for name in COUNTS)]
    return pandas.DataFrame(rows, columns=names).set_index(names[:2])
