"""The compounds of Fig. 7 and where the manifest holds them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy

from phonoscreen.analysis.tables import take
from phonoscreen.structures.formulas import composition

if TYPE_CHECKING:
    import pandas

# The compounds of Fig. 7: chemical formula as in the paper, its elements with their counts, space group number.
FIGURE7 = {
    "NaKAs": ({"Na": 1, "K": 1, "As": 1}, 216),
    "KIrCs2Cl6": ({"K": 1, "Ir": 1, "Cs": 2, "Cl": 6}, 225),
    "CuPdSr2": ({"Cu": 1, "Pd": 1, "Sr": 2}, 216),
}


def figure7_structures(manifest: "pandas.DataFrame", relaxed: "pandas.DataFrame") -> dict[str, str]:
    """Return {name of the paper: structure id} of the compounds of Fig. 7 that the manifest holds.

    A formula and space group can occur with several arrangements of the elements; the one of lowest energy is taken.

    Parameters
    ----------
    manifest : DataFrame
    relaxed : records of ``relax_structures`` with ``energy_ev_per_atom``
    """
    energy = take(relaxed, ["energy_ev_per_atom"], stage="relax_structures").set_index("structure_id")
    found = {}
    for name, (elements, space_group) in FIGURE7.items():
        same = rows_of(manifest, elements, space_group)
        if len(same):
            values = energy["energy_ev_per_atom"].reindex(same["structure_id"]).astype(float).fillna(numpy.inf)
            found[name] = values.sort_values(kind="stable").index[0]
    return found


def rows_of(table: "pandas.DataFrame", elements: Mapping[str, int], space_group: int) -> "pandas.DataFrame":
    """Return the rows of a table whose formula and space group are those of a compound.

    Parameters
    ----------
    table : DataFrame with ``formula, space_group_number``
    elements : counts by element
    space_group : number
    """
    same = [composition(formula) == elements for formula in table["formula"]]
    return table[numpy.array(same, dtype=bool) & (table["space_group_number"] == space_group)]
