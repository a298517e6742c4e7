"""Elemental-SDNNFF: forces directly from the elemental spatial density in nearest-neighbour frames.

Idea: Rodriguez et al., Commun. Mater. 4, 61 (2023). The paper does not publish formula, layers and optimiser; those
here are our own choices and all stand in the config section ``force_model``.
"""

import numpy
import torch

from phonoscreen.forcefield.density import DensityMesh
from phonoscreen.forcefield.elements import ATTRIBUTES, element_attributes
from phonoscreen.forcefield.frames import neighbour_frames
from phonoscreen.forcefield.model import ForceModel

CALIBRATION_FRAMES = 8192  # environments for the principal components; more do not change them
VARIANCE_FLOOR = 1e-2  # of the largest; directions with less variance are not amplified further


class ElementalSDNNFF(ForceModel):
    """Multilayer perceptron on whitened principal components of the density, in the frame of the environment.

    The density of an environment changes little under a displacement of 0.03 angstrom and much between compounds.
    Whitening by the principal components of the training set brings both to the same scale; the transformation is
    linear and fixed after calibration, so at prediction it merges with the first layer.
    """

    kind = "elemental_sdnnff"

    def __init__(self, settings):
        super().__init__(settings)
        self.mesh = DensityMesh(
            settings["cutoff_angstrom"], settings["mesh_spacing_angstrom"], settings["width_over_spacing"]
        )
        self.n_frames = settings["frames"]
        n_components = min(settings.get("components", 384), self.mesh.n_values)
        widths = [n_components + len(ATTRIBUTES), *settings["hidden"], 3]
        layers = []
        for wide, narrow in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(wide, narrow), torch.nn.SiLU()]
        self.network = torch.nn.Sequential(*layers[:-1]).to(self.dtype)
        self.register_buffer("mean", torch.zeros(self.mesh.n_values, dtype=self.dtype))
        self.register_buffer("whitening", torch.zeros(self.mesh.n_values, n_components, dtype=self.dtype))
        self.register_buffer("attribute_mean", torch.zeros(len(ATTRIBUTES), dtype=self.dtype))
        self.register_buffer("attribute_scale", torch.ones(len(ATTRIBUTES), dtype=self.dtype))
        self.register_buffer("force_scale", torch.ones((), dtype=self.dtype))

    def calibrate(self, samples, seed):
        densities, attributes, square, count = [], [], 0.0, 0
        samples = list(samples)
        order = numpy.random.default_rng(seed).permutation(len(samples))
        frames_per_sample = max(1, -(-CALIBRATION_FRAMES // max(len(samples), 1)))
        total = 0
        for place in order:
            neighbourhoods, forces = samples[place]
            square, count = square + float((forces**2).sum()), count + forces.size
            if total < CALIBRATION_FRAMES:
                density, centre_attributes, _ = self._environments(neighbourhoods)
                chosen = numpy.random.default_rng([seed, int(place)]).permutation(len(density))[:frames_per_sample]
                densities.append(density[chosen])
                attributes.append(centre_attributes[chosen])
                total += len(chosen)
        density = numpy.concatenate(densities).astype(float)
        attribute = numpy.concatenate(attributes)
        mean = density.mean(axis=0)
        density -= mean
        variance, directions = numpy.linalg.eigh(density.T @ density / len(density))
        keep = numpy.argsort(variance)[::-1][: self.whitening.shape[1]]
        scale = numpy.sqrt(numpy.clip(variance[keep], 0, None) + VARIANCE_FLOOR * variance[keep[0]])
        # the sign of an eigenvector is arbitrary: make its largest entry positive
        directions = directions[:, keep]
        directions *= numpy.sign(directions[numpy.abs(directions).argmax(axis=0), numpy.arange(len(keep))])
        self.mean.copy_(torch.as_tensor(mean))
        self.whitening.copy_(torch.as_tensor(directions / scale))
        self.attribute_mean.copy_(torch.as_tensor(attribute.mean(axis=0)))
        self.attribute_scale.copy_(torch.as_tensor(attribute.std(axis=0) + 1e-3))
        self.force_scale.fill_((square / count) ** 0.5)

    def _environments(self, neighbourhoods):
        frames = neighbour_frames(neighbourhoods, self.cutoff_angstrom, self.n_frames)
        density = self.mesh.density(neighbourhoods, frames)
        return density, element_attributes(neighbourhoods.numbers)[frames.centres], frames

    def describe(self, neighbourhoods):
        density, attributes, frames = self._environments(neighbourhoods)
        return {
            "density": torch.as_tensor(density, dtype=self.dtype),
            "attributes": torch.as_tensor(attributes, dtype=self.dtype),
            "rotations": torch.as_tensor(frames.rotations, dtype=self.dtype),
            "weights": torch.as_tensor(frames.weights, dtype=self.dtype),
            "centres": torch.as_tensor(frames.centres),
            "n_centres": len(neighbourhoods),
        }

    @torch.no_grad()
    def predict(self, description):
        here = {key: value.to(self.device) for key, value in description.items() if key != "n_centres"}
        first, *rest = self.network
        n_components = self.whitening.shape[1]
        density_weight = first.weight[:, :n_components] @ self.whitening.T
        attributes = (here["attributes"] - self.attribute_mean) / self.attribute_scale
        constant = first.bias - density_weight @ self.mean
        value = here["density"] @ density_weight.T + attributes @ first.weight[:, n_components:].T + constant
        for layer in rest:
            value = layer(value)
        forces = torch.einsum("nji,nj->ni", here["rotations"], value) * (self.force_scale * here["weights"][:, None])
        return torch.zeros(description["n_centres"], 3, dtype=self.dtype, device=self.device).index_add_(
            0, here["centres"], forces
        )

    @torch.no_grad()
    def prepare(self, neighbourhoods, forces):
        description = self.describe(neighbourhoods)
        inputs = torch.cat(
            [
                (description["density"] - self.mean) @ self.whitening,
                (description["attributes"] - self.attribute_mean) / self.attribute_scale,
            ],
            dim=1,
        )
        forces = torch.as_tensor(forces, dtype=self.dtype)[description["centres"]]
        targets = torch.einsum("nij,nj->ni", description["rotations"], forces) / self.force_scale
        return inputs, targets, description["weights"]

    def batches(self, prepared, generator, n_environments):
        inputs, targets, weights = (torch.cat(parts) for parts in zip(*prepared))
        size = n_environments * self.n_frames
        for chosen in torch.randperm(len(inputs), generator=generator).split(size):
            yield tuple(part[chosen].to(self.device) for part in (inputs, targets, weights))

    def loss(self, batch):
        inputs, targets, weights = batch
        error = ((self.network(inputs) - targets) ** 2).mean(dim=1)
        return (error * weights).sum() / weights.sum()
