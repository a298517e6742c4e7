"""One block of the screened pool: each structure from its formula to its row, with a model's forces."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import h5py

from phonoscreen.audit.shard import Outcome, attempt
from phonoscreen.stages.label_library import starting_structure
from phonoscreen.stages.screening import Progress, Screening
from phonoscreen.stages.screening_forces import ModelForces
from phonoscreen.stages.screening_table import row_of
from phonoscreen.structures.candidate import Candidate

if TYPE_CHECKING:
    from phonoscreen.forcefield.committee import Committee

STAGE = "screen_block"


class BlockScreening:
    """Takes structures of the pool through all stages; the symmetry bases are kept in memory until it is closed.

    Parameters
    ----------
    committee : ``phonoscreen.forcefield.committee.Committee`` of the published model
    content : its ``model.json``
    settings : sections of the settings, see ``phonoscreen.stages.screening.Screening``
    structure_types : mapping of ``resources/prototypes.yaml``

    Attributes
    ----------
    origin : dict of what every row depends on besides the code: what names the networks, settings
    """

    def __init__(self, committee: "Committee", content: dict, settings: dict, structure_types: Mapping) -> None:
        forces = ModelForces(committee, content)
        self._bases = h5py.File("bases", "w", driver="core", backing_store=False)
        self._screening = Screening(forces, settings, self._bases, structure_types)
        self._types, self._calibration = structure_types, forces.calibration
        self._fixed = {"forces": forces.name, "forces_digest": forces.digest}
        self.origin = {"forces": forces.name, "networks": forces.digest, "settings": settings}

    def __enter__(self) -> "BlockScreening":
        return self

    def __exit__(self, *_: object) -> None:
        self._bases.close()

    def solve(self, row: Any) -> Outcome:
        """Return the row of a structure as an ``Outcome``, with what is known of it where a stage refused it.

        Parameters
        ----------
        row : with ``structure_id, formula, prototype, part``
        """
        progress, started = Progress(), time.process_time()

        def go(name):
            atoms = starting_structure(row.formula, row.prototype, self._types)
            return self._screening.solve(Candidate(name, "pool", name, row.formula, atoms), progress)

        outcome = attempt(go, row.structure_id, STAGE)
        fixed = {"structure_id": row.structure_id, "source": f"{row.formula}:{row.prototype}", **self._fixed}
        seconds = time.process_time() - started
        values = row_of({**fixed, **progress.values, "seconds": seconds}, outcome, self._calibration)
        own = ("structure_id", "status", "reason")
        values = {name: value for name, value in values.items() if name not in own}
        return Outcome({**values, "part": row.part}, status=outcome.status, reason=outcome.reason)
