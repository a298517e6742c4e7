"""Where a result came from: code, settings, inputs, packages and machine of the job that wrote it."""

import hashlib
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

FOLDER = Path("results/provenance")


def file_sha256(path):
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


def write_provenance(job, outputs, *, started):
    """Write one JSON file per job under ``results/provenance``.

    Parameters
    ----------
    job : ``phonoscreen.audit.job.Job``
    outputs : paths the job wrote
    started : seconds since the epoch
    """
    document = {
        "rule": job.rule,
        "wildcards": dict(job.wildcards),
        "settings": dict(job.params),
        "key": job.key,
        "inputs": job.inputs,
        "outputs": {str(path): file_sha256(path) for path in outputs},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "machine": machine(),
        "packages": packages(),
        "packages_outside_environment": outside_environment(),
    }
    name = ",".join(f"{key}={value}" for key, value in sorted(dict(job.wildcards).items())) or "all"
    path = FOLDER / job.rule / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1, sort_keys=True, default=str) + "\n")
    os.replace(partial, path)


def machine():
    """Return what kind of machine this is; never its name or a path of it."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def packages():
    """Return the versions of the third-party packages this process has imported."""
    found = {}
    names = {module.partition(".")[0] for module in list(sys.modules)}
    for top, distributions in metadata.packages_distributions().items():
        if top in names:
            for distribution in distributions:
                found[distribution] = metadata.version(distribution)
    return dict(sorted(found.items()))


def outside_environment():
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


def _processor():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
