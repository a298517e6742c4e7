"""Does a product still hold what the job that made it wrote? Asked before a job reads it, and for a whole study."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256, has_storage, product_name, record_path, seal
from phonoscreen.audit.remake import remake_command


@dataclass(frozen=True)
class Record:
    """What the job that made a product left on record about it.

    Parameters
    ----------
    path : the product, relative to the folder of the study
    sha256, n_bytes : of the product as it was written; n_bytes is None for a folder
    rule, wildcards : of the job
    options : options of the snakemake call that ran the job (settings, profile)
    provenance, provenance_sha256 : provenance file of the job, relative to ``results/provenance``, and its hash
    """

    path: str
    sha256: str
    n_bytes: int | None
    rule: str
    wildcards: dict
    options: str
    provenance: str
    provenance_sha256: str

    @property
    def producer(self) -> str:
        """Rule and wildcards in words."""
        return ", ".join([f"rule {self.rule}", *(f"{key}={value}" for key, value in sorted(self.wildcards.items()))])


@dataclass(frozen=True)
class Fault:
    """A product that is not what its job wrote.

    Parameters
    ----------
    path : the product
    what : how it differs, in words
    record : ``Record``, None if the record itself is damaged
    """

    path: str
    what: str
    record: Record | None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" + (f" ({self.record.producer})" if self.record else "")


def read_record(path: str | Path, root: str | Path = ".") -> Record | None:
    """Return the record of a product, or None if no job left one.

    Raises
    ------
    StudyError
        If there is a record but it cannot be read.
    """
    place = record_path(path, root)
    if place is None or not place.exists():
        return None
    try:
        content = json.loads(place.read_text())
        sound = content.pop("seal") == seal(content)
        record = Record(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound or record.path != os.path.normpath(os.path.relpath(Path(root) / product_name(path), root)):
        raise StudyError(f"the record {place} of {path} is damaged", fix=f"make {path} again")
    return record


def find_fault(path: str | Path, root: str | Path = ".") -> tuple[Fault | None, str | None]:
    """Compare a product with its record.

    Parameters
    ----------
    path : a file or folder, relative to the folder of the study
    root : folder of the study

    Returns
    -------
    (Fault or None, sha256 or None); the sha256 is None where the file was not read

    Raises
    ------
    StudyError
        If a file without a record cannot be read.
    """
    place = Path(root) / path
    try:
        record = read_record(path, root)
    except StudyError:
        return Fault(str(path), "its record is damaged", None), None
    if record and not place.exists():
        return Fault(str(path), "is missing", record), None
    if record and place.is_file() and (n_bytes := place.stat().st_size) != record.n_bytes:
        what = f"has {n_bytes} bytes" if n_bytes else "is empty"
        return Fault(str(path), f"{what}, {record.n_bytes} were written", record), None
    try:
        current = file_sha256(place)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        if record is None:
            raise StudyError(f"{path} {what}", fix="check that the file exists and can be read") from error
        return Fault(str(path), what, record), None
    if record and current != record.sha256:
        return Fault(str(path), "its content has changed since it was written", record), current
    return None, current


def check_inputs(paths: Iterable[str | Path], where: str) -> dict[str, str]:
    """Return the sha256 of every input of a job, or refuse those that are not what their jobs wrote.

    An input without a record (a user's own file) is taken as it is.

    Parameters
    ----------
    paths : files
    where : the job, for the message

    Returns
    -------
    dict of sha256 by path

    Raises
    ------
    StudyError
        Naming each damaged file, the job that made it and the command that makes it again.
    """
    names = list(dict.fromkeys(str(path) for path in paths))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = dict(zip(names, pool.map(find_fault, names)))
    refuse([fault for fault, _ in found.values() if fault], where)
    return {product_name(name): current for name, (_, current) in found.items() if current is not None}


def refuse(faults: Sequence[Fault], where: str) -> None:
    """Raise StudyError if there are faults, with the command that makes the files again."""
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        commands = "\n         ".join(remake_commands(faults))
        raise StudyError(
            f"{len(faults)} file(s) are not what the job that made them wrote:\n{lines}",
            where=where,
            fix=f"make them again, then go on:\n         {commands}",
        )


def remake_commands(faults: Iterable[Fault], usual_options: str = "") -> list[str]:
    """Return the commands that make damaged files again: one for each way in which the study was called.

    Parameters
    ----------
    faults : list of ``Fault``
    usual_options : of the snakemake call, for files whose record does not say them
    """
    paths = defaultdict(list)
    for fault in faults:
        paths[remake_command(fault.record.options if fault.record else usual_options)].append(fault.path)
    return [f"{command} {' '.join(map(_quoted, sorted(set(names))))}" for command, names in paths.items()]


def check_before_start(jobs: Iterable[Any]) -> None:
    """Refuse a run of the workflow, before its first job, if a product that it will read is damaged.

    Snakemake deletes the outputs of a job before it starts, and again when it fails. A damaged input found here costs
    no output. (Snakemake's flag ``update``, which brings the outputs of a failed job back, is no way out: it also
    notes the new settings and inputs beside them, so that old results would count as new ones.) Products that the run
    itself makes again are left out.

    Parameters
    ----------
    jobs : jobs of Snakemake that are about to run

    Raises
    ------
    StudyError
        See ``check_inputs``.
    """
    jobs = list(jobs)
    made = {str(path) for job in jobs for path in job.output}
    read = {str(path) for job in jobs for path in job.input} - made
    if has_storage():  # objects that are not here are compared in the jobs that fetch them
        read = {path for path in read if os.path.exists(path)}
    recorded = sorted(path for path in read if (place := record_path(path)) is not None and place.exists())
    check_inputs(recorded, where="before the first job: nothing was started and nothing deleted")


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w./,=+-]+", path) else "'" + path.replace("'", "'\\''") + "'"
