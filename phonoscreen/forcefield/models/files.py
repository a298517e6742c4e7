"""Models as files: safetensors for the weights and JSON for everything else, with a digest over both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.forcefield.models.base import choose_device
from phonoscreen.forcefield.models.model_json import FORMAT, read_model_json, write_model_json
from phonoscreen.forcefield.models.registry import class_of

if TYPE_CHECKING:
    from phonoscreen.forcefield.models.base import ForceModel


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


def _sha256(path):
    try:
        return file_sha256(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error}", where="load_model", fix="copy the model again") from error
