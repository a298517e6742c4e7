"""What a source offers in each class, beside what the study took and Table 1 of the paper."""

from typing import TYPE_CHECKING, Any

import pandas

from phonoscreen.analysis.classes import published_classes

if TYPE_CHECKING:
    import os


def offered_table(
    records: pandas.DataFrame, candidates: pandas.DataFrame, manifest: pandas.DataFrame, published: "str | os.PathLike"
) -> pandas.DataFrame:
    """Count candidates and structures by space group.

    Parameters
    ----------
    records : of ``filter_structures``, with ``space_group_number, source_space_group_number, disagreement``
    candidates : table of all candidates
    manifest : of the study
    published : path of ``resources/published/table1.yaml``

    Returns
    -------
    DataFrame with one row for each class of Table 1, then one for each further class of the study: ``prototype``,
    ``n_structures`` of the study, ``n_paper`` of the paper (calculated and unexplored); and of its space group
    ``n_offered`` (the source says so), ``n_found`` (the symmetry search says so), ``n_disagreements``
    """
    paper: Any = published_classes(published)
    totals = (paper["paper_n_reference"] + paper["paper_n_unexplored"]).to_dict()
    counts = {f"{number}-{kind}": n for (number, kind), n in totals.items()}
    mine: dict[Any, int] = manifest["prototype"].value_counts().to_dict()
    said: dict[Any, int] = candidates["source_space_group_number"].value_counts().to_dict()
    found: dict[Any, int] = records["space_group_number"].value_counts().to_dict()
    apart: dict[Any, int] = (
        records.loc[records["disagreement"] != "", "source_space_group_number"].value_counts().to_dict()
    )
    rows = []
    for name in [*counts, *sorted(set(mine) - set(counts))]:
        number = int(name.split("-")[0])
        rows.append({
            "prototype": name, "n_structures": mine.get(name, 0), "n_paper": counts.get(name, 0),
            "n_offered": said.get(number, 0), "n_found": found.get(number, 0), "n_disagreements": apart.get(number, 0),
        })  # fmt: skip
    return pandas.DataFrame(rows)
