"""Where a result came from: code, settings, inputs, packages and machine of the job that wrote it."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.remake import current_options
from phonoscreen.audit.work import WORK, name_of

FOLDER = Path("results/provenance")
FILES = FOLDER / "files"
STORAGE = "PHONOSCREEN_STORAGE"  # where Snakemake puts local copies of objects in a storage, handed down to the jobs


def announce_storage(settings: Any) -> None:
    """Keep for the jobs whether products live in a storage, and where their local copies are.

    Parameters
    ----------
    settings : ``storage_settings`` of Snakemake's workflow
    """
    if settings.default_storage_provider:
        os.environ[STORAGE] = os.path.abspath(settings.local_storage_prefix)
    else:
        os.environ.pop(STORAGE, None)


def has_storage() -> bool:
    """Return whether the products of the running study live in a storage."""
    return STORAGE in os.environ


def product_name(path: str | Path) -> str:
    """Return the name of a product in the folder of the study, also where the file is the local copy of an object."""
    place = os.environ.get(STORAGE)
    parts = Path(os.path.abspath(path)).parts
    if place and parts[: len(Path(place).parts)] == Path(place).parts and FOLDER.parts[0] in parts:
        start = len(parts) - 1 - parts[::-1].index(FOLDER.parts[0])
        return str(Path(*parts[start:]))
    return str(path)


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file, or of the sorted files of a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for child in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".snakemake")):
            digest.update(str(child.relative_to(path)).encode())
            digest.update(file_sha256(child).encode())
        return digest.hexdigest()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def record_path(path: str | Path, root: str | Path = ".") -> Path | None:
    """Return where the record of a product stands, or None for a file that is no product of the study."""
    results = os.path.abspath(os.path.join(root, FOLDER.parent))
    name = os.path.relpath(os.path.abspath(os.path.join(root, product_name(path))), results)
    if name == os.curdir or name.split(os.sep)[0] in (os.pardir, FOLDER.name, WORK.name):
        return None
    return Path(root) / FILES / f"{name}.json"


def write_provenance(job: Any, outputs: Iterable[str], *, started: float) -> None:
    """Write one JSON file per job under ``results/provenance``, and one small record per output under ``files``.

    The record of an output is found from its path alone, so that the next job that reads the output compares the two
    at once.

    Parameters
    ----------
    job : ``phonoscreen.audit.job.Job``
    outputs : paths the job wrote
    started : seconds since the epoch
    """
    made_with = getattr(job, "made_with", None)
    settings = dict(job.params)
    if made_with and len(made_with) == 1:
        settings |= made_with[0]["settings"]
    document = {
        "rule": job.rule,
        "wildcards": dict(job.wildcards),
        "settings": settings,
        "made_with": made_with,
        "options": current_options(),
        "key": job.key,
        "inputs": job.inputs,
        "outputs": {product_name(path): file_sha256(path) for path in outputs},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "machine": machine(),
        "packages": packages(),
        "packages_outside_environment": outside_environment(),
    }
    path = FOLDER / job.rule / f"{name_of(job.wildcards)}.json"
    _write(document, path)
    common = {
        "rule": job.rule,
        "wildcards": {key: str(value) for key, value in dict(job.wildcards).items()},
        "options": document["options"],
        "provenance": str(path.relative_to(FOLDER)),
        "provenance_sha256": file_sha256(path),
    }
    for output in outputs:
        name = product_name(output)
        n_bytes = None if os.path.isdir(output) else os.path.getsize(output)
        record = {"path": os.path.normpath(os.path.relpath(name)), "sha256": document["outputs"][name]}
        record |= {"n_bytes": n_bytes, **common}
        if (place := record_path(output)) is not None:
            _write({**record, "seal": seal(record)}, place)


def seal(record: dict[str, Any]) -> str:
    """Return the sha256 of a record, by which a damaged one is told."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _write(document: dict[str, Any], path: Path) -> None:
    """Write JSON; the file appears under its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(json.dumps(document, indent=1, sort_keys=True, default=str) + "\n")


def machine() -> dict[str, str | int | None]:
    """Return what kind of machine this is; never its name or a path of it."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def packages() -> dict[str, str]:
    """Return the versions of the third-party packages this process has imported."""
    found = {}
    names = {module.partition(".")[0] for module in list(sys.modules)}
    for top, distributions in metadata.packages_distributions().items():
        if top in names:
            for distribution in distributions:
                found[distribution] = metadata.version(distribution)
    return dict(sorted(found.items()))


def outside_environment() -> list[str]:
    """Return imported packages that do not belong to this Python's own environment.

    Snakemake puts its own site-packages on the path of rule environments; a module taken from there has a version
    that the rule's environment file does not name.
    """
    prefix = os.path.realpath(sys.prefix)
    base = os.path.realpath(sys.base_prefix)
    outside = set()
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if place and "site-packages" in place and "." not in name:
            place = os.path.realpath(place)
            if not place.startswith((prefix, base)):
                outside.add(name)
    return sorted(outside)


def _processor() -> str:
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
