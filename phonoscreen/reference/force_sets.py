"""Forces that others calculated: labels with the supercells that they were calculated in.

Nothing is calculated. A structure is labelled with all supercells of its force set
(``phonoscreen.structures.force_sets``), whatever the study itself would displace.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import h5py
import numpy

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray


class ForceSetEngine:
    """Labels of the force sets of a study.

    Parameters
    ----------
    folder : with ``sets.h5`` of ``collect_force_sets``
    name : what products call the reference
    """

    kind, relaxes, calculates = "force_sets", False, False

    def __init__(self, folder: str | Path, name: str):
        self._path, self.name = Path(folder) / "sets.h5", name

    def own_supercells(self, structure_id: str) -> dict[str, NDArray]:
        """Return the arrays of a structure: its primitive cell and the supercells with their forces.

        Returns
        -------
        dict as written by ``phonoscreen.structures.force_sets.collect_force_sets``

        Raises
        ------
        StudyError
            If there is no force set of this structure.
        """
        with h5py.File(self._path) as store:
            if structure_id not in store:
                raise StudyError("no force set", where=structure_id, fix="run the rule collect_force_sets again")
            return {name: numpy.asarray(array) for name, array in store[structure_id].items()}

    def forces(self, atoms: Atoms, label: str) -> NoReturn:
        """Raise: nothing is calculated."""
        raise StudyError("forces of other supercells than those of the force sets are not known", where=label,
                         fix="use an engine that calculates, in reference.engine")  # fmt: skip

    evaluate = forces


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> ForceSetEngine:
    """Return the engine; ``threads`` and ``folder`` are not used, nothing is calculated."""
    return ForceSetEngine(settings["folder"], settings["model"])
