"""How many structures left each stage with which status, and how long the supercells took."""

from collections.abc import Mapping

import pandas

from phonoscreen.analysis.tables import take
from phonoscreen.audit.errors import StudyError


def status_counts(records: Mapping[tuple[str, str], pandas.DataFrame], n_manifest: int) -> pandas.DataFrame:
    """Return the number of structures per stage, source of forces and status.

    Parameters
    ----------
    records : dict of DataFrames by (stage, source); source is "reference", "predicted" or ""
    n_manifest : number of structures in the manifest

    Returns
    -------
    DataFrame with ``stage, source, status, n_structures, n_manifest`` in the order of ``records``

    Raises
    ------
    StudyError
        If the statuses of a stage do not sum to the manifest or a structure has two records.
    """
    rows = []
    for (stage, source), table in records.items():
        if len(table) != n_manifest or table["structure_id"].duplicated().any():
            raise StudyError(
                f"{len(table)} records of {table['structure_id'].nunique()} structures, {n_manifest} in the manifest",
                where=f"stage {stage} {source}".strip(),
                fix="run the stage again for all shards",
            )
        counts = table["status"].value_counts()
        for status in sorted(counts.index):
            rows.append((stage, source, status, int(counts[status]), n_manifest))
    return pandas.DataFrame(rows, columns=["stage", "source", "status", "n_structures", "n_manifest"])


def timing_table(
    manifest: pandas.DataFrame, supercells: pandas.DataFrame, labels: pandas.DataFrame, predicted: pandas.DataFrame
) -> pandas.DataFrame:
    """Return the time per supercell with reference and with network forces (figure S1).

    Parameters
    ----------
    manifest : DataFrame
    supercells : records of ``displace_supercells``
    labels, predicted : records of ``label_forces`` and ``predict_forces`` with ``seconds_per_supercell``

    Returns
    -------
    DataFrame with ``structure_id, formula, n_supercell_atoms, source, seconds_per_supercell``
    """
    atoms = take(supercells, ["n_supercell_atoms"], stage="displace_supercells")[["structure_id", "n_supercell_atoms"]]
    pieces = []
    for source, stage, records in (("reference", "label_forces", labels), ("predicted", "predict_forces", predicted)):
        table = take(records, ["seconds_per_supercell"], stage=stage)
        table = table[table["status"] == "ok"].drop(columns="status")
        pieces.append(table.merge(atoms, on="structure_id").assign(source=source))
    table = manifest[["structure_id", "formula"]].merge(pandas.concat(pieces), on="structure_id")
    names = ["structure_id", "formula", "n_supercell_atoms", "source", "seconds_per_supercell"]
    return table[names].astype({"n_supercell_atoms": int}).sort_values(["structure_id", "source"], ignore_index=True)
