"""One shard of one stage: structures one after another, each outcome kept as soon as it exists.

Finished structures are kept in a folder beside the outputs until the shard is complete, so a job that is killed
continues where it stopped. The folder carries a key of everything the outcome depends on: after an edit of code,
settings or inputs the old outcomes are not used.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import MachineError, StudyError, machine_named
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.records import write_records

log = logging.getLogger("phonoscreen")


@dataclass
class Outcome:
    """What one structure leaves a stage with.

    Parameters
    ----------
    values : scalars for the record (units in the names)
    arrays : numpy arrays for the shard's HDF5 file, names may contain "/"
    attrs : scalars or strings stored as attributes of the structure's HDF5 group
    status, reason : as in a record
    """

    values: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    attrs: dict = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""


def run_shard(
    job: Any,
    structure_ids: Sequence[str],
    compute: Callable[[str], Outcome],
    *,
    stage: str,
    upstream: pandas.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Run one stage for every structure of a shard and write its arrays and records.

    Parameters
    ----------
    job : the running job (``phonoscreen.audit.job.Job``): ``output.records`` is required, ``output.arrays`` optional
    structure_ids : ids in the order of the manifest
    compute : function of a structure id that returns an ``Outcome``; an exception becomes status ``failed``, unless
        the machine is to blame
    stage : name of the stage in the records
    upstream : records (DataFrame) of the stage before; structures not ok there are recorded as ``skipped``

    Returns
    -------
    list of record dicts

    Raises
    ------
    MachineError
        If the machine fails (disk, memory, a missing program); finished structures are kept for the next try.
    """
    folder = Path(f"{job.output.records}.partial.{job.key}")
    folder.mkdir(parents=True, exist_ok=True)
    blocked = {}
    if upstream is not None:
        seen = upstream.set_index("structure_id")
        for structure_id in structure_ids:
            if structure_id not in seen.index:
                blocked[structure_id] = "no record from the stage before"
            elif seen.loc[structure_id, "status"] != "ok":
                row = seen.loc[structure_id]
                blocked[structure_id] = f"{row['stage']}: {row['status']}"
    records, started, done_here = [], time.monotonic(), 0
    for number, structure_id in enumerate(structure_ids, start=1):
        record = _finished(folder, structure_id)
        if record is None:
            if structure_id in blocked:
                outcome, seconds = Outcome(status="skipped", reason=blocked[structure_id]), 0.0
            else:
                begin = time.monotonic()
                outcome = _attempt(compute, structure_id, stage)
                seconds = time.monotonic() - begin
                done_here += 1
            record = {
                "structure_id": structure_id,
                "stage": stage,
                "status": outcome.status,
                "reason": outcome.reason,
                **{key: _plain(value) for key, value in outcome.values.items()},
            }
            with machine_named(f"{structure_id}, stage {stage}"):
                _keep(folder, structure_id, record, outcome)
            left = (time.monotonic() - started) / max(done_here, 1) * (len(structure_ids) - number)
            log.info(
                "%s %d/%d %s %s %.1f s, about %.0f s left", stage, number, len(structure_ids), structure_id,
                outcome.status, seconds, left,
            )  # fmt: skip
            if outcome.reason:
                log.info("  %s", outcome.reason.replace("\n", "\n  "))
        records.append(record)
    with machine_named(f"the files of the shard, stage {stage}"):
        if "arrays" in job.output.keys():
            _merge(folder, structure_ids, job.output.arrays)
        write_records(records, job.output.records)
    shutil.rmtree(folder)
    for stale in folder.parent.glob(f"{Path(job.output.records).name}.partial.*"):
        shutil.rmtree(stale, ignore_errors=True)
    return records


def _attempt(compute: Callable[[str], Outcome], structure_id: str, stage: str) -> Outcome:
    try:
        with machine_named(f"{structure_id}, stage {stage}"):
            return compute(structure_id)
    except MachineError:
        raise
    except StudyError as error:
        return Outcome(status="failed", reason=str(error))
    except Exception as error:  # one bad structure never stops the others; the log keeps the traceback
        log.error("%s %s\n%s", stage, structure_id, traceback.format_exc())
        return Outcome(status="failed", reason=f"{type(error).__name__}: {error}")


def _name(structure_id: str) -> str:
    return hashlib.sha256(structure_id.encode()).hexdigest()[:24]


def _finished(folder: Path, structure_id: str) -> dict[str, Any] | None:
    """Return the record of a structure that an interrupted run finished, None if there is none or it is damaged."""
    stem = folder / _name(structure_id)
    try:
        sha256, _, text = Path(f"{stem}.json").read_text().partition("\n")
        kept = json.loads(text) if hashlib.sha256(text.encode()).hexdigest() == sha256 else None
        if kept and kept["record"]["structure_id"] == structure_id and kept["arrays_sha256"] == _sha256(f"{stem}.h5"):
            return kept["record"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass
    log.warning("%s: what an interrupted run left is damaged, computed again", structure_id)
    return None


def _keep(folder: Path, structure_id: str, record: dict[str, Any], outcome: Outcome) -> None:
    stem = folder / _name(structure_id)
    Path(f"{stem}.h5").unlink(missing_ok=True)
    if outcome.arrays or outcome.attrs:
        with written_whole(f"{stem}.h5") as partial, h5py.File(partial, "w") as store:
            group = store.create_group(structure_id)
            for name, array in outcome.arrays.items():
                array = numpy.asarray(array)
                options = {"compression": "gzip", "shuffle": True} if array.size > 1000 else {}
                group.create_dataset(name, data=array, **options)
            group.attrs.update(outcome.attrs)
    text = json.dumps({"record": record, "arrays_sha256": _sha256(f"{stem}.h5")})
    with written_whole(f"{stem}.json") as partial:
        partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def _sha256(path: str) -> str | None:
    return file_sha256(path) if os.path.exists(path) else None


def _merge(folder: Path, structure_ids: Sequence[str], path: str) -> None:
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        for structure_id in structure_ids:
            source = folder / f"{_name(structure_id)}.h5"
            if source.exists():
                with h5py.File(source) as piece:
                    piece.copy(structure_id, store)


def _plain(value: Any) -> Any:
    """Return a value that JSON and Parquet keep."""
    if isinstance(value, numpy.generic):
        value = value.item()
    return value
