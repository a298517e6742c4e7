"""COHP of many compounds as one file: ``python -m phonoscreen.stages.bonding_product FILE FOLDER COMPOUNDS...``.

Each compound of the lists (CSV with ``structure_id, formula, prototype``) is built, relaxed with a universal potential
and solved with GPAW. FOLDER keeps one file per finished compound, so that the command continues where it stopped; FILE
holds them all. The classes take turns, small cells first.
"""

import argparse
import json
import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import pandas
from ase import Atoms

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.bonding.engines import find_cohp
from phonoscreen.bonding.kept import store_cohp
from phonoscreen.crystal.constants import Crystal
from phonoscreen.reference.registry import make_engine
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.relaxation import relax_structure

RELAXED_WITH = {"engine": "sevennet", "model": "7net-l3i5"}
RELAX = {"force_max_ev_per_angstrom": 0.001, "stress_max_gpa": 0.02, "steps_max": 100}
SYMMETRY_TOLERANCE_ANGSTROM = 0.01
ENGINE = "gpaw"


def in_order(compounds: pandas.DataFrame, structure_types: dict) -> list[dict[str, Any]]:
    """Return the compounds with their starting structures, every class in turn and small cells first."""
    rows: list[dict[str, Any]] = []
    named: list[Any] = compounds.drop_duplicates("structure_id").to_dict("records")
    for row in named:
        atoms = build_structure(row["formula"], row["prototype"], structure_types)
        rows.append({**{str(key): value for key, value in row.items()}, "atoms": atoms,
                     "electrons": int(atoms.numbers.sum())})  # fmt: skip
    rows.sort(key=_size)
    turns: dict[str, int] = {}
    for ordered in rows:
        ordered["turn"] = turns[ordered["prototype"]] = turns.get(ordered["prototype"], -1) + 1
    return sorted(rows, key=_turn_and_size)


def _size(row):
    return len(row["atoms"]), row["electrons"], row["structure_id"]


def _turn_and_size(row):
    return row["turn"], _size(row)


def solve_compound(structure_id: str, atoms: Atoms, path: Path, relaxing: Any) -> None:
    """Relax and solve one compound, and write it to its own file; what fails is written as the reason."""
    begin = time.process_time()
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        try:
            relaxed = relax_structure(atoms, relaxing, structure_id, RELAX, SYMMETRY_TOLERANCE_ANGSTROM)
            if relaxed.status != "ok":
                raise StudyError(f"not relaxed: {relaxed.reason}", where=structure_id)
            arrays = relaxed.arrays
            solved = Crystal.from_ase(
                Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
            )
            cohp = find_cohp(solved, structure_id, engine=ENGINE)
        except (StudyError, ValueError) as error:
            store.attrs["reason"] = str(error)
        else:
            store_cohp(store, solved, cohp)
        store.attrs["cpu_seconds"] = time.process_time() - begin


def pack(rows: list[dict[str, Any]], folder: Path, path: str | Path) -> tuple[int, int]:
    """Write all finished compounds to one file; return how many are solved and how many failed."""
    solved = failed = 0
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.attrs.update(
            engine=ENGINE, relaxed_with=json.dumps(RELAXED_WITH), relax=json.dumps(RELAX),
            packages=json.dumps({name: version(name) for name in ("gpaw", "gpaw-data", "sevenn", "ase", "numpy")}),
        )  # fmt: skip
        for row in sorted(rows, key=_turn_and_size):
            part = folder / f"{row['structure_id']}.h5"
            if not part.exists():
                continue
            with h5py.File(part) as one:
                one.copy(one, store, name=row["structure_id"])
            group = store[row["structure_id"]]
            group.attrs.update(formula=row["formula"], prototype=row["prototype"])
            failed += "reason" in group.attrs
            solved += "reason" not in group.attrs
    return solved, failed


def main() -> None:
    """Compute what is missing, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="HDF5 file to write")
    parser.add_argument("folder", type=Path, help="where finished compounds are kept")
    parser.add_argument("compounds", nargs="+", help="CSV files with structure_id, formula, prototype")
    parser.add_argument("--pack-only", action="store_true", help="compute nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    compounds = pandas.concat([pandas.read_csv(path) for path in arguments.compounds])
    rows = in_order(compounds, read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"])
    missing = [row for row in rows if not (arguments.folder / f"{row['structure_id']}.h5").exists()]
    if missing and not arguments.pack_only:
        relaxing = make_engine({**RELAXED_WITH, "tasks": 1, "folder": None}, 1)
        for number, row in enumerate(missing, start=1):
            begin = time.process_time()
            part = arguments.folder / f"{row['structure_id']}.h5"
            solve_compound(row["structure_id"], row["atoms"], part, relaxing)
            print(f"{number}/{len(missing)} {row['structure_id']} {time.process_time() - begin:.0f} CPU s", flush=True)
    solved, failed = pack(rows, arguments.folder, arguments.file)
    print(f"{arguments.file}: {solved} compounds solved, {failed} failed, {len(rows) - solved - failed} missing")


if __name__ == "__main__":
    main()
