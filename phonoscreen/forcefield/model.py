"""What every force model offers, so that training, committee, prediction and publication are the same for all kinds."""

import hashlib
import json
import logging
import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256

log = logging.getLogger("phonoscreen")

FORMAT = "phonoscreen force model 2"
FORMAT_WITHOUT_DIGEST = "phonoscreen force model 1"


class ForceModel(torch.nn.Module, ABC):
    """Forces on atoms from their neighbourhoods.

    Parameters
    ----------
    settings : the ``force_model`` section of the config
    """

    kind = None

    def __init__(self, settings):
        super().__init__()
        self.settings = dict(settings)
        self.cutoff_angstrom = float(settings["cutoff_angstrom"])
        self.dtype = {"float32": torch.float32, "float64": torch.float64}[settings["dtype"]]

    @property
    def device(self):
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def calibrate(self, samples, seed):
        """Set the fixed scales of inputs and outputs from the training set.

        Parameters
        ----------
        samples : list of (``Neighbourhoods``, (n, 3) forces in eV/angstrom), one supercell each
        seed : seed for the choice of a part of them
        """

    @abstractmethod
    def describe(self, neighbourhoods, undisplaced=None):
        """Return what prediction needs and no weight enters; shared by the members of a committee.

        Parameters
        ----------
        neighbourhoods : atoms to predict the forces of
        undisplaced : the same atoms, or those of one primitive cell of which they are repetitions, in their places in
            the undisplaced crystal with the neighbours in the same order; the prediction is then the force relative
            to the undisplaced crystal
        """

    @abstractmethod
    def predict(self, description):
        """Return the forces, (n_centres, 3) tensor, eV/angstrom."""

    @abstractmethod
    def prepare(self, neighbourhoods, forces, weight):
        """Return one supercell as a dict of tensors that training keeps.

        Parameters
        ----------
        neighbourhoods : atoms of the supercell
        forces : (n, 3) reference forces, eV/angstrom
        weight : of the mean squared error of this supercell, angstrom^2/eV^2
        """

    @abstractmethod
    def collate(self, prepared):
        """Return the batch of a list of prepared supercells, on the device of the model."""

    @abstractmethod
    def loss(self, batch):
        """Return two scalar tensors: the loss and the sum over atoms of the mean squared error of their components.

        The loss is the sum over supercells of weight times mean squared error of the force components; the second has
        no gradient.
        """

    def forward(self, batch):
        """The loss: what ``torch.nn.parallel.DistributedDataParallel`` calls."""
        return self.loss(batch)

    def forces(self, neighbourhoods):
        """Return the forces on every centre, (n_centres, 3) array, eV/angstrom."""
        return self.predict(self.describe(neighbourhoods)).detach().cpu().numpy().astype(float)


def create_model(settings, seed):
    """Return a new model of ``settings["kind"]`` with weights drawn from ``seed``.

    Raises
    ------
    StudyError
        If the kind is unknown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return _class_of(settings["kind"])(settings)


def _class_of(kind):
    if kind == "elemental_sdnnff":
        from phonoscreen.forcefield.elemental_sdnnff import ElementalSDNNFF

        return ElementalSDNNFF
    if kind == "equivariant":
        from phonoscreen.forcefield.equivariant import EquivariantPotential

        return EquivariantPotential
    raise StudyError(
        f"unknown kind of force model {kind!r}",
        where="create_model",
        fix="set force_model.kind to elemental_sdnnff or equivariant",
    )


def perceptron(widths, dtype, bias_of_last=True):
    """Return a multilayer perceptron with SiLU between the layers."""
    layers = []
    for wide, narrow in zip(widths[:-2], widths[1:-1]):
        layers += [torch.nn.Linear(wide, narrow, dtype=dtype), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(*widths[-2:], bias=bias_of_last, dtype=dtype))


def to_device(description, device):
    """Return a (nested) dict of tensors on a device."""
    return {
        name: to_device(value, device) if isinstance(value, dict) else value.to(device)
        for name, value in description.items()
    }


def choose_device(name):
    """Return the torch device of ``force_model.device`` (auto: the GPU if there is one)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def save_model(model, weights_path, settings_path, **facts):
    """Write a model as safetensors and JSON with a digest over both; they appear under their names only when complete.

    Parameters
    ----------
    facts : JSON values stored beside the settings (data, seeds, errors)
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, f"{weights_path}.partial")
    os.replace(f"{weights_path}.partial", weights_path)
    content = {"kind": model.kind, "settings": model.settings, "weights_sha256": file_sha256(weights_path), **facts}
    write_model_json(content, settings_path)


def load_model(weights_path, settings_path, device="auto", dtype=None):
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
        model = _class_of(content["kind"])({**content["settings"], **({"dtype": dtype} if dtype else {})})
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


def write_model_json(content, path):
    """Write the JSON part of a model with its format and a digest over all it says (hashes of weights included)."""
    content = {**content, "format": FORMAT}
    content.pop("digest", None)
    write_json({**content, "digest": _digest(content)}, path)


def read_model_json(path):
    """Return the JSON part of a model, checked for its format and its digest.

    Members of a committee stored by the first version, without a digest, are read with a warning; a model published by
    it is refused.
    """
    try:
        content = json.loads(Path(path).read_text())
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
    return content


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path):
    try:
        return file_sha256(path)
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error}", where="load_model", fix="copy the model again") from error


def write_json(content, path):
    """Write JSON; the file appears under its name only when complete."""
    Path(f"{path}.partial").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    os.replace(f"{path}.partial", path)


def check_forces(forces, n_atoms):
    """Return forces as an array, or raise StudyError if a shape or value is wrong."""
    forces = numpy.asarray(forces, dtype=float)
    if forces.shape[-2:] != (n_atoms, 3) or not numpy.isfinite(forces).all():
        raise StudyError(
            f"forces of shape {forces.shape} for {n_atoms} atoms, finite: {bool(numpy.isfinite(forces).all())}",
            where="check_forces",
            fix="check the labels of this structure",
        )
    return forces
