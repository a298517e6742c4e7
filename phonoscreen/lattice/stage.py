"""The fit of one structure of a study, from the shards' files to its record."""

import logging

import numpy

from phonoscreen.audit.shard import Outcome
from phonoscreen.lattice.dipoles import check_charges
from phonoscreen.lattice.learning_curve import learning_curve
from phonoscreen.lattice.store import read_crystal

log = logging.getLogger("phonoscreen")

REACH = ("third_cutoff_angstrom", "third_shell", "third_cutoff_to_shell_angstrom")
"""Columns of the assignment that a fit's record repeats."""


def fit_structure(pool, assigned, group, supercell, with_learning_curve=False):
    """Fit the force constants of one structure.

    Parameters
    ----------
    pool : ``FitterPool``
    assigned : row of the assignment of bases
    group : HDF5 group with ``forces`` and perhaps ``supercell_index``, ``committee_forces``, ``residual_forces``,
        ``born_charges`` and ``dielectric``
    supercell : HDF5 group with ``displacements`` and the primitive cell
    with_learning_curve : also fit to fewer supercells, see ``learning_curve``

    Returns
    -------
    Outcome
    """
    crystal, displacements = read_crystal(supercell), supercell["displacements"][:]
    if "supercell_index" in group:
        displacements = displacements[group["supercell_index"][:]]
    data = {name: group[name][:] for name in ("committee_forces", "residual_forces") if name in group}
    charges = None
    if "born_charges" in group:
        charges = check_charges(crystal, group["born_charges"][:], group["dielectric"][:])
    fitter = pool.fitter(assigned["basis_key"])
    fitted = fitter.fit(crystal, displacements, group["forces"][:], charges=charges, **data)
    for warning in fitted.warnings:
        log.warning("%s: %s", supercell.name.strip("/"), warning)
    arrays = {"parameters": fitted.parameters}
    if fitted.parameters_committee is not None:
        arrays["parameters_committee"] = fitted.parameters_committee
    if charges is not None:
        arrays |= {"born_charges": charges[0], "dielectric": charges[1], "cell": crystal.cell,
                   "scaled_positions": crystal.scaled_positions, "numbers": crystal.numbers}  # fmt: skip
    if with_learning_curve:
        curve = learning_curve(fitter, crystal, displacements, group["forces"][:], data.get("residual_forces"), charges)
        arrays |= {f"learning_curve/{name}": numpy.array(column) for name, column in curve.items()}
    values = {**{name: assigned[name] for name in REACH}, **fitted.quality}
    return Outcome(values=values, arrays=arrays, attrs={"basis_key": assigned["basis_key"]})
