"""COHP of many compounds as one file: ``python -m phonoscreen.stages.bonding_product FILE FOLDER COMPOUNDS``.

Each compound of the list (CSV with ``structure_id, formula, prototype``) is solved with GPAW in the order of the list.
Its crystal is the relaxed one of the labels in ``resources/labels``; a compound that they lack is relaxed with a
universal potential. FOLDER keeps one file per finished compound, so that the command continues where it stopped; FILE
holds them all.
"""

import argparse
import functools
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import pandas
from ase import Atoms

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.audit.shipped import shipped
from phonoscreen.bonding.engines import find_cohp
from phonoscreen.bonding.kept import method, store_cohp, store_description
from phonoscreen.crystal.constants import Crystal
from phonoscreen.reference.registry import make_engine
from phonoscreen.structures.packed_labels import read_product
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.relaxation import relax_structure

RELAXED_WITH = {"engine": "sevennet", "model": "7net-l3i5"}
RELAX = {"force_max_ev_per_angstrom": 0.001, "stress_max_gpa": 0.02, "steps_max": 100}
SYMMETRY_TOLERANCE_ANGSTROM = 0.01
ENGINE = "gpaw"
LABELS = ("resources/labels/laptop_labels.h5", "resources/labels/teacher_labels.h5")
PACKAGES = ("gpaw", "gpaw-data", "ase", "numpy", "scipy", "pymatgen", "lobsterpy")


def crystals_of(labels: Sequence[str | Path]) -> dict[str, tuple[Crystal, str]]:
    """Return the relaxed crystals of packed labels by structure id, and what each was relaxed with."""
    known: dict[str, tuple[Crystal, str]] = {}
    for path in labels:
        origin, labelled = read_product(path)
        for record, arrays in labelled:
            if not arrays:
                continue
            crystal = Crystal.from_ase(
                Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
            )
            known.setdefault(record["structure_id"], (crystal, f"{origin['engine']}, {Path(path).name}"))
    return known


def relaxed_crystal(row: Mapping[str, str], structure_types: Mapping, engine: Callable[[], Any]) -> Crystal:
    """Return a compound that no labels hold, relaxed with the universal potential.

    Raises
    ------
    StudyError
        If it does not relax.
    """
    atoms = build_structure(row["formula"], row["prototype"], structure_types)
    relaxed = relax_structure(atoms, engine(), row["structure_id"], RELAX, SYMMETRY_TOLERANCE_ANGSTROM)
    if relaxed.status != "ok":
        raise StudyError(f"not relaxed: {relaxed.reason}", where=row["structure_id"])
    arrays = relaxed.arrays
    return Crystal.from_ase(
        Atoms(arrays["numbers"], cell=arrays["cell"], scaled_positions=arrays["scaled_positions"], pbc=True)
    )


def solve_compound(
    row: Mapping[str, str], path: Path, known: Mapping[str, tuple[Crystal, str]], relaxed: Callable[..., Crystal]
) -> None:
    """Solve one compound, and write it to its own file; what its physics lets fail is written as the reason.

    Parameters
    ----------
    row : ``structure_id, formula, prototype``
    path : file to write
    known : of ``crystals_of``
    relaxed : ``relaxed(row)`` returns the crystal of a compound that is not known
    """
    begin = time.process_time()
    crystal, origin = known.get(row["structure_id"], (None, RELAXED_WITH["model"]))
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        try:
            crystal = crystal if crystal is not None else relaxed(row)
            cohp = find_cohp(crystal, row["structure_id"], engine=ENGINE)
        except MachineError:
            raise
        except StudyError as error:
            store.attrs["reason"] = str(error)
        else:
            store_cohp(store, crystal, cohp)
        store.attrs.update(
            formula=row["formula"], prototype=row["prototype"], relaxed_with=origin, method=json.dumps(method()),
            cpu_seconds=round(time.process_time() - begin, 1),
        )  # fmt: skip


def pack(rows: Sequence[Mapping[str, str]], folder: Path, path: str | Path) -> tuple[int, int]:
    """Write all finished compounds to one file; return how many are solved and how many failed."""
    solved = failed = 0
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.attrs["packages"] = json.dumps({name: version(name) for name in PACKAGES})
        for row in rows:
            part = folder / f"{row['structure_id']}.h5"
            if not part.exists():
                continue
            with h5py.File(part, "a") as one:
                if "reason" not in one.attrs and "description" not in one.attrs:
                    store_description(one)
                one.copy(one, store, name=row["structure_id"])
            failed += "reason" in store[row["structure_id"]].attrs
            solved += "reason" not in store[row["structure_id"]].attrs
    return solved, failed


def main() -> None:
    """Compute what is missing, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="HDF5 file to write")
    parser.add_argument("folder", type=Path, help="where finished compounds are kept")
    parser.add_argument("compounds", help="CSV file with structure_id, formula, prototype; solved in this order")
    parser.add_argument("--pack-only", action="store_true", help="compute nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Any] = pandas.read_csv(arguments.compounds, dtype=str, keep_default_na=False).to_dict("records")
    missing = [row for row in rows if not (arguments.folder / f"{row['structure_id']}.h5").exists()]
    if missing and not arguments.pack_only:
        known = crystals_of([shipped(path) for path in LABELS])
        potential = functools.cache(functools.partial(make_engine, {**RELAXED_WITH, "tasks": 1, "folder": None}, 1))
        types = read_prototypes(shipped("resources/prototypes.yaml"))["structure_types"]
        relaxed = functools.partial(relaxed_crystal, structure_types=types, engine=potential)
        for number, row in enumerate(missing, start=1):
            begin = time.process_time()
            solve_compound(row, arguments.folder / f"{row['structure_id']}.h5", known, relaxed)
            print(f"{number}/{len(missing)} {row['structure_id']} {time.process_time() - begin:.0f} CPU s", flush=True)
    solved, failed = pack(rows, arguments.folder, arguments.file)
    print(f"{arguments.file}: {solved} compounds solved, {failed} failed, {len(rows) - solved - failed} missing")


if __name__ == "__main__":
    main()
