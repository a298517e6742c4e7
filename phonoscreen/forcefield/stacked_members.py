"""All members of a committee of equivariant models in one pass, with the derivatives written out.

``EquivariantPotential`` leaves its gradient to automatic differentiation, as training needs. Prediction needs only the
gradient with respect to positions, of several members on the same atoms: what depends on positions alone (harmonics of
the wave vectors, pairs) is computed once, small cells are multiplied with the weights of all members at once, and
nothing is kept for derivatives that nobody asks for. Numbers are those of ``EquivariantPotential`` up to rounding.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy
import torch

from phonoscreen.forcefield import members_compiled as compiled
from phonoscreen.forcefield.elements import element_radii_angstrom
from phonoscreen.forcefield.long_range import SIGMA_ANGSTROM
from phonoscreen.forcefield.models.equivariant import CHARGE_SCALE, SCALED_MAX, TRIPLES
from phonoscreen.forcefield.moments import DEGREES, N_MOMENTS

if TYPE_CHECKING:
    from phonoscreen.forcefield.models.equivariant import EquivariantPotential

MEMBERS_TOGETHER = 128
"""Crystals of fewer atoms are multiplied with the weights of all members at once: larger ones leave the cache."""


class Layers:
    """The same perceptron of several models: linear layers with SiLU between them.

    Parameters
    ----------
    networks : perceptrons (``phonoscreen.forcefield.models.base.perceptron``)
    """

    def __init__(self, networks: Sequence[Any]) -> None:
        self.layers = []
        for own in zip(*([layer for layer in network if isinstance(layer, torch.nn.Linear)] for network in networks)):
            weights = torch.stack([layer.weight.detach() for layer in own])
            bias = None if own[0].bias is None else torch.stack([layer.bias.detach()[None] for layer in own])
            self.layers.append((weights, weights.mT.contiguous(), bias))

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the outputs, (n_models, n, n_out), and the slopes of the activations."""
        slopes: list[torch.Tensor] = []
        for place, (_, turned, bias) in enumerate(self.layers):
            if place:
                share = torch.sigmoid(inputs)
                slopes.append(share * (1 + inputs * (1 - share)))
                inputs = inputs * share
            inputs = inputs @ turned if bias is None else torch.baddbmm(bias, inputs, turned)
        return inputs, slopes

    def backward(self, slopes: list[torch.Tensor], gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to the inputs from that with respect to the outputs."""
        for place in range(len(self.layers) - 1, -1, -1):
            gradient = gradient @ self.layers[place][0]
            if place:
                gradient = gradient * slopes[place - 1]
        return gradient


class Waves:
    """Phases of all atoms with the wave vectors of their structures, and the energy of any charges.

    Parameters
    ----------
    batch : description with what ``phonoscreen.forcefield.long_range.describe_waves`` returns, and ``positions``
    """

    def __init__(self, batch: dict) -> None:
        self.groups: list[tuple] = []
        self.n_atoms, atom, wave = len(batch["positions"]), 0, 0
        for copies, n_atoms, n_waves in batch["wave_groups"].tolist():
            here, there = slice(atom, atom + copies * n_atoms), slice(wave, wave + n_waves)
            atom, wave = here.stop, there.stop
            waves = batch["waves"][there]
            phases = (batch["positions"][here] @ waves.T).reshape(copies, n_atoms, n_waves)
            parts = torch.cos(phases), torch.sin(phases), waves, batch["wave_weights"][there]
            self.groups.append((here, copies, [part.numpy() for part in parts]))

    def interaction(self, charges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energy, its gradients, and its derivative with respect to strain at constant charges.

        Parameters
        ----------
        charges : (n_members, n_atoms); the mean charge of each structure is subtracted

        Returns
        -------
        energy : (n_members,) eV, in double precision: a sum over all waves and structures
        of_charges : (n_members, n_atoms)
        of_positions : (n_members, n_atoms, 3), eV/angstrom
        virials : (n_members, n_structures, 3, 3), eV
        """
        members, structures = len(charges), sum(copies for _, copies, _ in self.groups)
        energy, of_charges = charges.new_zeros(members, dtype=torch.float64), torch.empty_like(charges)
        of_positions = charges.new_empty(members, self.n_atoms, 3)
        virials, begin = charges.new_empty(members, structures, 3, 3), 0
        for here, copies, waves in self.groups:
            shape, end = (members, copies, -1), begin + copies
            compiled.interact(
                charges[:, here].reshape(shape).numpy(), *waves, SIGMA_ANGSTROM, energy.numpy(),
                of_charges[:, here].view(shape).numpy(), of_positions[:, here].view(*shape, 3).numpy(),
                virials[:, begin:end].numpy(),
            )  # fmt: skip
            begin = end
        return energy, of_charges, of_positions, virials


class LocalEnergies:
    """The local energy of every atom as a function of its moments, of several models (see ``EquivariantPotential``).

    Parameters
    ----------
    members : models with the same settings
    """

    def __init__(self, members: "Sequence[EquivariantPotential]") -> None:
        first, self.channels = members[0], members[0].channels
        scale = _stack(members, "moment_scale")[:, :, None]  # (members, 16, 1, 1)
        self._first_scale = scale[:, 0]
        mixing = [_stack(members, name)[:, :, side] for name in ("product_mixing", "triple_mixing") for side in (0, 1)]
        degree = [place for place, components in enumerate(DEGREES) for _ in range(N_MOMENTS)[components]]
        self._mixing = torch.cat(mixing, dim=3)[:, degree] / scale  # (members, 16, channel, factor)
        self._contraction = (first.product_mixing.shape[-1], *_sparse_couplings(first))
        self._mean, self._scale = (_stack(members, f"invariant_{name}").numpy() for name in ("mean", "scale"))
        self._share = self._mean.shape[1] ** -0.5 / _stack(members, "invariant_change")[:, None]
        self._network = Layers([member.network for member in members])
        self._coefficients = Layers([member.coefficients for member in members])
        self._charges = Layers([member.charges for member in members]) if first.long_range else None

    def forward(self, moments: torch.Tensor, element: torch.Tensor) -> tuple[torch.Tensor, Any, dict]:
        """Return energies and charges and what ``backward`` needs.

        Parameters
        ----------
        moments : (n_models, 16, n_atoms, channels)
        element : (n_models, n_atoms, n) embedding of the element of every atom

        Returns
        -------
        (n_models, n_atoms), (n_models, n_atoms, 1) or None, and a dict
        """
        kept: dict[str, Any] = {}
        inputs, centred = self._invariants(moments, element, kept)
        context = torch.cat([element, inputs[..., : self.channels]], dim=2)
        coefficients, kept["coefficients"] = self._coefficients.forward(context)
        kept["share"], kept["factor"] = centred * self._share, coefficients * self._share
        energies, kept["network"] = self._network.forward(inputs)
        energies = energies[..., 0] + (coefficients * kept["share"]).sum(dim=2)
        if self._charges is None:
            return energies, None, kept
        charges, kept["charges"] = self._charges.forward(context)
        return energies, CHARGE_SCALE * charges, kept

    def backward(self, kept: dict, of_charges: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the sum of the energies, and of what depends on the charges, with respect to moments.

        Parameters
        ----------
        of_charges : (n_models, n_atoms, 1) gradient with respect to the charges, or None
        """
        of_context = self._coefficients.backward(kept["coefficients"], kept["share"])
        if self._charges is not None and of_charges is not None:
            of_context = of_context + self._charges.backward(kept["charges"], CHARGE_SCALE * of_charges)
        ones = torch.ones_like(of_context[..., :1])
        of_scaled = self._network.backward(kept["network"], ones)[..., : kept["slope"].shape[2]]
        of_scaled[..., : self.channels] += of_context[..., -self.channels :]
        gradient = kept["factor"] + of_scaled * kept["slope"]
        return self._of_moments(gradient, kept["mixed"])

    def _invariants(self, moments, element, kept):
        """Return the inputs of the network and the invariants without their mean, (n_models, n_atoms, ...)."""
        n_models, _, n_atoms, channels = moments.shape
        n_invariants, n_factors = self._mean.shape[1], self._mixing.shape[3]
        mixed = (self._mixing.mT @ moments.mT).permute(1, 2, 0, 3).reshape(N_MOMENTS, n_factors, -1)
        contracted = moments.new_empty(n_invariants - channels, n_models, n_atoms)
        compiled.contract(mixed.numpy(), *self._contraction, contracted.flatten(1).numpy())
        inputs = moments.new_empty(n_models, n_atoms, n_invariants + element.shape[2])
        inputs[..., n_invariants:] = element
        centred, slope = (moments.new_empty(n_models, n_atoms, n_invariants) for _ in range(2))
        compiled.standardise(
            (moments[:, 0] / self._first_scale).numpy(), contracted.numpy(), self._mean, self._scale, SCALED_MAX,
            centred.numpy(), inputs.numpy(), slope.numpy(),
        )  # fmt: skip
        kept["mixed"], kept["slope"] = mixed, slope
        return inputs, centred

    def _of_moments(self, gradient, mixed):
        """Return the gradient with respect to the moments from that with respect to the invariants."""
        n_models, n_atoms, _ = gradient.shape
        own = gradient[..., self.channels :].permute(2, 0, 1).flatten(1)
        of_mixed = torch.empty_like(mixed)
        compiled.contract_back(mixed.numpy(), *self._contraction, own.numpy(), of_mixed.numpy())
        found = (self._mixing @ of_mixed.unflatten(2, (n_models, n_atoms)).permute(2, 0, 1, 3)).mT.contiguous()
        found[:, 0] += gradient[..., : self.channels] / self._first_scale
        return found


def _sparse_couplings(model):
    """Return the couplings of the triples that do not vanish: their places (n, 4), see ``contract``, and values."""
    places, values = [], []
    for number, triple in enumerate(TRIPLES):
        couple = getattr(model, f"coupling{number}").numpy()
        where = numpy.argwhere(numpy.abs(couple) > 1e-6)  # the largest is 1
        places.append(numpy.column_stack([numpy.full(len(where), number), where + [DEGREES[l].start for l in triple]]))
        values.append(couple[tuple(where.T)])
    return numpy.ascontiguousarray(numpy.concatenate(places)), numpy.concatenate(values)


class StackedMembers:
    """Energy, forces and virials of several equivariant models of one make.

    Parameters
    ----------
    members : models with the same settings on one device; later changes of their weights do not count
    """

    @torch.no_grad()
    def __init__(self, members: "Sequence[EquivariantPotential]") -> None:
        self._members, self._cutoff = list(members), members[0].cutoff_angstrom
        self._elements = torch.stack([member.embed_elements() for member in members])
        self._together = [LocalEnergies(members)]
        self._alone = [LocalEnergies([member]) for member in members]
        self._radial_weights = lru_cache(maxsize=256)(self._radial_weights_of)

    @torch.no_grad()
    def evaluate(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energy, forces and derivative with respect to strain of every model.

        Parameters
        ----------
        batch : of ``EquivariantPotential.describe``, on the device of the models

        Returns
        -------
        energy : (n_members,) eV, up to a constant of each element
        forces : (n_members, n_atoms, 3), eV/angstrom
        virials : (n_members, n_structures, 3, 3), eV per atom
        """
        weights, turned = self._radial_weights(tuple(map(tuple, batch["kinds"].tolist())))
        pairs = [batch[name].numpy() for name in ("types", "scales")]
        arrays = (batch["offsets"].numpy(), *pairs, self._cutoff, batch["vectors"].numpy())
        n_members, n_atoms, atoms = len(self._members), len(batch["numbers"]), batch["atoms_of_structures"]
        moments = weights.new_zeros(n_members, N_MOMENTS, n_atoms, weights.shape[-1])
        compiled.project(*arrays, weights.numpy(), moments.numpy())
        waves = Waves(batch) if "waves" in batch else None
        element = self._elements.index_select(1, batch["numbers"])
        groups = self._together if n_atoms < MEMBERS_TOGETHER else self._alone
        each = zip(groups, moments.chunk(len(groups)), element.chunk(len(groups)), strict=True)
        parts = [_of_moments(*part, waves) for part in each]
        energy, gradients, forces, virials = (torch.cat(part) for part in zip(*parts, strict=True))
        if waves is None:
            virials = virials.new_zeros(n_members, len(atoms), 3, 3)
        compiled.pull_back(
            arrays[0], batch["neighbours"].numpy(), *arrays[1:], turned.numpy(), gradients.numpy(),
            torch.repeat_interleave(atoms).numpy(), forces.numpy(), virials.numpy(),
        )  # fmt: skip
        return energy, forces, virials / atoms[:, None, None]

    def _radial_weights_of(self, kinds):
        """Return the weights of the radial functions of pairs of elements, see ``project`` and ``pull_back``."""
        first = self._members[0]
        numbers = torch.tensor(kinds, device=first.device)
        scales = torch.as_tensor(element_radii_angstrom(kinds).sum(axis=1), dtype=first.dtype, device=first.device)
        own = zip(self._members, self._elements, strict=True)
        weights = torch.stack([member.radial_weights(elements, numbers, scales) for member, elements in own], dim=3)
        n_elements = round(len(weights) ** 0.5)
        turned = weights.unflatten(0, (n_elements, n_elements)).permute(0, 3, 4, 5, 1, 2)
        return weights, turned.flatten(4).contiguous()


def _of_moments(local, moments, element, waves):
    """Return energy and its gradient with respect to the moments, and forces and virials of the charges."""
    energies, charges, kept = local.forward(moments, element)
    energy = energies.double().sum(dim=1)
    if waves is None:
        forces = energies.new_zeros(*energies.shape, 3)
        return energy, local.backward(kept, None), forces, forces[:, :0]
    of_all, of_charges, slopes, virials = waves.interaction(charges[..., 0])
    return energy + of_all, local.backward(kept, of_charges[..., None]), -slopes, virials


def _stack(members, name):
    return torch.stack([getattr(member, name).detach() for member in members])
