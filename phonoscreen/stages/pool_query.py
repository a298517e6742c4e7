"""Query by committee over a screened pool: which of its compounds to label next.

``python -m phonoscreen.stages.pool_query SCREENING LABELS [LABELS ...] > FILE`` reads the table of a screening and
lists the compounds on which the committee that screened them disagrees, for
``phonoscreen.stages.label_library FILE FOLDER --as-listed``.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import pandas

from phonoscreen.audit.shipped import shipped
from phonoscreen.stages.label_library import class_and_composition, excluded_classes, proportional, read_shares
from phonoscreen.stages.label_product import read_product

THRESHOLD_MEV_PER_ANGSTROM = 50.0  # of the paper
FIELDS = ["structure_id", "formula", "prototype", "role", "epsilon_max_mev_per_angstrom", "members_stable"]


def queried(
    screened: pandas.DataFrame, shares: dict[str, float], excluded: set, compounds: int, members: int
) -> pandas.DataFrame:
    """Return the compounds to label, in the proportions of the classes as long as a class has some left.

    A compound is recommended where the members' forces on its worst supercell spread by more than the paper's 50
    meV/angstrom, or where some members find it stable and some do not. In a class the widest spread comes first.

    Parameters
    ----------
    screened : table of a screening: ``structure_id, source, epsilon_max_mev_per_angstrom, members_stable``
    shares : dict from class to its weight
    excluded : set of (class, composition) that are not labelled: those that have labels, those that judge
    compounds : at most so many
    members : of the committee

    Returns
    -------
    pandas.DataFrame with the columns ``FIELDS``; every role is ``training``
    """
    disputed = screened.members_stable.between(1, members - 1)
    wide = screened.epsilon_max_mev_per_angstrom > THRESHOLD_MEV_PER_ANGSTROM
    recommended: Any = screened[disputed | wide].sort_values(
        ["epsilon_max_mev_per_angstrom", "structure_id"], ascending=[False, True]
    )
    by_class: dict[str, list] = {name: [] for name in shares}
    for row in recommended.itertuples():
        formula, prototype = row.source.split(":")
        name, elements = class_and_composition({"formula": formula, "prototype": prototype})
        if name in by_class and (name, elements) not in excluded:
            epsilon = row.epsilon_max_mev_per_angstrom
            by_class[name].append([row.structure_id, formula, prototype, "training", epsilon, row.members_stable])
    return pandas.DataFrame(proportional(by_class, shares)[:compounds], columns=FIELDS)


def main() -> None:
    """List the compounds to label as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("screening", type=Path, help="table of a screening (Parquet)")
    parser.add_argument("labels", type=Path, nargs="+", help="files of kept labels: their compounds are left out")
    parser.add_argument(
        "--exclude", nargs="*", default=[], help="CSV files of compounds that judge: formula, prototype"
    )
    parser.add_argument("--compounds", type=int, default=2500, help="at most so many (2500)")
    parser.add_argument("--members", type=int, default=5, help="of the committee (5)")
    parser.add_argument("--table1", default=shipped("resources/published/table1.yaml"))
    arguments = parser.parse_args()
    excluded = excluded_classes(arguments.exclude)
    for path in arguments.labels:
        excluded |= {class_and_composition(record) for record, _ in read_product(path)[1]}
    table = queried(
        pandas.read_parquet(arguments.screening), read_shares(arguments.table1), excluded, arguments.compounds,
        arguments.members,
    )  # fmt: skip
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(table.itertuples(index=False))


if __name__ == "__main__":
    main()
