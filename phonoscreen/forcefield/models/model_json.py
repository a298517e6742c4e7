"""The JSON part of a model: format, digest over all it says, and what names its networks. Needs no PyTorch."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError

log = logging.getLogger("phonoscreen")

FORMAT = "phonoscreen force model 2"
FORMAT_WITHOUT_DIGEST = "phonoscreen force model 1"


_KINDS = {"label_engine": str, "label_model": str, "licence": str, "members_sha256": dict, "weights_sha256": str}
"""Entries of the JSON part that are used as what they are; nobody vouches for them but the digest."""


def write_model_json(content: dict, path: str | Path) -> None:
    """Write the JSON part of a model with its format and a digest over all it says (hashes of weights included)."""
    content = {**content, "format": FORMAT}
    content.pop("digest", None)
    write_json({**content, "digest": _digest(content)}, path)


def read_model_json(path: str | Path) -> dict:
    """Return the JSON part of a model, checked for its format and its digest.

    Members of a committee stored by the first version, without a digest, are read with a warning; a model published by
    it is refused.
    """
    try:
        content = json.loads(Path(path).read_text(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{path} cannot be read: {error}", where="read_model_json", fix="copy the model again"
        ) from error
    given = content.get("format") if isinstance(content, dict) else None
    if given not in (FORMAT, FORMAT_WITHOUT_DIGEST):
        raise StudyError(
            f"{path} has format {str(given)[:60]!r}, not {FORMAT!r}",
            where="read_model_json",
            fix="use a model that this version of phonoscreen wrote",
        )
    if given == FORMAT_WITHOUT_DIGEST and "members" in content:
        raise StudyError(
            f"{path} was published by an earlier version, without a digest of settings and weights",
            where="read_model_json",
            fix="publish the model again (rule publish_model) with this version",
        )
    if given == FORMAT_WITHOUT_DIGEST:
        log.warning("%s was stored by an earlier version: nothing tells whether settings and weights changed", path)
    elif content.pop("digest", None) != _digest(content):
        raise StudyError(f"{path} was changed after it was stored", where="read_model_json", fix="copy the model again")
    if not isinstance(content.get("settings"), dict) or not isinstance(content.get("kind"), str):
        raise StudyError(f"{path} lacks kind or settings", where="read_model_json", fix="copy the model again")
    for name, kind in _KINDS.items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise StudyError(
                f"{name} of {path} is no {kind.__name__}", where="read_model_json", fix="copy the model again"
            )
    return content


def networks_digest(content: dict) -> str:
    """Return what names the networks of a published model: a digest of their kind, settings and weights.

    Forces depend on nothing else. What ``model.json`` also says of them, such as errors and the calibration of their
    spread, is judgement and may be added later.

    Parameters
    ----------
    content : of ``read_model_json``, of a published model
    """
    weights = [content["members_sha256"][name] for name in content["members"]]
    return _digest({"kind": content["kind"], "settings": content["settings"], "weights_sha256": weights})


def _refuse_constant(word):
    raise ValueError(f"{word} is no number of JSON")


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_json(content: Any, path: str | Path) -> None:
    """Write JSON; the file appears under its name only when complete."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
