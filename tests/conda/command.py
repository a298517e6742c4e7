"""The calls of conda that Snakemake makes, answered with a channel of this machine.

``CONDA_FOLDER`` holds ``wheels``, ``channel`` and a cache of unpacked packages. ``python -m tests.conda.command install
FOLDER`` writes the commands ``conda`` and ``activate`` into ``FOLDER/bin``.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import rattler
import yaml

ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH" PIP_NO_INDEX=1 PIP_FIND_LINKS="{wheels}"\n'


def folder() -> Path:
    """Return the folder that holds everything."""
    return Path(os.environ["CONDA_FOLDER"])


def install() -> None:
    """Write the commands that Snakemake looks for; pip finds the wheels of this machine alone in an environment."""
    root = Path(__file__).resolve().parents[2]
    place = folder() / "bin"
    place.mkdir(parents=True, exist_ok=True)
    words = f'CONDA_FOLDER={folder()} PYTHONPATH={root} exec {sys.executable} -m tests.conda.command "$@"'
    (place / "conda").write_text(f"#!/bin/sh\n{words}\n")
    (place / "conda").chmod(0o755)
    (place / "activate").write_text(ACTIVATE.format(wheels=folder() / "wheels"))


async def create(file: str, prefix: str) -> None:
    """Solve an environment file with the channel, install the packages, then what it wants from pip."""
    channel = rattler.Channel((folder() / "channel").as_uri())
    entries = yaml.safe_load(Path(file).read_text())["dependencies"]
    wanted = [rattler.MatchSpec(entry) for entry in entries if isinstance(entry, str)]
    gateway = rattler.Gateway(cache_dir=folder() / "cache/repodata")
    virtual = [one.into_generic() for one in rattler.VirtualPackage.detect()]
    platforms = ["linux-64", "noarch"]
    records = await rattler.solve([channel], wanted, gateway=gateway, platforms=platforms, virtual_packages=virtual)
    await rattler.install(records, prefix, cache_dir=folder() / "cache/packages", show_progress=False)
    of_pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    if of_pip:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            listed.write("\n".join(of_pip))
            listed.flush()
            links = ["--no-index", "--find-links", folder() / "wheels"]
            subprocess.run([f"{prefix}/bin/python", "-m", "pip", "install", *links, "-r", listed.name], check=True)


def main(words: list[str]) -> None:
    """Answer one call."""
    options = [word for word in words if word not in ("--quiet", "--no-default-packages")]
    match options:
        case ["install", *_]:
            install()
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(folder()), "platform": "linux-64"}))
        case ["--version"]:
            print("conda 25.3.1")
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", "--file", file, "--prefix", prefix]:
            asyncio.run(create(file, prefix))
            sys.stdout.flush()
            os._exit(0)  # threads of the installer that still run crash an interpreter that takes itself apart
        case ["clean", *_]:
            pass  # the cache is shared by all environments
        case _:
            sys.exit(f"conda {' '.join(words)}: this call is not known here")


if __name__ == "__main__":
    main(sys.argv[1:])
