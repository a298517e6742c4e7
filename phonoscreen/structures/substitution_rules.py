"""Rules by which the pool of the paper's size is filled (``resources/enumeration.yaml``) and the elements they use."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy
import yaml

from phonoscreen.structures.filters import paper_elements

if TYPE_CHECKING:
    from pathlib import Path

ANIONS = {-1: "H F Cl Br I", -2: "O S Se Te", -3: "N P As Sb Bi", -4: "C Si Ge Sn Pb"}
CHARGE_OF_ANION = {symbol: charge for charge, symbols in ANIONS.items() for symbol in symbols.split()}


@dataclass(frozen=True)
class Element:
    """What the screens ask of an element.

    Parameters
    ----------
    electronegativity : Pauling's
    common_charges : positive oxidation states that are common
    cation_charges : all positive oxidation states
    cation_radius, anion_radius : ionic radii, angstrom; NaN where there are none
    electrons : valence electrons, those of a filled d shell not counted behind group 11
    """

    electronegativity: float
    common_charges: frozenset
    cation_charges: frozenset
    cation_radius: float
    anion_radius: float
    electrons: int


@dataclass
class Rules:
    """``resources/enumeration.yaml`` with the elements it may use.

    Parameters
    ----------
    structure_types : mapping of the file
    groups : dict from the name of a group to its symbols
    never_cations : elements that ``cation`` does not stand for
    elements : dict of ``Element`` by symbol
    """

    structure_types: dict
    groups: dict
    never_cations: set
    elements: dict = field(default_factory=dict)

    def symbols(self, text: str) -> list[str]:
        """Symbols of a site: element symbols and names of groups, each once, in the order written."""
        found = chain(*(self.groups.get(word, word).split() for word in text.split()))
        return [symbol for symbol in dict.fromkeys(found) if symbol in self.elements]


def read_rules(path: str | Path) -> Rules:
    """Read the rules of a pool over the 63 elements of the study."""
    with open(path) as stream:
        document = yaml.safe_load(stream)
    more = document.get("more_oxidation_states", {})
    elements = {symbol: _element(symbol, more.get(symbol, ())) for symbol in sorted(paper_elements())}
    never = set(document["never_cations"].split())
    return Rules(document["structure_types"], document["groups"], never, elements)


def _element(symbol, more):
    from pymatgen.core import Element as Known

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some data of some elements do not exist
        known = Known(symbol)
        common = frozenset(int(q) for q in (*known.common_oxidation_states, *more) if q > 0)
        charges = common | {int(q) for q in known.icsd_oxidation_states if q > 0}
        radii: Any = known.ionic_radii
        anion = radii.get(CHARGE_OF_ANION.get(symbol), numpy.nan)
        cations = [float(radius) for charge, radius in radii.items() if charge > 0]
    group = known.group
    electrons = group if group <= 11 else group - 10
    radius = float(numpy.mean(cations)) if cations else numpy.nan
    return Element(float(known.X), common, charges, radius, float(anion), electrons)
