"""A conda channel in a folder: a package for each wheel, with what the wheel requires, and one for Python itself."""

import asyncio
import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable
from email.parser import HeaderParser
from pathlib import Path

import rattler
import zstandard
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SUBDIR = "linux-64"
SITE = f"lib/python{sysconfig.get_python_version()}/site-packages"
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "tblite": "tblite-python"}
"""Names on conda-forge of packages that PyPI names otherwise."""


def make_channel(wheels: Path, channel: Path) -> None:
    """Write a channel with one package for each wheel of a folder, and Python as it runs here.

    Console programs of the wheels are left out: no rule calls one.
    """
    place = channel / SUBDIR
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            name, version, depends = _description(wheel)
            _write(place, name, version, ["python", *depends], lambda add, wheel=wheel: _add_wheel(wheel, add))
    _write(place, "python", sys.version.split()[0], [], _add_python)
    asyncio.run(rattler.index.index_fs(channel, write_zst=False, write_shards=False))


def conda_name(name: str) -> str:
    """Return the name on conda-forge of a package on PyPI."""
    return CONDA_NAMES.get(canonicalize_name(name), canonicalize_name(name))


def conda_requirement(requirement: Requirement) -> str:
    """Return a requirement of a wheel as conda writes it."""
    limits = [str(one).removeprefix("==") if str(one).endswith(".*") and str(one).startswith("==") else str(one)
              for one in requirement.specifier]  # fmt: skip
    return f"{conda_name(requirement.name)} {','.join(sorted(limits))}".strip()


def _description(wheel):
    """Return name, version and requirements of a wheel, as conda has them."""
    (metadata,) = [name for name in wheel.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")]
    fields = HeaderParser().parsestr(wheel.read(metadata).decode())
    wanted = [Requirement(text) for text in fields.get_all("Requires-Dist") or []]
    kept = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    version = fields["Version"].partition("+")[0]  # 2.13.0+cpu and the like
    return conda_name(fields["Name"]), version, [conda_requirement(one) for one in kept]


def _add_wheel(wheel, add):
    """Add the files of a wheel where an installer puts them."""
    for entry in wheel.infolist():
        if entry.is_dir():
            continue
        top, _, rest = entry.filename.partition("/")
        kind, _, below = rest.partition("/")
        places = {"purelib": f"{SITE}/", "platlib": f"{SITE}/", "scripts": "bin/", "data": "", "headers": "include/"}
        target = f"{places[kind]}{below}" if top.endswith(".data") else f"{SITE}/{entry.filename}"
        add(target, wheel.read(entry), entry.external_attr >> 16 & 0o111)


def _add_python(add):
    """Add the interpreter as a virtual environment has it: it finds the standard library where it was started from."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, symlinks=True)
        for path in sorted(Path(folder).glob("bin/python*")):
            add(f"bin/{path.name}", os.path.realpath(path), link=True)
        add("pyvenv.cfg", (Path(folder) / "pyvenv.cfg").read_bytes())


def _write(place: Path, name: str, version: str, depends: list[str], fill: Callable) -> None:
    """Write one package, whose files ``fill`` adds."""
    stem = f"{name}-{version}-0"
    packed, paths = io.BytesIO(), []
    with zstandard.ZstdCompressor(level=1).stream_writer(packed, closefd=False) as stream:
        with tarfile.open(fileobj=stream, mode="w|") as archive:

            def add(target, content, executable=False, link=False):
                entry = tarfile.TarInfo(target)
                entry.mode = 0o755 if executable else 0o644
                if link:
                    entry.type, entry.linkname, content = tarfile.SYMTYPE, content, b""
                entry.size = len(content)
                archive.addfile(entry, None if link else io.BytesIO(content))
                digest = hashlib.sha256(content).hexdigest()
                kind = "softlink" if link else "hardlink"
                paths.append({"_path": target, "path_type": kind, "sha256": digest, "size_in_bytes": len(content)})

            fill(add)
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends, "subdir": SUBDIR,
             "arch": "x86_64", "platform": "linux"}  # fmt: skip
    about = {"info/index.json": index, "info/paths.json": {"paths": paths, "paths_version": 1}, "info/about.json": {}}
    with zipfile.ZipFile(place / f"{stem}.conda", "w") as package:
        package.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        package.writestr(f"pkg-{stem}.tar.zst", packed.getvalue())
        package.writestr(f"info-{stem}.tar.zst", _packed(about))


def _packed(documents):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, document in documents.items():
            content, entry = json.dumps(document).encode(), tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return zstandard.compress(target.getvalue(), 1)


if __name__ == "__main__":
    make_channel(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # threads of the indexer that still run crash an interpreter that takes itself apart
