"""The folder that a screening writes: a table, and of every structure what was computed, kept at once.

``screen.json`` says what the results come from; another model or other settings are refused. A structure is computed
again where its content, the code, or what is asked for besides its row changed; all else is taken as it is.
"""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError, machine_named
from phonoscreen.audit.foreign_text import csv_cell
from phonoscreen.audit.names import file_name
from phonoscreen.audit.records import write_table
from phonoscreen.audit.sealed import read_sealed, write_sealed
from phonoscreen.audit.shard import Outcome, attempt
from phonoscreen.stages.screening import Progress, atoms_of
from phonoscreen.stages.screening_table import row_of, table_of, with_error

if TYPE_CHECKING:
    from phonoscreen.stages.screening import Screening
    from phonoscreen.stages.screening_forces import LabelledScreening
    from phonoscreen.structures.candidate import Candidate

STAGE = "screen"
IDENTITY = "screen.json"


class ScreeningFolder:
    """The output folder of a screening, locked while it is written.

    Parameters
    ----------
    path : made if it does not exist
    origin : dict of what every result depends on: name and digest of the forces, settings
    code : digest of the code; structures computed by other code are computed again

    Raises
    ------
    StudyError
        If the folder holds results of another origin, something else, or is being written.
    """

    def __init__(self, path: str | Path, origin: dict, code: str) -> None:
        self.path, self.origin, self.code = Path(path), json.loads(json.dumps(origin)), code
        with machine_named(f"the folder {path}"):
            if self.path.exists() and not self.path.is_dir():
                raise StudyError(f"{path} is a file", where="--output", fix="name a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_others()
            self._lock = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(f"another run is writing {path}", where="--output",
                             fix="wait for it, or name another folder") from error  # fmt: skip
        with written_whole(self.path / IDENTITY) as partial:
            partial.write_text(json.dumps(self.origin, indent=2, sort_keys=True) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lock.close()

    def _refuse_others(self):
        known = self.path / IDENTITY
        if not known.exists():
            foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name != ".lock")
            if foreign:
                raise StudyError(f"{self.path} holds {', '.join(foreign[:5])} and is no folder of a screening",
                                 where="--output", fix="name an empty or a new folder")  # fmt: skip
            return
        try:
            other = json.loads(known.read_text())
        except ValueError:
            other = {}
        different = [name for name in _flat(self.origin) if _flat(self.origin)[name] != _flat(other).get(name)]
        if different:
            name = different[0]
            raise StudyError(
                f"{self.path} holds results with another {', '.join(different[:5])} ({name}: {_flat(other).get(name)}, "
                f"now {_flat(self.origin)[name]})", where="--output",
                fix="name another folder with --output, or remove this one",
            )  # fmt: skip

    def folder_of(self, structure_id: str) -> Path:
        """Folder of a structure's files."""
        return self.path / "structures" / file_name(structure_id)

    def kept(self, structure_id: str, key: str, wanted: Iterable[str]) -> dict | None:
        """Return the row of a structure that was computed before from the same content, or None."""
        found = read_sealed(self.folder_of(structure_id) / "row.json")
        if found is None or found["key"] != key or not set(wanted) <= set(found["wanted"]):
            return None
        return found["row"]

    def keep(self, structure_id: str, key: str, wanted: Iterable[str], row: dict) -> None:
        """Store the row of a structure."""
        write_sealed({"key": key, "wanted": sorted(wanted), "row": row}, self.folder_of(structure_id) / "row.json")

    def key(self, candidate: "Candidate", more: str) -> str:
        """Return a digest of what one row depends on, its forces on disk (``more``) included."""
        atoms, digest = atoms_of(candidate), hashlib.sha256(f"{self.code} {more} {candidate.structure_id}".encode())
        digest.update(json.dumps(self.origin, sort_keys=True).encode())
        for array in (atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers, atoms.get_masses()):
            digest.update(numpy.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def write(self, rows: Sequence[dict]) -> pandas.DataFrame:
        """Write the table as Parquet and CSV and return it."""
        table = table_of(rows)
        write_table(table, self.path / "screen.parquet")
        with written_whole(self.path / "screen.csv") as partial:
            table.map(csv_cell).to_csv(partial, index=False)
        return table


def _flat(tree, name=""):
    """Return {place: value} of nested dicts."""
    if not isinstance(tree, dict):
        return {name: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{name}.{key}" if name else key)
    return flat


def screen(
    candidates: "Sequence[Candidate]",
    screening: "Screening | LabelledScreening",
    folder: ScreeningFolder,
    origin_columns: dict,
    *,
    calibration: Mapping[str, float],
    wanted: Collection[str] = (),
    write_extras: Callable[..., Any] | None = None,
    say: Callable[[str], object] = print,
) -> pandas.DataFrame:
    """Compute all structures that are not computed yet, one after another, and write the table.

    Parameters
    ----------
    candidates : list of ``phonoscreen.structures.candidate.Candidate``
    screening : ``Screening`` or ``LabelledScreening``
    folder : ``ScreeningFolder``
    origin_columns : dict of the columns that are the same in all rows
    calibration : dict from a column of a spread to the factor that makes it an error bar
    wanted : names of what is written of each structure besides its row
    write_extras : function of (folder, candidate, progress) that writes it
    say : function of a line, called for every structure

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    MachineError
        If the machine fails; what is finished is kept.
    """
    rows, begin, computed = [], time.monotonic(), 0
    for number, candidate in enumerate(candidates, start=1):
        name, started = candidate.structure_id, time.monotonic()
        fixed = {"structure_id": name, "source": candidate.source_id, **origin_columns}
        if candidate.atoms is None:
            row = row_of(
                {**fixed, "formula": candidate.formula}, Outcome(status="failed", reason=candidate.problem), {}
            )
            note = "not read"
        else:
            key = folder.key(candidate, screening.content(name))
            kept, note = folder.kept(name, key, wanted), "kept"
            if kept is not None:
                row = with_error(kept, calibration)  # the model may have been calibrated since
            else:
                row, written = _compute(candidate, screening, folder, fixed, calibration, write_extras)
                with machine_named(f"{name}, stage {STAGE}"):
                    folder.keep(name, key, wanted if written else (), row)
                computed, note = computed + 1, f"{time.monotonic() - started:.1f} s"
        rows.append(row)
        left = (time.monotonic() - begin) / computed * (len(candidates) - number) if computed else None
        ending = f", about {left:.0f} s left" if left and number < len(candidates) else ""
        say(f"{number}/{len(candidates)} {name}: {_in_words(row)} ({note}{ending})")
    return folder.write(rows)


def _compute(candidate, screening, folder, fixed, calibration, write_extras):
    """Return the row of one structure, and whether its files were written."""
    progress, name, started = Progress(), candidate.structure_id, time.process_time()
    outcome = attempt(lambda _: screening.solve(candidate, progress), name, STAGE)
    place, written = folder.folder_of(name), Outcome()
    with machine_named(f"{name}, stage {STAGE}"):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    if write_extras is not None and progress.task is not None:
        written = attempt(lambda _: write_extras(place, candidate, progress) or Outcome(), name, STAGE)
    values = {"formula": candidate.formula, **progress.values, "seconds": time.process_time() - started}
    if written.status != "ok":
        values["warnings"] = "; ".join(filter(None, [values.get("warnings"), f"files not written: {written.reason}"]))
    return row_of({**fixed, **values}, outcome, calibration), written.status == "ok"


def _in_words(row):
    """What a row says, in a few words."""
    if row["status"] != "ok":
        return f"{row['status']}, {str(row['reason']).splitlines()[0]}"
    return f"κ_p {row['kappa_p_w_per_m_k']:.3g} W/m/K, κ_c {row['kappa_c_w_per_m_k']:.2g} W/m/K"
