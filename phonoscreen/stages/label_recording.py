"""The reference forces of a small study, recorded once: relaxed crystals and forces of its displaced supercells.

``python -m phonoscreen.stages.label_recording POOL SETTINGS FOLDER FILE`` relaxes the compounds of a pool with a
potential, displaces the supercells that a study with these settings displaces, calculates all of their forces and those
of the undisplaced supercell, and packs them as ``phonoscreen.stages.label_product`` does. The engine ``recorded`` reads
the file. Each compound is kept in the folder when it is finished, so an interrupted call goes on there.
"""

import argparse
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.provenance import file_sha256, packages
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome, attempt
from phonoscreen.audit.shipped import shipped
from phonoscreen.crystal.constants import Crystal
from phonoscreen.force_constants.settings import OrderSettings, SupercellSettings
from phonoscreen.stages.assignment import BasisAssigner
from phonoscreen.stages.label_library import starting_structure
from phonoscreen.stages.screening import ASSIGNED
from phonoscreen.structures.packed_labels import arrays_of, write_product
from phonoscreen.structures.prototypes import read_prototypes
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.sources import read_pool
from phonoscreen.structures.store import read_atoms, structure_arrays
from phonoscreen.structures.supercells import build_supercell, displaced_supercell, random_displacements
from phonoscreen.structures.third_order_reach import ThirdOrderReach

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.reference.base import Engine

STAGE = "label_recording"


class Recorder:
    """Relaxes compounds and labels the supercells that a study displaces.

    Parameters
    ----------
    engine : of reference forces
    settings : sections ``seed, filter, relax, supercell, force_constants`` of the study
    structure_types : mapping of ``resources/prototypes.yaml``
    bases : open ``h5py.File`` that collects the symmetry bases
    """

    def __init__(self, engine: "Engine", settings: dict, structure_types: Mapping, bases: "h5py.File") -> None:
        self.engine, self.settings = engine, settings
        supercell = SupercellSettings.from_section(settings["supercell"])
        orders = OrderSettings.from_section(settings["force_constants"])
        self._assigner = BasisAssigner(bases, supercell, orders, ThirdOrderReach(structure_types))

    def record(self, structure_id: str, atoms: "Atoms") -> Outcome:
        """Return the labels of a compound, arrays as ``write_product`` takes them.

        The last supercell is the undisplaced one.
        """
        tolerance = self.settings["filter"]["symmetry_tolerance_angstrom"]
        relaxed = relax_structure(atoms, self.engine, structure_id, self.settings["relax"], tolerance)
        if relaxed.status != "ok":
            return relaxed
        crystal = read_atoms(relaxed.arrays)
        assigned = self._assigner.assign(Crystal.from_ase(crystal))
        repetitions = tuple(int(n) for n in assigned["repetitions"].split())
        supercell, length = build_supercell(crystal, repetitions), self.settings["supercell"]["displacement_angstrom"]
        rng = numpy.random.default_rng(derive_seed(self.settings["seed"], structure_id, "displacements"))
        moves = random_displacements(int(assigned["n_network"]), len(supercell), length, rng)
        moves = numpy.concatenate([moves, numpy.zeros((1, len(supercell), 3))])
        labelled = [self.engine.forces(displaced_supercell(supercell, move), structure_id) for move in moves]
        energies, forces = (numpy.array(values) for values in zip(*labelled, strict=True))
        nothing = {
            "strained/strains": numpy.empty((0, 3, 3)), "strained/energies_ev": numpy.empty(0),
            "strained/forces": numpy.empty((0, len(crystal), 3)), "strained/stresses": numpy.empty((0, 3, 3)),
        }  # fmt: skip
        return Outcome(
            values={**{name: assigned[name] for name in ASSIGNED}, **relaxed.values},
            arrays={
                **structure_arrays(crystal), "repetitions": numpy.array(repetitions), "displacements": moves,
                "forces": forces, "energies_ev": energies, "stresses": numpy.zeros((len(moves), 3, 3)), **nothing,
            },
        )  # fmt: skip


def run(recorder: Recorder, pool: Path, structure_types: dict, folder: Path) -> None:
    """Record every compound of a pool that the folder does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    formulas = {row.structure_id: row for row in read_pool(pool, structure_types)}
    import pandas

    listed: Any = pandas.read_csv(pool, dtype=str, keep_default_na=False).itertuples()
    for row in listed:
        path = folder / f"{row.structure_id}.h5"
        if path.exists() or formulas[row.structure_id].atoms is None:
            continue
        start = starting_structure(row.formula, row.prototype, structure_types)
        outcome = attempt(functools.partial(recorder.record, atoms=start), row.structure_id, STAGE)
        record = {
            "structure_id": row.structure_id, "formula": row.formula, "prototype": row.prototype, "role": row.part,
            "status": outcome.status, "reason": outcome.reason, **outcome.values,
        }  # fmt: skip
        with written_whole(path) as partial, h5py.File(partial, "w") as store:
            store.attrs["record"] = json.dumps(record)
            for name, array in outcome.arrays.items():
                store[name] = array
        print(row.structure_id, outcome.status, outcome.reason, flush=True)


def recorded(pool: Path, folder: Path, origin: dict) -> Iterator[tuple[dict, dict, dict]]:
    """Yield (record, arrays, origin) of every compound of the pool that the folder holds, in the pool's order."""
    import pandas

    for name in pandas.read_csv(pool, dtype=str, keep_default_na=False)["structure_id"]:
        path = folder / f"{name}.h5"
        if path.exists():
            with h5py.File(path) as store:
                yield json.loads(store.attrs["record"]), arrays_of(store), origin


def main() -> None:
    """Record the labels of a pool."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path, help="CSV: structure_id, formula, prototype, part")
    parser.add_argument("settings", type=Path, help="YAML of complete settings of the study")
    parser.add_argument("folder", type=Path, help="where finished compounds are kept")
    parser.add_argument("file", type=Path, help="packed file to write")
    parser.add_argument("--potential", default="nequix-oam-1-pft", help="as in phonoscreen screen")
    arguments = parser.parse_args()
    import yaml

    from phonoscreen.formats.weights import WEIGHTS
    from phonoscreen.reference.named import engine_of_name

    weights = WEIGHTS.get(arguments.potential, "")
    settings = yaml.safe_load(arguments.settings.read_text())
    types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
    engine = engine_of_name(arguments.potential)
    with h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        recorder = Recorder(engine, settings, types, bases)
        run(recorder, arguments.pool, types, arguments.folder)
    origin = {
        "engine": engine.name, "weights_sha256": weights, "seed": settings["seed"], "code": "",
        "pool_sha256": file_sha256(arguments.pool), "settings": json.dumps(settings),
        "packages": json.dumps(packages()),
    }  # fmt: skip
    write_product(recorded(arguments.pool, arguments.folder, origin), arguments.file)
    print(f"{arguments.file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
