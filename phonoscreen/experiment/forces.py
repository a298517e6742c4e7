"""Errors of a committee atom by atom, on labelled supercells that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import h5py
import numpy
import pandas

from phonoscreen.forcefield.committee import uncertainty
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.structures.labelled_supercells import read_labelled

if TYPE_CHECKING:
    from pathlib import Path

    from phonoscreen.forcefield.committee import Committee

COLUMNS = [
    "structure_id", "set", "supercell_index", "number", "force_mev_per_angstrom", "error_mev_per_angstrom",
    "error_single_member_mev_per_angstrom", "epsilon_mev_per_angstrom",
]  # fmt: skip


def atom_errors(committee: Committee, group: h5py.Group, labels: h5py.Group, first: int | None = 0) -> pandas.DataFrame:
    """Compare the forces of a committee with the labels of one structure.

    Parameters
    ----------
    committee : ``Committee``
    group : the structure's group in ``results/supercells/{shard}.h5``
    labels : its group in ``results/labels/{shard}.h5``
    first : number of its labelled supercells to leave out, those trained on

    Returns
    -------
    DataFrame, one row per atom and supercell, lengths of vectors in meV/angstrom: reference force, error of the
    committee's mean, RMS over the members of their errors, and epsilon of Eq. (3) (NaN where there is one member)
    """
    labelled = read_labelled(labels, group, slice(first, None))
    reference, data = labelled.forces, Supercells.of(labelled)
    if not len(reference):
        return pandas.DataFrame(columns=COLUMNS[2:])
    forces = committee.supercell_forces(data)
    error = numpy.linalg.norm(forces.mean(axis=0) - reference, axis=-1)
    single = numpy.sqrt(((forces - reference) ** 2).sum(axis=-1).mean(axis=0))
    epsilon = uncertainty(forces) if len(forces) > 1 else numpy.full(error.shape, numpy.nan)
    repeated = data.n_atoms // len(data.crystal.numbers)
    columns = {
        "supercell_index": numpy.repeat(labelled.numbers, data.n_atoms),
        "number": numpy.tile(data.crystal.numbers, len(reference) * repeated),
        "force_mev_per_angstrom": 1e3 * numpy.linalg.norm(reference, axis=-1).ravel(),
        "error_mev_per_angstrom": 1e3 * error.ravel(),
        "error_single_member_mev_per_angstrom": 1e3 * single.ravel(),
        "epsilon_mev_per_angstrom": 1e3 * epsilon.ravel(),
    }
    return pandas.DataFrame(columns)


def point_errors(
    committee: Committee,
    supercells: Mapping[str, str | Path],
    labels: Mapping[str, str | Path],
    trained: Iterable[str],
    unseen: Iterable[str],
    trained_supercells: int | None,
) -> pandas.DataFrame:
    """Return the errors on known compounds and on compounds never seen.

    Parameters
    ----------
    committee : ``Committee``
    supercells, labels : dicts from structure id to HDF5 file
    trained : ids the committee was trained on; only their supercells beyond the first ``trained_supercells`` count
    unseen : ids of compounds it was not trained on
    trained_supercells : labelled supercells per compound that training used; None: all, so none is left to measure on

    Returns
    -------
    DataFrame with the columns of ``atom_errors``, ``structure_id`` and ``set`` (known or unseen)
    """
    pieces = []
    known = () if trained_supercells is None else trained
    for name, ids, first in (("known", known, trained_supercells), ("unseen", unseen, 0)):
        for structure_id in sorted(ids):
            with h5py.File(supercells[structure_id]) as cells, h5py.File(labels[structure_id]) as truth:
                table = atom_errors(committee, cells[structure_id], truth[structure_id], first)
            pieces.append(table.assign(structure_id=structure_id, set=name))
    return pandas.concat(pieces, ignore_index=True)[COLUMNS]
