"""The fit of one structure of a study, from the shards' files to its record."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy

from phonoscreen.audit.shard import Outcome
from phonoscreen.force_constants.finite_displacements import complete_by_symmetry, is_single
from phonoscreen.force_constants.learning_curve import learning_curve
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.structures.labelled_supercells import read_labelled
from phonoscreen.structures.own_charges import FROM_LABELS, OwnCharges
from phonoscreen.structures.store import crystal_arrays

if TYPE_CHECKING:
    import h5py

    from phonoscreen.force_constants.fit import FitterPool
    from phonoscreen.structures.labelled_supercells import LabelledSupercells

log = logging.getLogger("phonoscreen")

REACH = ("third_cutoff_angstrom", "third_shell", "third_cutoff_to_shell_angstrom")
"""Columns of the assignment that a fit's record repeats."""


def fit_structure(
    pool: "FitterPool",
    assigned: Mapping[str, Any],
    group: "h5py.Group",
    supercell: "h5py.Group",
    with_learning_curve: bool = False,
    own_charges: OwnCharges = FROM_LABELS,
) -> Outcome:
    """Fit the force constants of one structure.

    Parameters
    ----------
    pool : ``FitterPool``
    assigned : row of the assignment of bases
    group : HDF5 group with ``forces`` and perhaps ``supercell_index``, ``committee_forces``, ``residual_forces``,
        ``born_charges`` and ``dielectric``
    supercell : HDF5 group with ``displacements`` and the primitive cell
    with_learning_curve : also fit to fewer supercells, see ``learning_curve``
    own_charges : of the study, where it has a stage for them

    Returns
    -------
    Outcome
    """
    # A model gives forces on what the study displaced; supercells that others displaced are for labels alone.
    rows = slice(int(supercell.attrs.get("n_of_others", 0)) if "committee_forces" in group else 0, None)
    data = own_charges.put_into(read_labelled(group, supercell, rows), supercell.name.strip("/"))
    crystal, samples = data.crystal, fit_arguments(data)
    committee = group["committee_forces"][:, rows] if "committee_forces" in group else None
    charges, single = samples["charges"], is_single(data.displacements)
    if single:
        fitted = _second_order_alone(pool, assigned["basis_key"], data, charges)
    else:
        fitter = pool.fitter(assigned["basis_key"])
        fitted = fitter.fit(crystal, committee_forces=committee, **samples)
    for warning in fitted.warnings:
        log.warning("%s: %s", supercell.name.strip("/"), warning)
    arrays = {"parameters": fitted.parameters}
    if fitted.parameters_committee is not None:
        arrays["parameters_committee"] = fitted.parameters_committee
    if charges is not None:
        arrays |= {"born_charges": charges[0], "dielectric": charges[1], **crystal_arrays(crystal)}
    if with_learning_curve and not single:
        curve = learning_curve(fitter, crystal, *samples.values())
        arrays |= {f"learning_curve/{name}": numpy.array(column) for name, column in curve.items()}
    values = {**{name: assigned[name] for name in REACH}, **fitted.quality}
    return Outcome(
        values=values, arrays=arrays, attrs={"basis_key": assigned["basis_key"], "second_order_alone": single}
    )


def _second_order_alone(pool, key, data, charges):
    """Fit supercells in which single atoms are displaced; parameters of higher orders, which they lack, are zero."""
    forces = data.forces if data.residual_forces is None else data.forces - data.residual_forces
    completed = complete_by_symmetry(data.crystal, data.repetitions, data.displacements, forces)
    fitted = pool.second_order_fitter(key, data.crystal).fit(data.crystal, *completed, charges=charges)
    whole = numpy.zeros(sum(order.n_free for order in pool.basis(key).orders))
    whole[: len(fitted.parameters)] = fitted.parameters
    return replace(fitted, parameters=whole)


def fit_arguments(data: "LabelledSupercells") -> dict[str, Any]:
    """Return the arguments ``displacements, forces, residual_forces, charges`` of ``ForceConstantFitter.fit``.

    Parameters
    ----------
    data : ``LabelledSupercells``

    Returns
    -------
    dict; the last two None where unknown, the charges made to obey the crystal's symmetry
    """
    charges = None if data.charges is None else check_charges(data.crystal, *data.charges)
    return {"displacements": data.displacements, "forces": data.forces, "residual_forces": data.residual_forces,
            "charges": charges}  # fmt: skip
