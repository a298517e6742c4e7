"""Forces of a published model on structures of any file, many at a time, continued after a kill."""

import csv
import fcntl
import glob
import hashlib
import io
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy
from ase.calculators.singlepoint import SinglePointCalculator

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.foreign_text import csv_cell
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.committee import batches, uncertainty
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, atoms_neighbourhoods
from phonoscreen.forcefield.publish import load_published
from phonoscreen.formats.structure_files import iterate_snapshots

log = logging.getLogger("phonoscreen")

RECORD = (
    "structure", "status", "reason", "n_atoms", "force_rms_mev_per_angstrom", "uncertainty_max_mev_per_angstrom",
    "output_bytes",
)  # fmt: skip


def predict_files(
    paths: Sequence[str | Path],
    model: str | Path,
    output: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    batch_environments: int = 2048,
) -> tuple[int, int]:
    """Write the structures of some files with forces and the committee's uncertainty per atom as extended XYZ.

    A structure that cannot be computed is recorded with its reason and left out. Both files appear under their names
    when all is done; an interrupted run with the same model and files goes on where it stopped.

    Parameters
    ----------
    paths : files that ASE reads, each with one or several structures
    model : folder of a published model
    output : extended XYZ to write; the records go beside it to ``output`` + ``.records.csv``
    device, dtype : auto, cpu or cuda; float32, float64 or None (as trained)
    batch_environments : atoms computed together

    Returns
    -------
    (int, int) structures with forces, structures without

    Raises
    ------
    StudyError
        If a file is given twice or cannot be read, or another run wrote or is writing to the same output.
    """
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise StudyError("a file is given twice", where="predict", fix="give each file once")
    committee, _ = load_published(model, device, dtype)
    key = _key(committee, model, paths)
    files = [Path(f"{output}.partial.{key}"), Path(f"{output}.records.csv.partial.{key}")]
    if Path(output).exists() and files[1].exists() and not files[0].exists():  # killed between the two last steps
        statuses = [row[1] for row in _rows(files[1])[0]]
        os.replace(files[1], f"{output}.records.csv")
        return statuses.count("ok"), len(statuses) - statuses.count("ok")
    _refuse_other_runs(output, key)
    safe: dict[str, Any] = {
        "encoding": "utf-8",
        "errors": "backslashreplace",
    }  # bytes of the input that are no text stay visible
    with open(files[0], "a", **safe) as structures, open(files[1], "a", newline="", **safe) as records:
        _lock(structures, output)
        done = _resume(*files)
        _predict(committee, _waiting(paths, done), structures, records, done, batch_environments)
        os.replace(files[0], output)
        os.replace(files[1], f"{output}.records.csv")
    good = sum(status == "ok" for status in done.values())
    return good, len(done) - good


def _predict(committee, waiting, structures, records, done, batch_environments):
    """Write forces and records of the structures that wait, and note their status in ``done``."""
    begin, computed = time.monotonic(), 0
    writer = csv.writer(records)
    if not done:
        writer.writerow(RECORD)
    for batch in batches(
        waiting, batch_environments, lambda item: 1 if isinstance(item[1], StudyError) else len(item[1])
    ):
        for name, atoms, outcome in _forces_of(committee, batch):
            n_atoms = 0 if isinstance(atoms, StudyError) else len(atoms)
            row = [csv_cell(name), "ok", "", n_atoms, "", ""]
            if isinstance(outcome, StudyError):
                row[1:3] = "failed", csv_cell(str(outcome).split("\n")[0])
                log.warning("%s: %s", name, outcome)
            else:
                text, row[4:] = _written(atoms, outcome)
                structures.write(text)
                structures.flush()
            writer.writerow([*row, os.fstat(structures.fileno()).st_size])
            done[row[0]] = row[1]
            computed += n_atoms
        records.flush()
        log.info("%d structures, %.0f atoms per second", len(done), computed / (time.monotonic() - begin))


def _key(committee, model, paths):
    """Return what tells one run from another: precision, model and contents of the files."""
    try:
        networks = networks_digest(read_model_json(Path(model) / "model.json"))
        inputs = [str(committee.members[0].dtype), networks, *map(file_sha256, paths)]
    except OSError as error:
        raise StudyError(f"a file cannot be read: {error}", where="predict", fix="check its name") from error
    return hashlib.sha256(" ".join([*inputs, *map(str, paths)]).encode()).hexdigest()[:16]


def _refuse_other_runs(output, key):
    """Raise StudyError if the output holds, or will hold, what another run wrote."""
    output = Path(output)
    found = [path for path in (output, Path(f"{output}.records.csv")) if path.exists()]
    found += [path for path in output.parent.glob(f"{glob.escape(output.name)}*.partial.*") if path.suffix != f".{key}"]
    if found:
        names = ", ".join(str(path) for path in found)
        raise StudyError(f"another run wrote {names}", where="predict", fix="give another --output, or remove them")


def _lock(stream, output):
    """Keep other runs away from the partial files until this one ends."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StudyError(
            f"another run is writing {output}", where="predict", fix="wait for it, or give another --output"
        ) from error
    if Path(output).exists():  # it ended in between
        raise StudyError(f"another run wrote {output}", where="predict", fix="give another --output, or remove it")


def _rows(path):
    """Return the complete rows of a table of records, without its head, and their lines, with it."""
    text = path.read_text("utf-8")  # as it was written, whatever the locale is
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return list(csv.reader(lines))[1:], lines


def _resume(structures, records):
    """Return the status of every structure already done; what was written after its record is cut off."""
    rows, lines = _rows(records)
    if not rows:
        os.truncate(records, 0)
    else:
        os.truncate(records, len("".join(lines).encode()))
    os.truncate(structures, int(rows[-1][-1]) if rows else 0)
    log.info("%d structures are done already", len(rows))
    return {row[0]: row[1] for row in rows}


def _waiting(paths, done):
    """Yield (name, atoms) of the structures that are not done; StudyError in place of what is refused."""
    for path in paths:
        for number, reading in enumerate(iterate_snapshots(path)):
            name = f"{path}#{number}"
            if csv_cell(name) not in done:
                yield name, reading.atoms if reading.error is None else reading.error


def _forces_of(committee, batch):
    """Return [(name, atoms, forces of every member or StudyError)]; one structure's failure is not another's."""
    outcomes, good = [], []
    for name, atoms in batch:
        if isinstance(atoms, StudyError):
            outcomes.append([name, atoms, atoms])
            continue
        try:
            good.append(atoms_neighbourhoods(atoms, committee.cutoff_angstrom))
            outcomes.append([name, atoms, None])
        except StudyError as error:
            outcomes.append([name, atoms, error])
    waiting = [outcome for outcome in outcomes if outcome[2] is None]
    try:
        together = committee.forces(Neighbourhoods.concatenate(good)) if good else numpy.empty((1, 0, 3))
        ends = numpy.cumsum([len(atoms) for _, atoms, _ in waiting])[:-1]
        for outcome, forces in zip(waiting, numpy.split(together, ends, axis=1)):
            outcome[2] = forces
    except StudyError:  # one of them: compute each alone
        for outcome, neighbourhoods in zip(waiting, good):
            try:
                outcome[2] = committee.forces(neighbourhoods)
            except StudyError as error:
                outcome[2] = error
    return outcomes


def _written(atoms, forces):
    """Return a structure with its forces as text, and two numbers of its record; one member has no uncertainty."""
    atoms.calc = SinglePointCalculator(atoms, forces=forces.mean(axis=0))
    spread = uncertainty(forces) if len(forces) > 1 else None
    if spread is not None:
        atoms.set_array("uncertainty", spread)
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    rms = 1e3 * numpy.sqrt((forces.mean(axis=0) ** 2).mean())
    return text.getvalue(), [rms, "" if spread is None else 1e3 * spread.max()]
