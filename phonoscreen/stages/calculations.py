"""Calculations of a DFT code as the unit of work: those of a shard, divided among jobs, and what became of each.

A job calculates its share; the stage that needs the results finds them among the finished calculations
(``phonoscreen.reference.calculations``). With ``reference.mode: write_inputs`` it writes the inputs instead, for any
other machine, and with ``collect`` it reads what was calculated there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import MachineError, culprit, machine_named
from phonoscreen.audit.records import refuse_common_failure
from phonoscreen.reference.cost import divide, relative_cost
from phonoscreen.reference.programs import CalculationError
from phonoscreen.structures.relaxation import relax_structure
from phonoscreen.structures.store import read_atoms
from phonoscreen.structures.supercells import build_supercell, displaced_supercell

if TYPE_CHECKING:
    import h5py
    from ase import Atoms

    from phonoscreen.reference.base import Engine
    from phonoscreen.structures.relaxation import RelaxingEngine

log = logging.getLogger("phonoscreen")

RELAXATION_STEPS = 6
"""Calculations of a relaxation, for its cost."""

LARGEST_ARRAY = 1000
"""Tasks of an array at most: Slurm's ``MaxArraySize`` is 1001 unless a site raises it."""

ARRAY = """#!/bin/bash
#SBATCH --job-name=phonoscreen
#SBATCH --array=1-{tasks}%200
#SBATCH --ntasks=16
#SBATCH --time=04:00:00
# {each}: edit the lines above, and the command, for your machine.
# From this folder: sbatch array.sh. What is finished, or was collected, is left out when it runs again.
cd "${{SLURM_SUBMIT_DIR:-$(dirname "$0")}}" || exit 1
task="${{SLURM_ARRAY_TASK_ID:-${{1:?number of the task}}}}"
failed=0
for folder in $(awk -v task="$task" 'NR % {tasks} == task % {tasks}' folders.txt); do
    [ -d "$folder" ] && [ ! -e "$folder/finished" ] || continue
    (cd "$folder" && {command} > {log} 2>&1 && touch finished) || failed=1
done
exit $failed
"""


@dataclass(frozen=True)
class Piece:
    """What is calculated as one.

    Parameters
    ----------
    structure_id, which : a displaced supercell by its index, ``"perfect"``, or ``"relaxation"``
    n_atoms, cost : atoms and relative cost, see ``phonoscreen.reference.cost``
    compute : calculates it
    """

    structure_id: str
    which: str
    n_atoms: int
    cost: float
    compute: Callable[[], object]


def relaxations(
    structures: Mapping[str, Atoms], engine: RelaxingEngine, limits: dict, tolerance_angstrom: float, k_spacing: float
) -> list[Piece]:
    """Return the relaxations of a shard; the steps of one depend on each other."""

    def piece(structure_id: str, atoms: Atoms) -> Piece:
        cost = RELAXATION_STEPS * relative_cost(atoms, k_spacing)
        return Piece(
            structure_id, "relaxation", len(atoms), cost,
            lambda: relax_structure(atoms, engine, structure_id, limits, tolerance_angstrom),
        )  # fmt: skip

    return [piece(*item) for item in structures.items()]


def supercells(
    store: h5py.File, counts: Mapping[str, int], structure_ids: Iterable[str], engine: Engine, k_spacing: float
) -> list[Piece]:
    """Return the displaced supercells of a shard, and the undisplaced one of each structure.

    Parameters
    ----------
    store : ``results/supercells/{shard}.h5``
    counts : supercells to label, by structure id
    structure_ids : those to label; without supercells they are left out
    engine, k_spacing : of the reference forces
    """
    found = []
    for structure_id in structure_ids:
        if structure_id not in store:
            continue
        group = store[structure_id]
        supercell = build_supercell(read_atoms(group), group["repetitions"][()])
        cost, moves = relative_cost(supercell, k_spacing), group["displacements"][()]
        wanted = {"perfect": supercell}
        wanted |= {str(i): displaced_supercell(supercell, moves[i]) for i in range(int(counts[structure_id]))}
        for which, atoms in wanted.items():
            compute = functools.partial(engine.forces, atoms, f"{structure_id}/{which}")
            found.append(Piece(structure_id, which, len(atoms), cost, compute))
    return found


def share_of(pieces: Sequence[Piece], batch: int, batches: int) -> list[Piece]:
    """Return the pieces that one of several jobs takes."""
    parts = divide([piece.cost for piece in pieces], batches)
    return [piece for piece, part in zip(pieces, parts, strict=True) if part == batch]


def calculate(pieces: Iterable[Piece]) -> pandas.DataFrame:
    """Calculate pieces one after another and return what became of each.

    Returns
    -------
    pandas.DataFrame with ``structure_id, calculation, n_atoms, relative_cost, status, failure, reason``; status is ok,
    failed, or missing where the inputs wait for somebody to run them

    Raises
    ------
    MachineError
        If the machine failed or the time of the job is over; what is finished is kept.
    """
    rows = []
    for piece in pieces:
        status, failure, reason = _become(piece)
        rows.append((piece.structure_id, piece.which, piece.n_atoms, piece.cost, status, failure, reason))
        log.info("%s/%s %s %s", piece.structure_id, piece.which, status, reason)
    columns = ["structure_id", "calculation", "n_atoms", "relative_cost", "status", "failure", "reason"]
    return pandas.DataFrame(rows, columns=columns)


def _become(piece):
    try:
        with machine_named(f"{piece.structure_id}/{piece.which}"):
            piece.compute()
        return "ok", "", ""
    except MachineError:
        raise
    except CalculationError as error:
        return "missing" if error.failure == "missing" else "failed", error.failure, str(error)
    except Exception as error:  # of one calculation: the others go on
        return "failed", culprit(error), str(error) or type(error).__name__


def refuse_failed_share(table: pandas.DataFrame, stage: str) -> None:
    """Refuse a share in which the calculations of several structures were tried and all failed for one reason.

    The calculations are kept as failed; the next try does not run them again unless it is asked to.

    Parameters
    ----------
    table : of ``calculate``
    stage : name of the rule

    Raises
    ------
    StudyError
        As for a shard, see ``phonoscreen.audit.records.refuse_common_failure``.
    """
    tried = table[table["status"] != "missing"]
    if tried["structure_id"].nunique() > 1:
        rows = tried.assign(failure=tried["failure"].map(_blamed)).to_dict("records")
        refuse_common_failure([{str(name): value for name, value in row.items()} for row in rows], stage)


def _blamed(failure):
    """Return what a class of failures of a DFT code is to blame on."""
    return failure if failure in ("", "structure", "settings", "machine") else "engine"


def write_array(folder: str | Path, command: Sequence[str], log_name: str) -> int:
    """Write ``array.sh`` and ``folders.txt`` beside the inputs that wait, a script of Slurm that runs them.

    Parameters
    ----------
    folder : with a folder for each structure, and in it one for each calculation
    command : words that run one calculation in its folder
    log_name : file that takes what the program prints

    Returns
    -------
    number of calculations
    """
    folder = Path(folder)
    waiting = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*") if path.is_dir())
    if waiting:
        tasks = min(len(waiting), LARGEST_ARRAY)
        each = "One calculation per task of the array" if tasks == len(waiting) else (
            f"A task of the array takes every {tasks}th of {len(waiting)} calculations, one after another"
        )  # fmt: skip
        texts = {
            "folders.txt": "".join(f"{name}\n" for name in waiting),
            "array.sh": ARRAY.format(tasks=tasks, each=each, command=" ".join(command), log=log_name),
        }
        for name, text in texts.items():
            with written_whole(folder / name) as partial:
                partial.write_text(text)
    return len(waiting)


def summary(table: pandas.DataFrame) -> dict[str, Any]:
    """Return the number of calculations by status, and the first reasons of those that are not ok."""
    counts = {str(name): int(count) for name, count in table["status"].value_counts().items()}
    reasons = table.loc[table["status"] != "ok", "reason"].str.split("\n").str[0].value_counts()
    return {"calculations": len(table), **counts, "reasons": reasons.head(5).to_dict()}
