"""COHP of a crystal in an HDF5 group: one curve per type of bond, from which every pair is rebuilt."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy

from phonoscreen.bonding import gpaw_lcao
from phonoscreen.bonding.cohp import STEP_EV, Cohp, pairs_within
from phonoscreen.crystal.constants import Crystal

METHOD_VERSION = 1
"""Raised when an edit of the engine changes its numbers: what was kept before then counts no more."""
CUTOFF_ANGSTROM = 6.0
_DIGITS = 5  # of curves and strengths; half a digit of the last is far below what the engine resolves


def method() -> dict[str, Any]:
    """Return what decides the numbers of the engine ``gpaw`` besides the crystal: two records of one method compare."""
    return {
        "engine": "gpaw",
        "version": METHOD_VERSION,
        "functional": gpaw_lcao.FUNCTIONAL,
        "grid_spacing_angstrom": gpaw_lcao.GRID_SPACING_ANGSTROM,
        "fermi_width_ev": gpaw_lcao.FERMI_WIDTH_EV,
        "density_mesh_angstrom": gpaw_lcao.DENSITY_MESH_ANGSTROM,
        "bands_mesh_angstrom": gpaw_lcao.BANDS_MESH_ANGSTROM,
        "energy_step_ev": STEP_EV,
        "cutoff_angstrom": CUTOFF_ANGSTROM,
    }


def store_cohp(group: h5py.Group, crystal: Crystal, cohp: Cohp, cutoff_angstrom: float = CUTOFF_ANGSTROM) -> None:
    """Write a crystal and its COHP, all pairs of one type of bond equal.

    Parameters
    ----------
    group : empty group of an HDF5 file
    crystal : the crystal that the COHP is of
    cohp : of an engine of this project
    cutoff_angstrom : largest distance of its pairs
    """
    types = cohp.bond_types()
    for name in ("cell", "scaled_positions", "numbers"):
        group[name] = getattr(crystal, name)
    curves = numpy.array([cohp.curves[members].mean(axis=0) for _, _, members in types])
    group.create_dataset(
        "cohp", data=numpy.round(curves, _DIGITS).astype("f4"), compression="gzip", compression_opts=9, shuffle=True
    )
    group["icohp_ev"] = [round(float(cohp.icohp_ev[members].mean()), _DIGITS) for _, _, members in types]
    group["mulliken"], group["loewdin"] = cohp.mulliken, cohp.loewdin
    group.attrs.update(
        energy_first_ev=cohp.energies_ev[0], energy_step_ev=cohp.energies_ev[1] - cohp.energies_ev[0],
        spilling=cohp.spilling, basis=cohp.basis, warnings=json.dumps(cohp.warnings), cutoff_angstrom=cutoff_angstrom,
    )  # fmt: skip


def read_cohp(group: h5py.Group) -> tuple[Crystal, Cohp]:
    """Return what ``store_cohp`` wrote.

    Raises
    ------
    ValueError, KeyError
        If the group is not what ``store_cohp`` writes.
    """
    numbers = group["numbers"][:]
    crystal = Crystal(group["cell"][:], group["scaled_positions"][:], numbers, numpy.ones(len(numbers)))
    atoms, translations, distances = pairs_within(
        crystal.cell, crystal.scaled_positions, numbers, float(group.attrs["cutoff_angstrom"])
    )
    from ase.data import chemical_symbols

    curves = group["cohp"][:].astype(float)
    energies = group.attrs["energy_first_ev"] + group.attrs["energy_step_ev"] * numpy.arange(curves.shape[1])
    cohp = Cohp(
        energies_ev=energies,
        symbols=numpy.array([[chemical_symbols[numbers[atom]] for atom in pair] for pair in atoms]),
        atoms=atoms,
        translations=translations,
        distances_angstrom=distances,
        curves=numpy.zeros((len(atoms), len(energies))),
        icohp_ev=numpy.zeros(len(atoms)),
        below_ev=numpy.zeros(len(atoms)),
        spilling=float(group.attrs["spilling"]),
        basis=str(group.attrs["basis"]),
        warnings=json.loads(group.attrs["warnings"]),
        mulliken=group["mulliken"][:],
        loewdin=group["loewdin"][:],
    )
    types = cohp.bond_types()
    for (_, _, members), curve, strength in zip(types, curves, group["icohp_ev"][:], strict=True):
        cohp.curves[members], cohp.icohp_ev[members] = curve, strength
    return crystal, cohp
