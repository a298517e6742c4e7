"""Models as files: safetensors for the weights and JSON for everything else, with a digest over both."""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.models.base import choose_device
from phonoscreen.forcefield.models.registry import class_of

if TYPE_CHECKING:
    from phonoscreen.forcefield.models.base import ForceModel

log = logging.getLogger("phonoscreen")

FORMAT = "phonoscreen force model 2"
FORMAT_WITHOUT_DIGEST = "phonoscreen force model 1"


_KINDS = {"label_engine": str, "label_model": str, "licence": str, "members_sha256": dict, "weights_sha256": str}
"""Entries of the JSON part that are used as what they are; nobody vouches for them but the digest."""


def save_model(model: "ForceModel", weights_path: str | Path, settings_path: str | Path, **facts: Any) -> None:
    """Write a model as safetensors and JSON with a digest over both; they appear under their names only when complete.

    Parameters
    ----------
    facts : JSON values stored beside the settings (data, seeds, errors)
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(weights_path) as partial:
        save_file(weights, partial)
    content = {"kind": model.kind, "settings": model.settings, "weights_sha256": file_sha256(weights_path), **facts}
    write_model_json(content, settings_path)


def load_model(
    weights_path: str | Path,
    settings_path: str | Path,
    device: str = "auto",
    dtype: str | None = None,
) -> "ForceModel":
    """Return a model from its safetensors and JSON files; no code is read from either.

    Parameters
    ----------
    device : auto, cpu or cuda
    dtype : float32 or float64; None: as trained

    Raises
    ------
    StudyError
        If the files are not a phonoscreen force model, do not fit together, are not what was stored, or hold weights
        that are not finite.
    """
    content, name = read_model_json(settings_path), Path(weights_path).name
    where = f"{settings_path} and {name}"
    expected = content.get("weights_sha256") or content.get("members_sha256", {}).get(name)
    if content["format"] == FORMAT and _sha256(weights_path) != expected:
        raise StudyError(f"{weights_path} is not the file that was stored", where=where, fix="copy the model again")
    try:
        model = class_of(content["kind"])({**content["settings"], **({"dtype": dtype} if dtype else {})})
        model.load_state_dict(load_file(str(weights_path)))
    except (RuntimeError, OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(
            f"{weights_path} does not fit {settings_path}: {error}", where="load_model", fix="publish the model again"
        ) from error
    for part, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise StudyError(f"the weights {part} are not finite", where=where, fix="train and publish it again")
    return model.to(choose_device(device)).eval()


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


def _refuse_constant(word):
    raise ValueError(f"{word} is no number of JSON")


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path):
    try:
        return file_sha256(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error}", where="load_model", fix="copy the model again") from error


def write_json(content: Any, path: str | Path) -> None:
    """Write JSON; the file appears under its name only when complete."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
