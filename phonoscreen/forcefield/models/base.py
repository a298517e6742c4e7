"""What every force model offers, so that training, committee, prediction and publication are the same for all kinds."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy
import torch
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

log = logging.getLogger("phonoscreen")


class ForceModel(torch.nn.Module, ABC):
    """Forces on atoms from their neighbourhoods.

    Parameters
    ----------
    settings : the ``force_model`` section of the config
    """

    kind: str | None = None
    energy: Callable[[dict], float]
    """Energy of the atoms of a description, eV; only a model that has one defines it, and ``virials`` with it."""
    virials: Callable[[dict], torch.Tensor]
    """Derivative of the energy with respect to strain, (n_structures, 3, 3), eV per atom."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.cutoff_angstrom = float(settings["cutoff_angstrom"])
        self.dtype = {"float32": torch.float32, "float64": torch.float64}[settings["dtype"]]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def calibrate(self, samples: "Sequence[tuple[Neighbourhoods, NDArray]]", seed: int) -> None:
        """Set the fixed scales of inputs and outputs from the training set.

        Parameters
        ----------
        samples : list of (``Neighbourhoods``, (n, 3) forces in eV/angstrom), one supercell each
        seed : seed for the choice of a part of them
        """

    @abstractmethod
    def describe(self, neighbourhoods: "Neighbourhoods", undisplaced: "Neighbourhoods | None" = None) -> dict:
        """Return what prediction needs and no weight enters; shared by the members of a committee.

        Parameters
        ----------
        neighbourhoods : atoms to predict the forces of
        undisplaced : the same atoms, or those of one primitive cell of which they are repetitions, in their places in
            the undisplaced crystal with the neighbours in the same order; the prediction is then the force relative
            to the undisplaced crystal
        """

    @abstractmethod
    def predict(self, description: dict) -> torch.Tensor:
        """Return the forces, (n_centres, 3) tensor, eV/angstrom."""

    @abstractmethod
    def prepare(
        self,
        neighbourhoods: "Neighbourhoods",
        forces: NDArray,
        weight: float,
        virials: NDArray | None = None,
        virial_weight: float = 0.0,
        at_rest: "Neighbourhoods | None" = None,
    ) -> dict[str, torch.Tensor]:
        """Return one supercell, or some cells, as a dict of tensors that training keeps.

        Parameters
        ----------
        neighbourhoods : atoms of the supercell
        forces : (n, 3) reference forces, eV/angstrom
        weight : of the mean squared error of this supercell, angstrom^2/eV^2
        virials : (n_structures, 3, 3) stress times volume per atom, eV, or None; of no use to a model without energy
        virial_weight : of the mean squared error of their components, 1/eV^2
        at_rest : the undisplaced primitive cell that the supercell repeats, where the reference forces are relative to
            it and it need not rest with this model; of no use to a model without energy
        """

    @abstractmethod
    def collate(self, prepared: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return the batch of a list of prepared supercells, on the device of the model."""

    @abstractmethod
    def loss(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two scalar tensors: the loss and the sum over atoms of the mean squared error of their components.

        The loss is the sum over supercells of weight times mean squared error of the force components; the second has
        no gradient.
        """

    def forward(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss: what ``torch.nn.parallel.DistributedDataParallel`` calls."""
        return self.loss(batch)

    def forces(self, neighbourhoods: "Neighbourhoods") -> NDArray:
        """Return the forces on every centre, (n_centres, 3) array, eV/angstrom."""
        return self.predict(self.describe(neighbourhoods)).detach().cpu().numpy().astype(float)


def perceptron(widths: Sequence[int], dtype: torch.dtype, bias_of_last: bool = True) -> torch.nn.Sequential:
    """Return a multilayer perceptron with SiLU between the layers."""
    layers = []
    for wide, narrow in zip(widths[:-2], widths[1:-1]):
        layers += [torch.nn.Linear(wide, narrow, dtype=dtype), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-2], widths[-1], bias=bias_of_last, dtype=dtype))


def to_device(description: dict, device: torch.device) -> dict:
    """Return a (nested) dict of tensors on a device."""
    return {
        name: to_device(value, device) if isinstance(value, dict) else value.to(device)
        for name, value in description.items()
    }


def choose_device(name: str) -> torch.device:
    """Return the torch device of ``force_model.device`` (auto: the GPU if there is one)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_forces(forces: ArrayLike, n_atoms: int) -> NDArray:
    """Return forces as an array, or raise StudyError if a shape or value is wrong."""
    forces = numpy.asarray(forces, dtype=float)
    if forces.shape[-2:] != (n_atoms, 3) or not numpy.isfinite(forces).all():
        raise StudyError(
            f"forces of shape {forces.shape} for {n_atoms} atoms, finite: {bool(numpy.isfinite(forces).all())}",
            where="check_forces",
            fix="check the labels of this structure",
        )
    return forces
