"""A pool of compounds by substitution: elements that may stand on the sites of a structure type, and a draw among them.

``python -m phonoscreen.structures.substitution resources/experiment_families.yaml resources/pool.csv`` writes the pool
of the experiment on force models (``resources/experiment_pool.csv``) to the standard output.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, product, zip_longest
from typing import Any

import pandas
import yaml

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.structures.filters import draw_parts
from phonoscreen.structures.formulas import parse_formula

UNSEEN_FRACTION = 0.2
COLUMNS = ["structure_id", "formula", "prototype", "part"]


def site_counts(structure_type: str) -> list[int]:
    """Return how many atoms each site of a structure type gives to the formula: ``[1, 1, 2]`` for ``216-ABC2``."""
    return [int(count or 1) for count in re.findall(r"[A-Z](\d*)", structure_type.split("-")[1])]


def substitute(structure_type: str, families: Sequence[Sequence[str]], seed: int) -> list[str]:
    """Formulas of a structure type in the order of a draw: the families take turns, each in an order of its own.

    Parameters
    ----------
    structure_type : for example ``"225-ABC2D6"``
    families : list of families; a family is a list of sites, a site a text of element symbols that may stand on it
    seed : decides the order

    Returns
    -------
    list of formulas, elements in the order of the sites, no element on two sites, each formula once
    """
    counts, turns = site_counts(structure_type), []
    for number, family in enumerate(families):
        formulas = [
            "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in zip(symbols, counts, strict=True))
            for symbols in product(*(site.split() for site in family))
            if len(set(symbols)) == len(symbols)
        ]
        turns.append(sorted(formulas, key=lambda formula: derive_seed(seed, structure_type, number, formula)))
    return list(dict.fromkeys(formula for formula in chain(*zip_longest(*turns)) if formula))


def draw_pool(families: Mapping[str, Any], known: pandas.DataFrame, seed: int, scale: int = 1) -> pandas.DataFrame:
    """The pool: known compounds of each structure type, then drawn ones up to the number asked for.

    Every class is divided into compounds to train on and compounds never seen (part ``validation``), a fifth of each.

    Parameters
    ----------
    families : dict from structure type to ``compounds`` and ``families`` (``resources/experiment_families.yaml``)
    known : table with ``structure_id, formula, prototype`` of compounds known to exist
    seed : decides the draw
    scale : draw this many times the compounds asked for; where the families of a structure type are exhausted, the
        others take turns in filling up

    Returns
    -------
    pandas.DataFrame with the columns of a pool (``phonoscreen.structures.sources.read_pool``)
    """
    chosen, left = {}, []
    for structure_type, asked in families.items():
        candidates, wanted = _candidates(structure_type, asked["families"], known, seed), scale * asked["compounds"]
        chosen[structure_type] = candidates[:wanted]
        left.append([(structure_type, one) for one in candidates[wanted:]])
    missing = scale * sum(asked["compounds"] for asked in families.values()) - sum(map(len, chosen.values()))
    for structure_type, one in [pair for pair in chain(*zip_longest(*left)) if pair][:missing]:
        chosen[structure_type].append(one)
    rows = [(*one, structure_type) for structure_type, compounds in chosen.items() for one in compounds]
    table = pandas.DataFrame(rows, columns=COLUMNS[:3])
    listed: Any = table.itertuples()
    classes = {row.structure_id: "-".join(row.prototype.split("-")[:2]) for row in listed}
    unseen = round(UNSEEN_FRACTION * len(table))
    parts = draw_parts(classes, len(table) - unseen, unseen, seed)
    table["part"] = [parts[name] for name in table["structure_id"]]
    return table


def _candidates(structure_type, families, known, seed):
    """Return (structure id, formula) of a structure type: known compounds, then all that can be drawn, in order."""
    group, space_group = known[known["prototype"] == structure_type], structure_type.split("-")[0]
    compounds = list(group[["structure_id", "formula"]].itertuples(index=False, name=None))
    compositions = {frozenset(parse_formula(formula)) for formula in group["formula"]}
    for formula in substitute(structure_type, families, seed):
        if frozenset(parse_formula(formula)) not in compositions:
            compounds.append((f"{formula.lower()}-{space_group}", formula))
            compositions.add(frozenset(parse_formula(formula)))
    return compounds


def main() -> None:
    """Print the pool of a file of families."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", help="YAML: structure type -> compounds, families")
    parser.add_argument("known", help="CSV of compounds known to exist, taken first")
    parser.add_argument("--seed", type=int, default=61)
    parser.add_argument("--scale", type=int, default=1, help="times the compounds of the file")
    arguments = parser.parse_args()
    with open(arguments.families) as stream:
        families = yaml.safe_load(stream)
    known = pandas.read_csv(arguments.known, dtype=str, keep_default_na=False)
    draw_pool(families, known, arguments.seed, arguments.scale).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
