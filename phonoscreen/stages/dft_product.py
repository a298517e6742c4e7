"""The kept form of a study on DFT: its calculations, and its labels in the format of ``label_product``.

``python -m phonoscreen.stages.dft_product STUDY FOLDER`` writes ``dft_calculations.jsonl``, with which the same study
runs without the DFT code (``reference.calculations``), and ``dft_labels.h5``, from which models are trained. Structures
whose calculations are not finished yet are left out and named.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy
import pandas

from phonoscreen.audit.atomic import written_together, written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import packages
from phonoscreen.audit.records import read_records
from phonoscreen.audit.work import WORK
from phonoscreen.reference.calculations import SAME_ANGSTROM, Calculation, CalculationStore, read_calculations
from phonoscreen.stages.label_product import write_product
from phonoscreen.structures.store import read_atoms, structure_arrays
from phonoscreen.structures.supercells import build_supercell, displaced_supercell

ROLES = {"training": "training", "validation": "test", "unexplored": "test"}
"""Role of a compound in the labels by its part in the study."""


def gather_calculations(study: str | Path, path: str | Path) -> int:
    """Write the successful calculations of a study to one file, in the order of their labels; return their number.

    Those that the file holds already stay: the study took them from there instead of calculating them.

    Raises
    ------
    StudyError
        If the study has none.
    """
    path, files = Path(path), sorted((Path(study) / WORK / "calculations").glob("*.jsonl"))
    before = [path] if path.is_file() else []
    found = [one for file in [*before, *files] for one in read_calculations(file) if not one.failure]
    if not found:
        raise StudyError("no finished calculations", where=str(study), fix="give the folder of a study on a DFT code")
    unique = {(one.group, one.cell.tobytes(), one.positions.tobytes()): one for one in found}
    with written_together(path.parent) as folder:
        store = CalculationStore(folder, path.stem)
        for one in sorted(unique.values(), key=_by_label):
            store.add(one)
    return len(unique)


def _by_label(calculation):
    structure_id, _, which = calculation.label.partition("/")
    name, _, number = which.rpartition("-")
    return (structure_id, name, int(number) if number.isdigit() else -1, calculation.label)


def labelled(study: str | Path, calculations: str | Path, seed: int) -> Iterator[tuple[dict, dict, dict]]:
    """Yield (record, arrays, origin) of every structure, as ``label_product.write_product`` takes them.

    Parameters
    ----------
    study : folder of the study
    calculations : file of ``gather_calculations``
    seed : of the study
    """
    study = Path(study)
    kept = read_calculations(calculations)
    by_label: dict[str, list[Calculation]] = {}
    for one in kept:
        by_label.setdefault(one.label, []).append(one)
    manifest = pandas.read_parquet(study / "results/structures/manifest.parquet").set_index("structure_id")
    relaxed = pandas.concat([read_records(path) for path in sorted((study / "results/relaxed").glob("*.parquet"))])
    assigned = read_records(sorted((study / "results/bases").glob("*.parquet")))
    counts = assigned.set_index("structure_id")["n_reference"]
    about = relaxed.set_index("structure_id")
    origin = _origin(kept, seed)
    for path in sorted((study / "results/supercells").glob("*.h5")):
        with h5py.File(path) as store:
            for structure_id, group in store.items():
                row = manifest.loc[structure_id]
                record = {
                    "structure_id": structure_id, "formula": row["formula"], "prototype": row["prototype"],
                    "role": ROLES[row["part"]], "steps": int(about.loc[structure_id, "steps"]),
                    "lattice_constant_angstrom": float(about.loc[structure_id, "lattice_constant_angstrom"]),
                    "energy_ev": float(about.loc[structure_id, "energy_ev_per_atom"] * row["n_atoms"]),
                    "pressure_gpa": float(about.loc[structure_id, "pressure_gpa"]),
                }  # fmt: skip
                wanted = int(counts[structure_id])
                found = _of_supercells(group, [by_label.get(f"{structure_id}/{index}", []) for index in range(wanted)])
                if len(found) < wanted:
                    reason = f"{wanted - len(found)} of {wanted} supercells are not calculated"
                    yield {**record, "status": "not_converged", "reason": reason}, {}, origin
                    continue
                yield {**record, "status": "ok", "reason": ""}, _arrays(group, found), origin


def _of_supercells(group: h5py.Group, calculations: list[list[Calculation]]) -> list[Calculation]:
    """Return of the calculations with the label of each supercell the one at its positions, where there is one."""
    supercell, found = build_supercell(read_atoms(group), group["repetitions"][()]), []
    for move, same_label in zip(group["displacements"], calculations, strict=False):
        positions = displaced_supercell(supercell, move).positions
        there = [one for one in same_label if one.positions.shape == positions.shape]
        found += [one for one in there if numpy.abs(one.positions - positions).max() < SAME_ANGSTROM][:1]
    return found


def _arrays(group: h5py.Group, found: list[Calculation]) -> dict[str, Any]:
    atoms, repetitions = read_atoms(group), group["repetitions"][()]
    moves = group["displacements"][: len(found)]
    n_atoms = len(atoms)
    return {
        **structure_arrays(atoms), "repetitions": repetitions, "displacements": moves,
        "energies_ev": numpy.array([one.results["energy_ev"] for one in found]),
        "forces": numpy.array([one.results["forces"] for one in found]),
        "stresses": numpy.array([one.results["stress"] for one in found]),
        "strained/strains": numpy.zeros((0, 3, 3)), "strained/energies_ev": numpy.zeros(0),
        "strained/forces": numpy.zeros((0, n_atoms, 3)), "strained/stresses": numpy.zeros((0, 3, 3)),
    }  # fmt: skip


def _origin(kept, seed):
    """What the labels say of themselves; the settings are those of the supercells."""
    of_supercells = [one for one in kept if "/relax" not in one.label]
    settings = {json.dumps(dict(one.settings), sort_keys=True) for one in of_supercells}
    if len(settings) != 1:
        raise StudyError(f"{len(settings)} settings of supercells", where="dft_product", fix="keep one study's files")
    versions = sorted({str(one.about.get("version", "")) for one in kept})
    given = json.loads(settings.pop())
    return {
        "engine": f"{given['engine']} {given['functional']} {given['cutoff_ev']:g} eV ({', '.join(versions)})",
        "weights_sha256": "", "seed": seed, "pool_sha256": "", "settings": json.dumps(given, sort_keys=True),
        "code": "", "packages": json.dumps(packages()),
    }  # fmt: skip


def main() -> None:
    """Write the kept form of a study on DFT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path, help="folder that the study ran in")
    parser.add_argument("folder", type=Path, help="where the two files go")
    parser.add_argument("--seed", type=int, default=61, help="of the study")
    arguments = parser.parse_args()
    calculations, labels = arguments.folder / "dft_calculations.jsonl", arguments.folder / "dft_labels.h5"
    count = gather_calculations(arguments.study, calculations)
    compounds = list(labelled(arguments.study, calculations, arguments.seed))
    with written_whole(labels) as partial:
        write_product(compounds, partial)
    missing = [record["structure_id"] for record, arrays, _ in compounds if not arrays]
    print(
        f"{count} calculations, {len(compounds) - len(missing)} compounds; without labels: {', '.join(missing) or '-'}"
    )


if __name__ == "__main__":
    main()
