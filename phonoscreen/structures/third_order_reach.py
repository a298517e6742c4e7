"""How far the third order reaches in the crystals of a structure type: neighbour shells, not a length.

A length in angstrom treats compounds of one structure type differently: 5 angstrom hold two neighbour shells of AlSb
and three of AlAs. ``third_shells`` of ``resources/prototypes.yaml`` counts the shells of the ideal structure; the
middle of the gap behind the last of them, in units of the cube root of the volume, is the cutoff of every crystal
of the type. Where coordinates are free, shells of one crystal coincide that are apart in another, so they are
counted in the ideal structure and not in each crystal.
"""

from collections.abc import Mapping
from typing import Any

import numpy

from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.pairs import periodic_pairs
from phonoscreen.structures.prototypes import build_structure, formula_type
from phonoscreen.structures.substitution import site_counts

SHELL = 2e-3
"""Distances closer than this, in units of the cube root of the primitive cell's volume, are one shell."""

LONGEST = 2.5
"""No reach of a structure type is longer, same unit."""

_ELEMENTS = ("Cs", "K", "Cl", "O")


class ThirdOrderReach:
    """Third-order cutoff of the crystals of the structure types.

    Parameters
    ----------
    structure_types : mapping of ``resources/prototypes.yaml``
    """

    def __init__(self, structure_types: Mapping[str, Any]) -> None:
        self._types: dict[str, list[str]] = {}
        for name in structure_types:
            self._types.setdefault("-".join(name.split("-")[:2]), []).append(name)
        self._structure_types = structure_types
        self._known: dict[str, tuple[float, float, int]] = {}

    def angstrom(self, crystal: Crystal, space_group_number: int) -> float | None:
        """Return the cutoff of a primitive crystal, or None where its class is none of the structure types'.

        Of two structure types of one class (Cu3Au and ReO3) it is the one with the more similar nearest neighbours.
        """
        names = self._types.get(f"{space_group_number}-{formula_type(crystal.numbers)}", [])
        names = [name for name in names if self._shape(name)[2] == len(crystal.numbers)]
        if not names:
            return None
        length = float(crystal.volume ** (1 / 3))
        nearest = _shells(crystal.cell / length, crystal.scaled_positions)[0]
        name = min(names, key=lambda name: abs(self._shape(name)[1] - nearest))
        return length * self._shape(name)[0]

    def _shape(self, name):
        """Return reach and nearest neighbours of a structure type over the cube root of its volume, and its atoms."""
        if name not in self._known:
            formula = "".join(f"{symbol}{n}" for symbol, n in zip(_ELEMENTS, site_counts(name), strict=False))
            atoms = build_structure(formula, name, self._structure_types)
            shells = _shells(atoms.cell.array / atoms.cell.volume ** (1 / 3), atoms.get_scaled_positions())
            last = self._structure_types[name]["third_shells"]
            self._known[name] = (float(shells[last - 1 : last + 1].mean()), float(shells[0]), len(atoms))
        return self._known[name]


def _shells(cell, scaled_positions):
    """Return the distances of neighbours, ascending, each shell once."""
    vectors = periodic_pairs(numpy.asarray(cell), numpy.asarray(scaled_positions), LONGEST)[2]
    distances = numpy.sort(numpy.linalg.norm(vectors, axis=1))
    return distances[numpy.diff(distances, prepend=0.0) > SHELL]
