"""One shard of one stage: structures one after another, each outcome kept as soon as it exists.

Finished structures are kept in the work folder of the job until the shard is complete, so a job that is killed
continues where it stopped. The folder carries a key of everything the outcome depends on: after an edit of code,
settings or inputs the old outcomes are not used. The expensive rules go further (``phonoscreen.audit.kept``): their
outcomes are used as long as the structure's own inputs are the same.
"""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pandas

from phonoscreen.audit.errors import MachineError, StudyError, culprit, machine_named
from phonoscreen.audit.pieces import pieces_of
from phonoscreen.audit.records import FAILURE, refuse_common_failure, write_records

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
    failure : of a failed one what is to blame, one of ``phonoscreen.audit.errors.FAILURES``
    """

    values: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    attrs: dict = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    failure: str = "structure"


def run_shard(
    job: Any,
    structure_ids: Sequence[str],
    compute: Callable[[str], Outcome],
    *,
    stage: str,
    upstream: pandas.DataFrame | None = None,
    own_inputs: Callable[[str], Any] | None = None,
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
    own_inputs : for the rules in ``phonoscreen.audit.protected.PROTECTED``: function of a structure id that returns a
        digest of what the outcome of this structure depends on besides settings and code; None for one that costs
        nothing

    Returns
    -------
    list of record dicts

    Raises
    ------
    MachineError
        If the machine fails (disk, memory, a missing program); finished structures are kept for the next try.
    StudyError
        If all structures failed for one reason; the next try computes them again.
    """
    pieces = pieces_of(job, own_inputs)
    blocked = _blocked(structure_ids, upstream)
    records, started, done_here = [], time.monotonic(), 0
    for number, structure_id in enumerate(structure_ids, start=1):
        record = pieces.find(structure_id, structure_id in blocked)
        if record is None:
            if structure_id in blocked:
                outcome, seconds = Outcome(status="skipped", reason=blocked[structure_id]), 0.0
            else:
                begin = time.monotonic()
                outcome = attempt(compute, structure_id, stage)
                seconds = time.monotonic() - begin
                done_here += 1
            record = {
                "structure_id": structure_id,
                "stage": stage,
                "status": outcome.status,
                "reason": outcome.reason,
                FAILURE: outcome.failure if outcome.status == "failed" else "",
                **{key: _plain(value) for key, value in outcome.values.items()},
            }
            with machine_named(f"{structure_id}, stage {stage}"):
                pieces.keep(structure_id, record, outcome, seconds)
            left = (time.monotonic() - started) / max(done_here, 1) * (len(structure_ids) - number)
            log.info(
                "%s %d/%d %s %s %.1f s, about %.0f s left", stage, number, len(structure_ids), structure_id,
                outcome.status, seconds, left,
            )  # fmt: skip
            if outcome.reason:
                log.info("  %s", outcome.reason.replace("\n", "\n  "))
        records.append(record)
    try:
        refuse_common_failure(records, stage)
    except StudyError:
        pieces.forget(structure_ids)
        raise
    with machine_named(f"the files of the shard, stage {stage}"):
        if "arrays" in job.output.keys():
            pieces.merge(structure_ids, job.output.arrays)
        write_records(records, job.output.records)
        pieces.finish(structure_ids)
    return records


def _blocked(structure_ids: Sequence[str], upstream: pandas.DataFrame | None) -> dict[str, str]:
    """Return why structures cannot be computed, by id: the stage before has no record of them, or not ok."""
    if upstream is None:
        return {}
    seen, blocked = upstream.set_index("structure_id"), {}
    for structure_id in structure_ids:
        if structure_id not in seen.index:
            blocked[structure_id] = "no record from the stage before"
        elif seen.loc[structure_id, "status"] != "ok":
            row = seen.loc[structure_id]
            blocked[structure_id] = f"{row['stage']}: {row['status']}"
    return blocked


def attempt(compute: Callable[[str], Outcome], structure_id: str, stage: str) -> Outcome:
    """Return what a structure leaves a stage with; an error is its failure, unless the machine is to blame.

    Parameters
    ----------
    compute : function of a structure id that returns an ``Outcome``
    structure_id, stage : for the message

    Raises
    ------
    MachineError
    """
    try:
        with machine_named(f"{structure_id}, stage {stage}"):
            return compute(structure_id)
    except MachineError:
        raise
    except StudyError as error:
        return Outcome(status=error.status, reason=str(error), failure=culprit(error))
    except Exception as error:  # one bad structure never stops the others; the log keeps the traceback
        log.error("%s %s\n%s", stage, structure_id, traceback.format_exc())
        return Outcome(status="failed", reason=f"{type(error).__name__}: {error}", failure=culprit(error))


def _plain(value: Any) -> Any:
    """Return a value that JSON and Parquet keep."""
    if isinstance(value, numpy.generic):
        value = value.item()
    return value
