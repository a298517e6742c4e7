"""The pool of the paper's size: every class of Table 1 filled by substitution.

``python -m phonoscreen.structures.enumeration resources/enumeration.yaml`` writes the pool. Two kinds of rule make
compounds (``resources/enumeration.yaml``): *ionic* ones balance oxidation states, every anion being more
electronegative than every cation (both from pymatgen, the screens of Davies et al., Chem 1, 617 (2016)); *families*
name the elements of the sites of intermetallic structure types, with a window of valence electrons or of the ratio of
the radii where nature knows one. Compounds known to exist are taken first, then a draw by seed fills each class to the
size it has in Table 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cache
from itertools import chain, product, zip_longest
from typing import TYPE_CHECKING, Any

import numpy
import pandas
import yaml
from ase.data import atomic_numbers, covalent_radii

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shipped import shipped
from phonoscreen.structures.formulas import parse_formula
from phonoscreen.structures.substitution import site_counts
from phonoscreen.structures.substitution_rules import CHARGE_OF_ANION, Rules, read_rules

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = ["structure_id", "formula", "prototype", "part"]


def ionic_compounds(rules: Rules, structure_type: str, sites: list[str]) -> tuple[list[tuple], list[tuple]]:
    """All assignments of elements to sites with balanced charges.

    Parameters
    ----------
    sites : per site ``"cation"`` (any element with a positive oxidation state) or the elements it may hold; a site
        that lists only elements with a charge in ``ANIONS`` holds anions

    Returns
    -------
    usual, others : lists of tuples of symbols, no element twice, anions more electronegative than every cation;
        common oxidation states alone balance those of the first list
    """
    counts, elements = tuple(site_counts(structure_type)), rules.elements
    cations = [s for s, element in elements.items() if element.cation_charges and s not in rules.never_cations]
    choices, anions = [], []
    for site in sites:
        allowed = cations if site == "cation" else rules.symbols(site)
        anions.append(site != "cation" and all(symbol in CHARGE_OF_ANION for symbol in allowed))
        if anions[-1]:
            charges = [(frozenset({CHARGE_OF_ANION[s]}),) * 2 for s in allowed]
        else:
            charges = [(elements[s].common_charges, elements[s].cation_charges) for s in allowed]
        choices.append([(symbol, *options) for symbol, options in zip(allowed, charges, strict=True)])
    strength = {symbol: element.electronegativity for symbol, element in elements.items()}
    usual: list[tuple] = []
    others: list[tuple] = []
    for chosen in product(*choices):
        symbols, common, known = zip(*chosen, strict=True)
        if len(set(symbols)) < len(symbols) or not _balanced(known, counts):
            continue
        weakest = min(strength[s] for s, anion in zip(symbols, anions, strict=True) if anion)
        if all(strength[s] < weakest for s, anion in zip(symbols, anions, strict=True) if not anion):
            (usual if _balanced(common, counts) else others).append(symbols)
    return usual, others


@cache
def _balanced(charges, counts):
    """Whether one charge of each set, times the counts, can add up to zero."""
    totals = {0}
    for options, count in zip(charges, counts, strict=True):
        totals = {total + count * charge for total in totals for charge in options}
    return 0 in totals


def family_compounds(rules: Rules, structure_type: str, family: dict) -> tuple[list[tuple]]:
    """All assignments of elements to sites that a family allows.

    Parameters
    ----------
    family : ``sites`` and perhaps ``electrons`` (least and most valence electrons of a formula unit; those of a filled
        d shell of Cu, Ag and Au may count or not) or ``radius_ratio`` (least and most, first over second site, of
        covalent radii)

    Returns
    -------
    one list of tuples of symbols, no element twice
    """
    counts = site_counts(structure_type)
    found = []
    for symbols in product(*(rules.symbols(site) for site in family["sites"])):
        if len(set(symbols)) < len(symbols):
            continue
        if "electrons" in family:
            total = sum(rules.elements[s].electrons * n for s, n in zip(symbols, counts, strict=True))
            filled = sum(10 * n for s, n in zip(symbols, counts, strict=True) if s in ("Cu", "Ag", "Au"))
            least, most = family["electrons"]
            if not (least <= total <= most or least <= total - filled <= most):
                continue
        if "radius_ratio" in family:
            one, two = (covalent_radii[atomic_numbers[symbol]] for symbol in symbols[:2])
            if not family["radius_ratio"][0] <= one / two <= family["radius_ratio"][1]:
                continue
        found.append(symbols)
    return (found,)


def tolerance_factor(rules: Rules, twelvefold: str, octahedra: list[str], anion: str) -> float:
    """Goldschmidt's tolerance factor of a perovskite or elpasolite, from mean ionic radii; NaN where one is missing."""
    r = rules.elements[anion].anion_radius
    middle = numpy.mean([rules.elements[symbol].cation_radius for symbol in octahedra])
    return float((rules.elements[twelvefold].cation_radius + r) / (2**0.5 * (middle + r)))


def _fits(rules, window, symbols):
    """Whether an ionic perovskite or elpasolite lies in a window of the tolerance factor (others always do)."""
    if window is None or symbols[-1] not in CHARGE_OF_ANION:
        return True
    large, octahedra = (symbols[0], symbols[1:2]) if len(symbols) == 3 else (symbols[2], symbols[:2])
    factor = tolerance_factor(rules, large, list(octahedra), symbols[-1])
    return bool(numpy.isnan(factor) or window[0] <= factor <= window[1])


def candidates(rules: Rules, structure_type: str, seed: int) -> list[tuple]:
    """All compounds of a structure type in the order of a draw: its rules take turns, each in an order of its own.

    Compounds of common oxidation states come before others of their rule.

    Returns
    -------
    list of tuples of symbols in the order of the sites, equivalent sites with the larger atom first; of several
    arrangements of one composition the first rule's
    """
    asked, counts, found = rules.structure_types[structure_type], site_counts(structure_type), set()
    window, turns = asked.get("tolerance_factor"), []
    makers: list[tuple[Callable[..., tuple], Any]] = [(ionic_compounds, sites) for sites in asked.get("ionic", ())]
    makers += [(family_compounds, family) for family in asked.get("families", ())]
    for number, (make, rule) in enumerate(makers):
        turn = []
        for group in make(rules, structure_type, rule):
            chosen = []
            for symbols in group:
                if make is family_compounds or _fits(rules, window, symbols):
                    symbols = _larger_first(symbols, asked.get("equivalent", ()))
                    key = frozenset(zip(symbols, counts, strict=True))
                    if key not in found:
                        found.add(key)
                        chosen.append(symbols)
            turn += sorted(chosen, key=lambda symbols: derive_seed(seed, structure_type, number, *symbols))
        turns.append(turn)
    return [symbols for symbols in chain(*zip_longest(*turns)) if symbols]


def _larger_first(symbols, equivalent):
    symbols = list(symbols)
    for one, two in equivalent:
        if covalent_radii[atomic_numbers[symbols[one]]] < covalent_radii[atomic_numbers[symbols[two]]]:
            symbols[one], symbols[two] = symbols[two], symbols[one]
    return tuple(symbols)


def structure_class(structure_type: str) -> str:
    """Class of Table 1 of a structure type: ``221-AB3`` for ``221-AB3-ReO3``."""
    return "-".join(structure_type.split("-")[:2])


def enumerate_pool(rules: Rules, sizes: dict, known: pandas.DataFrame, seed: int) -> pandas.DataFrame:
    """Fill every class up to its size: compounds known to exist, then a draw among the candidates.

    Parameters
    ----------
    rules : see ``read_rules``
    sizes : dict from class to the number of compounds
    known : table with ``structure_id, formula, prototype``; repeated compounds and other classes are left out
    seed : decides the draw

    Returns
    -------
    pandas.DataFrame with ``structure_id, formula, prototype, part``; no composition twice in a class, ids unique
    """
    rows, taken, seen = [], set(), set()
    listed: Any = known.itertuples()
    for row in listed:
        key = (structure_class(row.prototype), frozenset(parse_formula(row.formula)))
        if key[0] in sizes and key not in seen and set(s for s, _ in key[1]) <= set(rules.elements):
            seen.add(key)
            taken.add(row.structure_id)
            rows.append((row.structure_id, row.formula, row.prototype, "unexplored"))
    for name, size in sizes.items():
        turns = [
            [(_formula(symbols, site_counts(one)), one) for symbols in candidates(rules, one, seed)]
            for one in rules.structure_types
            if structure_class(one) == name
        ]
        drawn = [one for one in chain(*zip_longest(*turns)) if one]
        left = size - sum(structure_class(row[2]) == name for row in rows)
        for formula, structure_type in drawn:
            if left <= 0:
                break
            key = (name, frozenset(parse_formula(formula)))
            if key not in seen:
                seen.add(key)
                rows.append((_identify(formula, name, taken), formula, structure_type, "unexplored"))
                left -= 1
    return pandas.DataFrame(rows, columns=COLUMNS)


def _formula(symbols, counts):
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in zip(symbols, counts, strict=True))


def _identify(formula, name, taken):
    """A structure id in lower case, longer where ``InP`` and ``INP`` would share one."""
    space_group, kind = name.split("-")
    for identity in (f"{formula.lower()}-{space_group}", f"{formula.lower()}-{space_group}-{kind.lower()}"):
        if identity not in taken:
            break
    else:
        identity = f"{formula}-{space_group}-{kind}"
    taken.add(identity)
    return identity


def read_sizes(path: str | Path) -> dict[str, int]:
    """Sizes of the classes of Table 1 (calculated by DFT and unexplored together), by class."""
    with open(path) as stream:
        rows = yaml.safe_load(stream)["classes"]
    return {f"{number}-{kind}": calculated + unexplored for number, kind, calculated, _, unexplored, _ in rows}


def main() -> None:
    """Print the pool."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rules", help="YAML: elements of the sites of each structure type")
    parser.add_argument(
        "--sizes", default=shipped("resources/published/table1.yaml"), help="YAML: sizes of the classes"
    )
    pools = [shipped("resources/pool.csv"), shipped("resources/experiment_pool.csv")]
    parser.add_argument("--known", nargs="*", default=pools)
    parser.add_argument("--seed", type=int, default=61)
    arguments = parser.parse_args()
    known = pandas.concat([pandas.read_csv(path, dtype=str, keep_default_na=False) for path in arguments.known])
    pool = enumerate_pool(read_rules(arguments.rules), read_sizes(arguments.sizes), known, arguments.seed)
    pool.to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
