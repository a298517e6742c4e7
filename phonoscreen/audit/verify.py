"""Whether every product of a study is still what its job wrote."""

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import Fault, find_fault, read_record, remake_commands
from phonoscreen.audit.lineage import Lineage, read_provenance
from phonoscreen.audit.provenance import FILES, FOLDER, file_sha256, record_path

SHOWN = 20


def verify_study(root: str | Path = ".") -> tuple[int, list[Fault], list[str], list[str]]:
    """Compare every product of a study with its record, and every record with its provenance file.

    Parameters
    ----------
    root : folder of the study (the one that holds ``results``)

    Returns
    -------
    number of sound products, list of ``Fault``, list of files below ``results`` without a record, list of damaged
    provenance files of no known product

    Raises
    ------
    StudyError
        If the study has no results.
    """
    root = Path(root)
    if not (root / FOLDER.parent).is_dir():
        raise StudyError(f"there is no folder {FOLDER.parent} here", fix="change to the folder of the study")
    files = {str(path.relative_to(root)) for path in (root / FOLDER.parent).rglob("*") if path.is_file()}
    recorded = {f"{FOLDER.parent}{os.sep}{path[len(str(FILES)) + 1 : -5]}" for path in files if _is_record(path)}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        faults = [fault for fault, _ in pool.map(lambda path: find_fault(path, root), sorted(recorded)) if fault]
    faults += _provenance_faults(root, recorded - {fault.path for fault in faults})
    lineage = Lineage(root)
    described = set(lineage.jobs) - recorded
    named = "\n".join(fault.what for fault in faults)
    damaged = [path for path in lineage.damaged if path not in named]
    faults += [Fault(path, "its record is missing", None) for path in sorted(described)]
    products = {path for path in files if record_path(path) and not _is_partial(path)}
    known = recorded | described
    unknown = {path for path in products - known if not known & {str(parent) for parent in Path(path).parents}}
    return len(known) - len(faults), faults, sorted(unknown), damaged


def usual_options(root: str | Path = ".") -> str:
    """Return the options with which snakemake was called for most jobs of the study."""
    calls = Counter(str(document.get("options", "")) for document in Lineage(root).jobs.values())
    return calls.most_common(1)[0][0] if calls else ""


def _is_record(path: str) -> bool:
    return path.startswith(f"{FILES}{os.sep}") and path.endswith(".json")


def _is_partial(path: str) -> bool:
    """Whether a file belongs to a job that has not ended."""
    return any(".partial" in part or part.startswith(".") for part in Path(path).parts)


def _provenance_faults(root: Path, paths: Iterable[str]) -> list[Fault]:
    """Return a fault for each product whose provenance file is damaged or missing."""
    state: dict[Path, str] = {}
    faults = []
    for path in sorted(paths):
        record = read_record(path, root)
        if record is None:
            continue
        place = root / FOLDER / record.provenance
        if place not in state:
            state[place] = "is missing" if not place.exists() else _state(place, record.provenance_sha256)
        if state[place]:
            faults.append(Fault(path, f"its provenance file {FOLDER / record.provenance} {state[place]}", record))
    return faults


def _state(place: Path, sha256: str) -> str:
    try:
        read_provenance(place)
        return "" if file_sha256(place) == sha256 else "has changed"
    except (StudyError, OSError):
        return "is damaged"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``phonoscreen verify`` to the command line."""
    parser = subparsers.add_parser("verify", help="whether every product of a study is what its job wrote")
    parser.add_argument("--all", action="store_true", help=f"list all files, not the first {SHOWN} of each kind")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is damaged and the commands that make it again; return 1 if anything is, else 0."""
    sound, faults, unknown, damaged = verify_study()
    limit = max(len(faults), len(unknown), len(damaged)) if arguments.all else SHOWN
    for title, lines in (
        ("not what their jobs wrote", faults),
        ("without record (no job of the study wrote them)", unknown),
        ("of provenance damaged, of no product that has a record (remove them)", damaged),
    ):
        if lines:
            print(f"{len(lines)} file(s) {title}:")
            print("\n".join(f"  {line}" for line in lines[:limit]))
            if len(lines) > limit:
                print(f"  … and {len(lines) - limit} more (--all lists them)")
    if faults:
        print("make them again with:")
        print("\n".join(f"  {command}" for command in remake_commands(faults, usual_options())))
    print(f"{sound} product(s) match their records, {len(faults)} do not, {len(unknown)} have none")
    return 1 if faults or damaged else 0
