"""Failed structures are tried again: those whose failure has a cause that may be gone, and no others.

``phonoscreen retry --class machine,engine`` looks through the records of a study, leaves a request in the work folder
of every job that holds such a failure, and has Snakemake make the products of these jobs again. A job with a request
takes everything from the product that it made before, but for the structures that are to be tried again.
"""

import argparse
import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pandas

from phonoscreen.audit.errors import FAILURES, StudyError
from phonoscreen.audit.integrity import Fault, find_fault, read_record, remake_commands
from phonoscreen.audit.lineage import Lineage
from phonoscreen.audit.provenance import FOLDER, file_sha256
from phonoscreen.audit.records import FAILURE, WHOLE, read_table
from phonoscreen.audit.sealed import read_sealed, write_sealed
from phonoscreen.audit.work import work_folder

REQUEST = "retry.json"


class Request:
    """What a job was asked to try again, and what it has made before.

    Parameters
    ----------
    folder : work folder of the job
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        document = read_sealed(self._folder / REQUEST) or {"classes": [], "key": None, "files": {}}
        self.asked, self.key = frozenset(document["classes"]), document["key"]
        self._files = {name: self._folder / name for name in document["files"]}
        sound = all(_is_sound(self._files[name], sha256) for name, sha256 in document["files"].items())
        self._rows = pandas.read_parquet(self._files["retry.parquet"]) if self._files and sound else pandas.DataFrame()

    def spares(self, record: dict[str, Any]) -> bool:
        """Return whether a failed record is among those that are not to be tried again."""
        return bool(self.asked) and record.get(FAILURE) not in self.asked

    def record(self, structure_id: str) -> dict[str, Any] | None:
        """Return the record that a structure had, None if it is to be tried again or there is none."""
        rows = self._rows[self._rows["structure_id"] == structure_id] if len(self._rows) else self._rows
        if not len(rows) or rows["status"].iloc[0] == "failed" and not self.spares(_plain_row(rows)):
            return None
        whole, record = self._rows.attrs.get(WHOLE, []), _plain_row(rows)
        present = {name for name, value in record.items() if not pandas.isna(value)}
        kept = present if record["status"] == "failed" else present | (set(record) - set(whole))
        return {name: int(value) if name in whole else value for name, value in record.items() if name in kept}

    def copy_arrays(self, structure_id: str, path: str | Path) -> None:
        """Write the arrays that a structure had to a file of its own, if it had any."""
        if "retry.h5" in self._files:
            with h5py.File(self._files["retry.h5"]) as store:
                if structure_id in store:
                    with h5py.File(path, "w") as piece:
                        store.copy(structure_id, piece)

    def remove(self) -> None:
        """Remove the request: it was met."""
        for path in self._folder.glob("retry.*"):
            path.unlink()


def _plain_row(rows: pandas.DataFrame) -> dict[str, Any]:
    return {str(name): value for name, value in rows.to_dict("records")[0].items()}


def _is_sound(path: Path, sha256: str) -> bool:
    return path.exists() and file_sha256(path) == sha256


@dataclass(frozen=True)
class Repeat:
    """One job that holds failures of the wanted classes.

    Attributes
    ----------
    rule, wildcards : of the job
    records : its records, relative to the folder of the study
    counts : how many structures are tried again, by class
    document : provenance of the job
    """

    rule: str
    wildcards: dict[str, str]
    records: str
    counts: dict[str, int]
    document: dict[str, Any]


def find_repeats(
    classes: Collection[str], rules: Collection[str] = (), root: str | Path = "."
) -> tuple[list[Repeat], Counter]:
    """Return the jobs of a study that hold failures of some classes, and how many failures of each kind there are.

    Parameters
    ----------
    classes : some of ``FAILURES``
    rules : names of rules; none: all
    root : folder of the study

    Returns
    -------
    list of ``Repeat`` in the order of rules and shards; Counter by (rule, class) of all failures

    Raises
    ------
    StudyError
        If a table is damaged.
    """
    found: list[Repeat] = []
    counted: Counter = Counter()
    for path, document in sorted(Lineage(root).jobs.items()):
        place = Path(root) / path
        if place.suffix != ".parquet" or not place.exists() or (rules and document["rule"] not in rules):
            continue
        failed = Counter(_failures(read_table(place)))
        counted.update({(document["rule"], name): count for name, count in failed.items()})
        wanted = {name: count for name, count in failed.items() if name in classes}
        if wanted:
            found.append(Repeat(document["rule"], document["wildcards"], path, wanted, document))
    return found, counted


def _failures(table: pandas.DataFrame) -> list[str]:
    """Return what failed records are to blame on; "unknown" of an earlier version, none where these are no records."""
    if not {"structure_id", "stage", "status"} <= set(table):
        return []
    failed = table[table["status"] == "failed"]
    return list(failed[FAILURE]) if FAILURE in failed else ["unknown"] * len(failed)


def leave_request(repeat: Repeat, classes: Iterable[str], root: str | Path = ".") -> None:
    """Leave a request in the work folder of a job, with what it has made before.

    Raises
    ------
    StudyError
        If a product of the job is not what the job wrote.
    """
    outputs = [path for path in repeat.document["outputs"] if Path(path).suffix in (".parquet", ".h5")]
    for path in outputs:
        fault, _ = find_fault(path, root)
        if fault:
            raise StudyError(str(fault), where=f"rule {repeat.rule}", fix="phonoscreen verify prints how to mend it")
    folder = Path(root) / work_folder(repeat.rule, repeat.wildcards)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for path in outputs:
        name = f"retry{Path(path).suffix}"
        (folder / name).unlink(missing_ok=True)
        try:  # Snakemake removes the product before its job starts: the second name keeps the content
            os.link(Path(root) / path, folder / name)
        except OSError:
            shutil.copyfile(Path(root) / path, folder / name)
        files[name] = repeat.document["outputs"][path]
    request = {"classes": sorted(classes), "key": repeat.document.get("key"), "files": files}
    write_sealed(request, folder / REQUEST)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``phonoscreen retry`` to the command line."""
    parser = subparsers.add_parser("retry", help="try failed structures again, by what was to blame")
    parser.add_argument("--class", dest="classes", required=True, metavar="CLASS[,CLASS]",
                        help="; ".join(f"{name}: {words}" for name, words in FAILURES.items()))  # fmt: skip
    parser.add_argument("--rule", nargs="+", default=[], help="only failures of these rules")
    parser.add_argument("-n", "--dry-run", action="store_true", help="list them and the commands, run nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Try failed structures again; return 0, or what Snakemake returned."""
    classes = [name for name in arguments.classes.split(",") if name]
    if unknown := sorted(set(classes) - {*FAILURES, "unknown"}) or ([] if classes else [arguments.classes]):
        raise StudyError(f"unknown class {', '.join(map(repr, unknown))}", where="--class",
                         fix=f"use some of {', '.join(FAILURES)}, with commas between them")  # fmt: skip
    if not FOLDER.is_dir():
        raise StudyError(f"there is no folder {FOLDER} here", where="phonoscreen retry",
                         fix="change to the folder of the study")  # fmt: skip
    repeats, counted = find_repeats(classes, arguments.rule)
    for (rule, name), count in sorted(counted.items()):
        print(f"  {rule}: {count} failed, {name}" + (", tried again" if name in classes else ""))
    if not repeats:
        print("nothing to try again")
        return 0
    faults = [Fault(repeat.records, "", read_record(repeat.records)) for repeat in repeats]
    commands = remake_commands(faults)
    print(f"{sum(sum(repeat.counts.values()) for repeat in repeats)} structure(s) in {len(repeats)} job(s):")
    print("\n".join(f"  {command}" for command in commands))
    if arguments.dry_run:
        return 0
    for repeat in repeats:
        leave_request(repeat, classes)
    codes = [subprocess.run(shlex.split(command)).returncode for command in commands]
    print("what depends on these products follows with the next call of the study")
    return max(codes)
