"""Growth of the training data over the rounds of active learning, and what each round reached (S2)."""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

import pandas

from phonoscreen.analysis.tables import member_of, paths_of, round_of, take
from phonoscreen.audit.records import read_records

if TYPE_CHECKING:
    from phonoscreen.analysis.tables import Paths


def round_table(datasets: "Paths", selections: "Paths", convergences: "Paths", frames: int) -> pandas.DataFrame:
    """Return the size of the training data and the outcome of the query of every round.

    Parameters
    ----------
    datasets : paths ``rounds/{round}/dataset.parquet`` with ``structure_id, n_supercells, n_environments``
    selections, convergences : paths ``selection.parquet`` and ``convergence.json`` of the rounds that made a query
    frames : copies of each environment the training sees (1: no augmentation)

    Returns
    -------
    DataFrame with ``round, n_structures, n_supercells, n_environments, n_environments_augmented, n_recommended,
    n_selected, converged, reason``; recommended and selected are missing in a round without a query
    """
    queries = {}
    for path in paths_of(convergences):
        with open(path) as stream:
            queries[round_of(path)] = json.load(stream)
    selected = {round_of(path): len(pandas.read_parquet(path)) for path in paths_of(selections)}
    rows = []
    for path in sorted(paths_of(datasets), key=round_of):
        number, data = round_of(path), pandas.read_parquet(path)
        query = queries.get(number, {})
        environments = int(data["n_environments"].sum())
        rows.append(
            {
                "round": number,
                "n_structures": data["structure_id"].nunique(),
                "n_supercells": int(data["n_supercells"].sum()),
                "n_environments": environments,
                "n_environments_augmented": environments * frames,
                "n_recommended": query.get("recommended"),
                "n_selected": selected.get(number),
                "converged": bool(query.get("converged", False)),
                "reason": query.get("reason") or "",
            }
        )
    return pandas.DataFrame(rows).astype({"n_recommended": "Int64", "n_selected": "Int64"})


def round_error_table(validations: "Paths", untrained: Collection[str]) -> pandas.DataFrame:
    """Return the force errors of every round on labelled structures.

    Parameters
    ----------
    validations : paths ``rounds/{round}/validation.parquet``
    untrained : ids of the structures to compare

    Returns
    -------
    DataFrame with ``round, structure_id, force_rmse_mev_per_angstrom, force_rmse_relative``
    """
    names = ["force_rmse_mev_per_angstrom", "force_rmse_relative"]
    pieces = []
    for path in paths_of(validations):
        table = take(read_records(path), names, stage="validate_round")
        table = table[(table["status"] == "ok") & table["structure_id"].isin(untrained)]
        pieces.append(table.assign(round=round_of(path))[["round", "structure_id", *names]])
    return pandas.concat(pieces).sort_values(["round", "structure_id"], ignore_index=True)


def history_table(histories: "Paths") -> pandas.DataFrame:
    """Return the training history of every member and round.

    Parameters
    ----------
    histories : paths ``rounds/{round}/members/{member}/history.parquet`` with ``epoch`` and the errors of each epoch

    Returns
    -------
    DataFrame with ``round, member, epoch, training_rmse_mev_per_angstrom, held_out_rmse_mev_per_angstrom``
    """
    names = ["epoch", "training_rmse_mev_per_angstrom", "held_out_rmse_mev_per_angstrom"]
    pieces = [
        pandas.read_parquet(path)[names].assign(round=round_of(path), member=member_of(path))
        for path in paths_of(histories)
    ]
    table = pandas.concat(pieces)[["round", "member", *names]]
    return table.sort_values(["round", "member", "epoch"], ignore_index=True)
