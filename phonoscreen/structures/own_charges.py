"""Born charges and dielectric tensors of a study, where a stage of its own finds them (``charges.source``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

import h5py
import pandas
from numpy.typing import NDArray

from phonoscreen.structures.labelled_supercells import LabelledSupercells

Charges = tuple[NDArray, NDArray]


class OwnCharges:
    """Charges of the structures of some shards; without files, those that came with the labels.

    Parameters
    ----------
    paths : HDF5 files of ``calculate_charges``, one or several; None or empty where the study has no such stage
    """

    def __init__(self, paths: str | os.PathLike | Iterable[str] | None = None) -> None:
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths or ())
        self._found: dict[str, Charges] | None = {} if listed else None
        for path in listed:
            with h5py.File(path) as store:
                for structure_id, group in store.items():
                    if self._found is not None and "born_charges" in group:
                        self._found[structure_id] = (group["born_charges"][()], group["dielectric"][()])

    def of(self, structure_id: str, with_labels: Charges | None) -> Charges | None:
        """Return Born charges (n_atoms, 3, 3) in e and dielectric tensor (3, 3) of a structure, or None.

        Parameters
        ----------
        structure_id : str
        with_labels : those that came with its labels, which count where the study has no stage for them
        """
        return with_labels if self._found is None else self._found.get(structure_id)

    def put_into(self, data: LabelledSupercells, structure_id: str) -> LabelledSupercells:
        """Return the labelled supercells of a structure with the charges that count."""
        return replace(data, charges=self.of(structure_id, data.charges))


FROM_LABELS = OwnCharges()
"""For a study without such a stage."""


def blocked_without(upstream: pandas.DataFrame, charges: pandas.DataFrame | None) -> pandas.DataFrame:
    """Return the records of the stage before, with those of ``calculate_charges`` in their place where it failed.

    A crystal whose charges are asked for and not known must not go on as if it had none.

    Parameters
    ----------
    upstream : records of the forces
    charges : records of ``calculate_charges``, or None where the study has no such stage
    """
    if charges is None:
        return upstream
    stopped = charges.loc[charges["status"] != "ok"].set_index("structure_id")
    instead = upstream["structure_id"].isin(stopped.index) & (upstream["status"] == "ok")
    mixed = upstream.copy()
    for name in ("stage", "status", "reason"):
        mixed.loc[instead, name] = stopped.loc[mixed.loc[instead, "structure_id"], name].to_numpy()
    return mixed
