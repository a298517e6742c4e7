"""Elemental-SDNNFF: forces directly from the elemental spatial density in nearest-neighbour frames.

Idea: Rodriguez et al., Commun. Mater. 4, 61 (2023). The paper does not publish formula, layers and optimiser; those
here are our own choices and all stand in the config section ``force_model``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
import torch
from numpy.typing import NDArray

from phonoscreen.forcefield.density import PARITIES, DensityMesh
from phonoscreen.forcefield.elements import ATTRIBUTES, element_attributes
from phonoscreen.forcefield.frames import frames_along, neighbour_frames
from phonoscreen.forcefield.models.base import ForceModel, perceptron

if TYPE_CHECKING:
    from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

CALIBRATION_FRAMES = 8192  # environments for the principal components; more do not change them
VARIANCE_FLOOR = 0.1  # of the largest; directions with less variance are not amplified further


class ElementalSDNNFF(ForceModel):
    """Multilayer perceptron on whitened principal components of the density, in the frame of the environment.

    The density of an environment changes little under a displacement of 0.03 angstrom and much between compounds.
    Whitening by the principal components of the training set brings both to the same scale; it is linear and fixed
    after calibration, so at prediction it merges with the first layer.

    Forces are polar vectors: mirroring an environment mirrors its force. The network obeys this law exactly for the
    eight sign changes s of the frame's axes, ``f(rho) = 1/8 sum_s s M(s rho)``, where M is the perceptron. The parts
    of definite parity only change sign under s, so the first layer, the largest, is evaluated once for all eight.
    """

    kind = "elemental_sdnnff"
    mean: torch.Tensor
    whitening: torch.Tensor
    attribute_mean: torch.Tensor
    attribute_scale: torch.Tensor
    force_scale: torch.Tensor

    def __init__(self, settings: dict) -> None:
        super().__init__(settings)
        self.mesh = DensityMesh(
            settings["cutoff_angstrom"],
            settings["mesh_spacing_angstrom"],
            settings["width_over_spacing"],
            settings["element_channels"],
        )
        self.n_frames = settings["frames"]
        parities = torch.tensor(PARITIES)
        self.signs = (1 - 2 * parities).to(self.dtype)  # (8, 3): the sign changes
        self.characters = torch.stack([(self.signs**p).prod(dim=1) for p in parities], dim=1)  # (8, 8)
        n_components, first = settings["components_per_parity"], settings["hidden"][0]
        self.density_weight = torch.nn.Parameter(torch.empty(len(parities), n_components, first, dtype=self.dtype))
        torch.nn.init.normal_(self.density_weight, std=(len(parities) * n_components) ** -0.5)
        self.attribute_layer = torch.nn.Linear(len(ATTRIBUTES), first, dtype=self.dtype)
        self.network = torch.nn.Sequential(torch.nn.SiLU(), perceptron([*settings["hidden"], 3], self.dtype))
        self.register_buffer("mean", torch.zeros(self.mesh.n_values, dtype=self.dtype))
        self.register_buffer("whitening", torch.zeros(self.mesh.n_values, n_components, dtype=self.dtype))
        self.register_buffer("attribute_mean", torch.zeros(len(ATTRIBUTES), dtype=self.dtype))
        self.register_buffer("attribute_scale", torch.ones(len(ATTRIBUTES), dtype=self.dtype))
        self.register_buffer("force_scale", torch.ones((), dtype=self.dtype))

    def calibrate(self, samples: "Sequence[tuple[Neighbourhoods, NDArray]]", seed: int) -> None:
        """Set the means, principal components and scales of the inputs and the scale of the forces."""
        densities, attributes, square, count, total = [], [], 0.0, 0, 0
        frames_per_sample = -(-CALIBRATION_FRAMES // len(samples))
        for place in numpy.random.default_rng(seed).permutation(len(samples)):
            neighbourhoods, forces = samples[place]
            square, count = square + float((forces**2).sum()), count + forces.size
            if total < CALIBRATION_FRAMES:
                density, centre_attributes, _ = self._environments(neighbourhoods)
                chosen = numpy.random.default_rng([seed, int(place)]).permutation(len(density))[:frames_per_sample]
                densities.append(density[chosen])
                attributes.append(centre_attributes[chosen])
                total += len(chosen)
        density, attribute = numpy.concatenate(densities).astype(float), numpy.concatenate(attributes)
        spectra = []
        for number, part in enumerate(self.mesh.parts):
            values = density[:, part]
            if number == 0:  # over all mirrored environments only the even part has a mean
                self.mean[part] = torch.as_tensor(values.mean(axis=0), dtype=self.dtype)
                values = values - values.mean(axis=0)
            spectra.append(numpy.linalg.eigh(values.T @ values / len(values)))
        floor = VARIANCE_FLOOR * max(variance[-1] for variance, _ in spectra)
        for part, (variance, directions) in zip(self.mesh.parts, spectra):
            directions = directions[:, ::-1][:, : self.whitening.shape[1]]
            variance = variance[::-1][: self.whitening.shape[1]].clip(0)
            # the sign of an eigenvector is arbitrary: its largest entry is made positive
            directions = directions * numpy.sign(
                directions[numpy.abs(directions).argmax(axis=0), numpy.arange(directions.shape[1])]
            )
            self.whitening[part, : len(variance)] = torch.as_tensor(
                directions / numpy.sqrt(variance + floor), dtype=self.dtype
            )
        self.attribute_mean.copy_(torch.as_tensor(attribute.mean(axis=0)))
        self.attribute_scale.copy_(torch.as_tensor(attribute.std(axis=0) + 1e-3))
        self.force_scale.fill_((square / count) ** 0.5)

    def _environments(self, neighbourhoods):
        frames = neighbour_frames(neighbourhoods, self.cutoff_angstrom, self.n_frames)
        density = self.mesh.density(neighbourhoods, frames)
        return density, element_attributes(neighbourhoods.numbers)[frames.centres], frames

    def _perceptron(self, density_layer, attributes):
        """Return the force in the frame over the force scale, from the (n, 8, width) sums of the first layer."""
        attributes = self.attribute_layer((attributes - self.attribute_mean) / self.attribute_scale)
        mirrored = torch.einsum("gp,nph->ngh", self.characters.to(self.device), density_layer) + attributes[:, None]
        return torch.einsum("ngi,gi->ni", self.network(mirrored), self.signs.to(self.device)) / len(self.signs)

    def describe(self, neighbourhoods: "Neighbourhoods", undisplaced: "Neighbourhoods | None" = None) -> dict:
        """Return densities, attributes and frames of the atoms; see ``ForceModel.describe``."""
        density, attributes, frames = self._environments(neighbourhoods)
        description = {
            "density": torch.as_tensor(density, dtype=self.dtype),
            "attributes": torch.as_tensor(attributes, dtype=self.dtype),
            "rotations": torch.as_tensor(frames.rotations, dtype=self.dtype),
            "weights": torch.as_tensor(frames.weights, dtype=self.dtype),
            "centres": torch.as_tensor(frames.centres),
            "n_centres": len(neighbourhoods),
        }
        if undisplaced is not None:  # the same frames of the undisplaced atoms, each only once
            keys = numpy.column_stack([frames.centres % len(undisplaced), frames.pairs])
            keys, places = numpy.unique(keys, axis=0, return_inverse=True)
            frames = frames_along(undisplaced, keys[:, 0], keys[:, 1:])
            description["undisplaced"] = {
                "density": torch.as_tensor(self.mesh.density(undisplaced, frames), dtype=self.dtype),
                "attributes": torch.as_tensor(
                    element_attributes(undisplaced.numbers)[frames.centres], dtype=self.dtype
                ),
                "rotations": torch.as_tensor(frames.rotations, dtype=self.dtype),
                "places": torch.as_tensor(places.ravel()),
            }
        return description

    def _frame_forces(self, description):
        """Return the force of each frame in the axes of the crystal, eV/angstrom."""
        density = description["density"].to(self.device)
        density_layer = torch.stack(
            [
                (density[:, part] - self.mean[part]) @ (self.whitening[part] @ weight)
                for part, weight in zip(self.mesh.parts, self.density_weight)
            ],
            dim=1,
        )
        value = self._perceptron(density_layer, description["attributes"].to(self.device))
        return torch.einsum("nji,nj->ni", description["rotations"].to(self.device), value) * self.force_scale

    @torch.no_grad()
    def predict(self, description: dict) -> torch.Tensor:
        """Return the forces, (n_centres, 3) tensor, eV/angstrom."""
        forces = self._frame_forces(description)
        if "undisplaced" in description:
            undisplaced = description["undisplaced"]
            forces = forces - self._frame_forces(undisplaced)[undisplaced["places"].to(self.device)]
        forces = forces * description["weights"].to(self.device)[:, None]
        total = torch.zeros(description["n_centres"], 3, dtype=self.dtype, device=self.device)
        return total.index_add_(0, description["centres"].to(self.device), forces)

    @torch.no_grad()
    def prepare(
        self,
        neighbourhoods: "Neighbourhoods",
        forces: NDArray,
        weight: float,
        virials: NDArray | None = None,
        virial_weight: float = 0.0,
        at_rest: "Neighbourhoods | None" = None,
    ) -> dict[str, torch.Tensor]:
        """Return whitened components and forces in every frame; see ``ForceModel.prepare``."""
        here = self.describe(neighbourhoods)
        components = torch.stack(
            [
                (here["density"][:, part].to(self.device) - self.mean[part]) @ self.whitening[part]
                for part in self.mesh.parts
            ],
            dim=1,
        )
        targets = torch.as_tensor(forces, dtype=self.dtype)[here["centres"]]
        return {
            "components": components.cpu(),
            "attributes": here["attributes"],
            "forces": torch.einsum("nij,nj->ni", here["rotations"], targets),
            "shares": here["weights"],
            "weights": here["weights"] * (weight / len(neighbourhoods)),
        }

    def collate(self, prepared: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return the batch of a list of prepared supercells, on the device of the model."""
        return {name: torch.cat([part[name] for part in prepared]).to(self.device) for name in prepared[0]}

    def loss(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the sum over atoms of the mean squared error; see ``ForceModel.loss``."""
        density_layer = torch.einsum("npc,pch->nph", batch["components"], self.density_weight)
        forces = self._perceptron(density_layer, batch["attributes"]) * self.force_scale
        square = ((forces - batch["forces"]) ** 2).mean(dim=1)
        return (square * batch["weights"]).sum(), (square.detach() * batch["shares"]).sum()
