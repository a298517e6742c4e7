"""JSON files that are whole and as they were written, or are not read."""

import json
from pathlib import Path
from typing import Any

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.provenance import seal


def write_sealed(document: dict[str, Any], path: str | Path) -> None:
    """Write a document with a digest of itself; the folder is made if it does not exist."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        partial.write_text(json.dumps({**document, "seal": seal(document)}))


def read_sealed(path: str | Path) -> dict[str, Any] | None:
    """Return a document of ``write_sealed``, None if there is none or it is damaged."""
    try:
        document = json.loads(Path(path).read_text())
        return document if document.pop("seal") == seal(document) else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
