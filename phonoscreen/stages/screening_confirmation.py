"""How many structures that a screening finds are confirmed by the potential that its model learned from.

``phonoscreen confirm`` draws solved structures of the table of a screening that no model was trained on: a number with
a conductivity below 1 W/m/K and as many others. Each is relaxed, displaced, fitted and solved with the potential, with
the settings of the screening. The paper recomputed 67 structures predicted below 1 W/m/K with its reference: 36 were
confirmed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy
import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shipped import shipped
from phonoscreen.stages.confirmed import KAPPA, ULTRALOW_W_PER_M_K
from phonoscreen.stages.label_library import starting_structure
from phonoscreen.stages.screening import Screening
from phonoscreen.stages.screening_folder import ScreeningFolder, screen
from phonoscreen.stages.screening_forces import EngineForces
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.prototypes import read_prototypes

if TYPE_CHECKING:
    from phonoscreen.reference.base import Engine


def draw(table: pandas.DataFrame, each: int, seed: int) -> pandas.DataFrame:
    """Return solved structures drawn at random: so many below 1 W/m/K, as many others, in turn.

    Parameters
    ----------
    table : of a screening, see ``phonoscreen.stages.screening_product``
    each : structures of either kind
    seed : of the draw

    Raises
    ------
    StudyError
        If there are fewer of a kind.
    """
    solved = table[(table["status"] == "ok") & (table[KAPPA] > 0) & (table["part"] != "training")]
    turn = [derive_seed(seed, str(structure_id), "confirmation") for structure_id in solved["structure_id"]]
    solved = solved.iloc[numpy.argsort(turn, kind="stable")]
    low = solved[KAPPA] < ULTRALOW_W_PER_M_K
    kinds = [solved[low].head(each), solved[~low].head(each)]
    if min(map(len, kinds)) < each:
        counts = f"{len(kinds[0])} structures below 1 W/m/K and {len(kinds[1])} others"
        raise StudyError(f"{counts} in the table, {each} of each are wanted", fix="draw fewer with --each")
    places = [at for pair in zip(*(kind.index for kind in kinds), strict=True) for at in pair]
    return solved.loc[places]


def confirm(
    drawn: pandas.DataFrame, engine: "Engine", folder: str | Path, settings: dict, code: str
) -> pandas.DataFrame:
    """Return the rows of the drawn structures with the forces of an engine.

    Parameters
    ----------
    drawn : rows of the table with ``structure_id, source`` (formula and structure type)
    engine : of reference forces
    folder : of the results, see ``phonoscreen.stages.screening_folder``
    settings : of the screening
    code : digest of the code
    """
    types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
    forces, candidates = EngineForces(engine), []
    listed: Any = drawn.itertuples()
    for row in listed:
        formula, structure_type = row.source.split(":")
        atoms = starting_structure(formula, structure_type, types)
        candidates.append(Candidate(row.structure_id, "pool", row.source, row.formula, atoms))
    origin = {"forces": {"name": forces.name, "digest": ""}, "settings": settings}
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        screening = Screening(forces, settings, bases, types)
        with ScreeningFolder(folder, origin, code) as output:
            columns = {"forces": forces.name, "forces_digest": ""}
            return screen(
                candidates, screening, output, columns, calibration={}, say=lambda line: print(line, flush=True)
            )
