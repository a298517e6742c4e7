"""Errors of several structures taken together."""

from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import pandas


def pooled_rms(values: ArrayLike, weights: ArrayLike) -> float:
    """Root mean square over all components of several structures.

    Parameters
    ----------
    values : (n,) root mean square of each structure
    weights : (n,) number of its components, up to a common factor
    """
    return float(numpy.sqrt(numpy.average(numpy.asarray(values) ** 2, weights=numpy.asarray(weights))))


def pooled(atoms: "pandas.DataFrame", by: list[str]) -> "pandas.DataFrame":
    """Return the force errors over all components of all atoms of each group.

    Parameters
    ----------
    atoms : table of ``phonoscreen.experiment.forces.point_errors``, with further columns to group by
    by : names of columns

    Returns
    -------
    DataFrame with ``n_structures, n_atoms, force_rmse_mev_per_angstrom, force_rmse_single_member_mev_per_angstrom,
    force_rms_mev_per_angstrom, force_rmse_relative`` per group
    """
    names = {
        "error_mev_per_angstrom": "force_rmse_mev_per_angstrom",
        "error_single_member_mev_per_angstrom": "force_rmse_single_member_mev_per_angstrom",
        "force_mev_per_angstrom": "force_rms_mev_per_angstrom",
    }
    squares = atoms[[*by, "structure_id"]].assign(**{new: atoms[old] ** 2 / 3 for old, new in names.items()})
    groups = squares.groupby(by, sort=True)
    table = groups.agg(n_structures=("structure_id", "nunique"), n_atoms=("structure_id", "size"))
    table = table.join(groups[list(names.values())].mean().map(numpy.sqrt))
    relative = table["force_rmse_mev_per_angstrom"] / table["force_rms_mev_per_angstrom"]
    return table.assign(force_rmse_relative=relative).reset_index()
