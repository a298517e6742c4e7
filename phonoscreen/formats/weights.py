"""Files of weights that no package holds: where they are looked for, and their download.

``python -m phonoscreen.formats.weights MODEL`` fetches one, on a machine that has a network, for jobs on nodes that
have none.
"""

import argparse
import hashlib
import os
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError

_REVISION = "9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28"
_URL = f"https://github.com/atomicarchitects/nequix/raw/{_REVISION}/models/"
# sha256 of the weights that are known; a file of another content is refused.
WEIGHTS = {
    "nequix-oam-1-pft": "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
    "nequix-mp-1-pft": "a88aeaed71fd447572dc57af21d469207d7737b85a6dbb66f8c38156f175c5f1",
}


def find_weights(model: str, path: str | None = None) -> Path:
    """Return the file of the weights, verified.

    Parameters
    ----------
    model : name in ``WEIGHTS``
    path : file of the weights; None takes ``<model>.nqx`` from the folder that the variable ``PHONOSCREEN_WEIGHTS``
        names, or without it from the user's cache (``$XDG_CACHE_HOME/phonoscreen/weights``), downloaded on first use

    Raises
    ------
    StudyError
        If the model is unknown, the file does not exist or cannot be downloaded, or its sha256 is another one.
    """
    if model not in WEIGHTS:
        raise StudyError(
            f"no Nequix model {model!r}", where="config reference.nequix.model", fix=f"use one of {', '.join(WEIGHTS)}"
        )
    file = Path(path) if path else place_of(model)
    if not file.is_file():
        if path or os.environ.get("PHONOSCREEN_WEIGHTS"):
            raise StudyError(
                f"no file {file}", where=f"weights of {model}",
                fix="correct PHONOSCREEN_WEIGHTS or --weights, or leave it out: the weights are then downloaded",
            )  # fmt: skip
        _download(f"{_URL}{model}.nqx", file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != WEIGHTS[model]:
        raise StudyError(
            f"the file has sha256 {found[:16]}…, {model} has {WEIGHTS[model][:16]}…", where=str(file),
            fix="remove the file: the weights are downloaded again; or put the right file there",
        )  # fmt: skip
    return file


def place_of(model: str) -> Path:
    """Return the file in which the weights of a model are looked for, see ``find_weights``."""
    given = os.environ.get("PHONOSCREEN_WEIGHTS")
    return (Path(given) if given else cache_folder() / "weights") / f"{model}.nqx"


def cache_folder() -> Path:
    """Return the folder of what this project keeps for a user, beside all studies."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phonoscreen"


def _download(url, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(file, shared=True) as partial:
            urllib.request.urlretrieve(url, partial)
    except OSError as error:
        raise StudyError(
            f"the weights cannot be downloaded: {error}", where=url,
            fix="download them elsewhere and let the variable PHONOSCREEN_WEIGHTS name their folder",
        ) from error  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the weights of a model unless they are there, and print their place; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m phonoscreen.formats.weights", description=__doc__)
    parser.add_argument("model", choices=sorted(WEIGHTS))
    try:
        print(find_weights(parser.parse_args(arguments).model))
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
