"""Forces of a published model on structures of any file, many at a time, continued after a kill."""

import csv
import hashlib
import io
import logging
import os
import time
from pathlib import Path

import ase.io
import numpy
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.committee import batches, uncertainty
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, atoms_neighbourhoods
from phonoscreen.forcefield.publish import load_published
from phonoscreen.structures.reading import iterate_snapshots

log = logging.getLogger("phonoscreen")

RECORD = (
    "structure", "status", "reason", "n_atoms", "force_rms_mev_per_angstrom", "uncertainty_max_mev_per_angstrom",
    "output_bytes",
)  # fmt: skip


def predict_files(paths, model, output, *, device="auto", dtype=None, batch_environments=2048):
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
    """
    committee, _ = load_published(model, device, dtype)
    inputs = [str(committee.members[0].dtype), file_sha256(Path(model) / "model.json"), *map(file_sha256, paths)]
    key = hashlib.sha256(" ".join(inputs).encode()).hexdigest()[:16]
    files = [Path(f"{output}.partial.{key}"), Path(f"{output}.records.csv.partial.{key}")]
    done = _resume(*files)
    begin, computed = time.monotonic(), 0
    with open(files[0], "a") as structures, open(files[1], "a", newline="") as records:
        writer = csv.writer(records)
        for batch in batches(_waiting(paths, done), batch_environments, lambda item: max(1, len(item[1]))):
            for name, atoms, outcome in _forces_of(committee, batch):
                row = [name, "ok", "", len(atoms), "", ""]
                if isinstance(outcome, StudyError):
                    row[1:3] = "failed", str(outcome).split("\n")[0]
                    log.warning("%s: %s", name, outcome)
                else:
                    text, row[4:] = _written(atoms, outcome)
                    structures.write(text)
                    structures.flush()
                writer.writerow([*row, os.fstat(structures.fileno()).st_size])
                done[name] = row[1]
                computed += len(atoms)
            records.flush()
            log.info("%d structures, %.0f atoms per second", len(done), computed / (time.monotonic() - begin))
    table = files[1].read_text()
    files[1].write_text(",".join(RECORD) + "\n" + table)
    os.replace(files[1], f"{output}.records.csv")
    os.replace(files[0], output)
    good = sum(status == "ok" for status in done.values())
    return good, len(done) - good


def _resume(structures, records):
    """Return the status of every structure already done; what was written after its record is cut off."""
    if not (structures.exists() and records.exists()):
        structures.unlink(missing_ok=True)
        records.unlink(missing_ok=True)
        return {}
    lines = records.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.reader(whole))
    records.write_text("".join(whole))
    os.truncate(structures, int(rows[-1][-1]) if rows else 0)
    log.info("%d structures are done already", len(rows))
    return {row[0]: row[1] for row in rows}


def _waiting(paths, done):
    """Yield (name, atoms, StudyError or None) of the structures that are not done; no atoms where they are refused."""
    for path in paths:
        for number, reading in enumerate(iterate_snapshots(path)):
            if f"{path}#{number}" not in done:
                yield f"{path}#{number}", Atoms() if reading.atoms is None else reading.atoms, reading.error


def _forces_of(committee, batch):
    """Return [(name, atoms, forces of every member or StudyError)]; one structure's failure is not another's."""
    outcomes, good = [], []
    for name, atoms, refused in batch:
        try:
            if refused is not None:
                raise refused
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
    """Return a structure with its forces as text, and two numbers of its record."""
    spread = uncertainty(forces) if len(forces) > 1 else numpy.full(len(atoms), numpy.nan)
    atoms.calc = SinglePointCalculator(atoms, forces=forces.mean(axis=0))
    atoms.set_array("uncertainty", spread)
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue(), [1e3 * numpy.sqrt((forces.mean(axis=0) ** 2).mean()), 1e3 * spread.max()]
