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
            weights = torch.stack([layer.weight.detach().T.contiguous() for layer in own])
            bias = None if own[0].bias is None else torch.stack([layer.bias.detach()[None] for layer in own])
            self.layers.append((weights, bias))

    def forward(self, some: slice, inputs: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the outputs of some models, (n_models, n, n_out), and the slopes of their activations."""
        slopes: list[torch.Tensor] = []
        for place, (weights, bias) in enumerate(self.layers):
            if place:
                share = torch.sigmoid(inputs)
                slopes.append(share * (1 + inputs * (1 - share)))
                inputs = inputs * share
            inputs = inputs @ weights[some] if bias is None else torch.baddbmm(bias[some], inputs, weights[some])
        return inputs, slopes

    def backward(self, some: slice, slopes: list[torch.Tensor], gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to the inputs from that with respect to the outputs."""
        for place in range(len(self.layers) - 1, -1, -1):
            gradient = gradient @ self.layers[place][0][some].mT
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
            self.groups.append((here, waves, batch["wave_weights"][there], torch.cos(phases), torch.sin(phases)))

    def interaction(self, charges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return energy, its gradients, and its derivative with respect to strain at constant charges.

        Parameters
        ----------
        charges : (n_members, n_atoms); the mean charge of each structure is subtracted

        Returns
        -------
        energy : (n_members,) eV
        of_charges : (n_members, n_atoms)
        of_positions : (n_members, n_atoms, 3), eV/angstrom
        virials : (n_members, n_structures, 3, 3), eV
        """
        members = len(charges)
        energy, of_charges = charges.new_zeros(members), torch.zeros_like(charges)
        of_positions, virials = charges.new_zeros(members, self.n_atoms, 3), []
        for here, waves, weights, cosine, sine in self.groups:
            copies, n_atoms, n_waves = cosine.shape
            if not n_waves:
                virials.append(charges.new_zeros(members, copies, 3, 3))
                continue
            own = charges[:, here].reshape(members, copies, n_atoms).transpose(0, 1)
            own = own - own.mean(dim=2, keepdim=True)
            along, across = own @ cosine, own @ sine  # structure factors (copies, members, n_waves)
            terms = (along**2 + across**2) * weights
            energy += terms.sum(dim=(0, 2))
            along, across = 2 * weights * along, 2 * weights * across
            potential = along @ cosine.mT + across @ sine.mT
            potential = potential - potential.mean(dim=2, keepdim=True)
            of_charges[:, here] = potential.transpose(0, 1).reshape(members, -1)
            fields = across[:, :, None] * cosine[:, None] - along[:, :, None] * sine[:, None]
            fields = (fields @ waves) * own[..., None]
            of_positions[:, here] = fields.transpose(0, 1).reshape(members, -1, 3)
            slopes = 2 * (SIGMA_ANGSTROM**2 + 1 / (waves**2).sum(dim=1))
            tensors = ((slopes[:, None] * waves)[:, :, None] * waves[:, None]).flatten(1)
            unit = torch.eye(3, dtype=terms.dtype, device=terms.device)
            strain = (terms @ tensors).reshape(copies, members, 3, 3) - terms.sum(dim=2)[..., None, None] * unit
            virials.append(strain.transpose(0, 1))
        return energy, of_charges, of_positions, torch.cat(virials, dim=1)


class LocalEnergies:
    """The local energy of every atom as a function of its moments, of several models (see ``EquivariantPotential``).

    Parameters
    ----------
    members : models with the same settings
    """

    def __init__(self, members: "Sequence[EquivariantPotential]") -> None:
        first, self.channels = members[0], members[0].channels
        scale = _stack(members, "moment_scale")[:, [degree.start for degree in DEGREES], 0]
        self._first_scale = scale[:, 0, None, None]
        mixing = [_stack(members, name)[:, :, side] for name in ("product_mixing", "triple_mixing") for side in (0, 1)]
        self._mixing = torch.cat(mixing, dim=3) / scale[:, :, None, None]  # (members, degree, channel, factor)
        self._contraction = (first.product_mixing.shape[-1], *_sparse_couplings(first))
        self._mean, self._scale, self._change = (
            _stack(members, f"invariant_{name}")[:, None] for name in ("mean", "scale", "change")
        )
        self._network = Layers([member.network for member in members])
        self._coefficients = Layers([member.coefficients for member in members])
        self._charges = Layers([member.charges for member in members]) if first.long_range else None

    def forward(self, some: slice, moments: torch.Tensor, element: torch.Tensor) -> tuple[torch.Tensor, Any, dict]:
        """Return the energies and charges of some models and what ``backward`` needs.

        Parameters
        ----------
        some : slice of the models
        moments : (n_models, n_atoms, 16, channels)
        element : (n_models, n_atoms, n) embedding of the element of every atom

        Returns
        -------
        (n_models, n_atoms), (n_models, n_atoms, 1) or None, and a dict
        """
        kept: dict[str, Any] = {}
        invariants, kept["mixed"] = self._invariants(some, moments)
        centred = invariants - self._mean[some]
        scaled = centred / self._scale[some]
        shrink = torch.rsqrt(1 + (scaled / SCALED_MAX) ** 2)
        scaled, kept["shrink"] = scaled * shrink, shrink
        context = torch.cat([element, scaled[..., : self.channels]], dim=2)
        coefficients, kept["coefficients"] = self._coefficients.forward(some, context)
        kept["share"] = centred / self._change[some] * centred.shape[2] ** -0.5
        kept["factor"] = coefficients / self._change[some] * centred.shape[2] ** -0.5
        energies, kept["network"] = self._network.forward(some, torch.cat([scaled, element], dim=2))
        energies = energies[..., 0] + (coefficients * kept["share"]).sum(dim=2)
        if self._charges is None:
            return energies, None, kept
        charges, kept["charges"] = self._charges.forward(some, context)
        return energies, CHARGE_SCALE * charges, kept

    def backward(self, some: slice, kept: dict, of_charges: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the sum of the energies, and of what depends on the charges, with respect to moments.

        Parameters
        ----------
        of_charges : (n_models, n_atoms, 1) gradient with respect to the charges, or None
        """
        of_context = self._coefficients.backward(some, kept["coefficients"], kept["share"])
        if self._charges is not None and of_charges is not None:
            of_context = of_context + self._charges.backward(some, kept["charges"], CHARGE_SCALE * of_charges)
        ones = torch.ones_like(of_context[..., :1])
        of_scaled = self._network.backward(some, kept["network"], ones)[..., : kept["shrink"].shape[2]]
        of_scaled[..., : self.channels] += of_context[..., -self.channels :]
        return self._of_moments(
            some, kept["mixed"], kept["factor"] + of_scaled * kept["shrink"] ** 3 / self._scale[some]
        )

    def _invariants(self, some, moments):
        """Return the scalar contractions of the moments, (n_models, n_atoms, n_invariants), and the mixed moments."""
        n_models, n_atoms = moments.shape[:2]
        mixed = torch.cat(
            [(self._mixing[some, place].mT @ moments[:, :, degree].permute(0, 3, 2, 1).flatten(2))
             .unflatten(2, (-1, n_atoms)) for place, degree in enumerate(DEGREES)], dim=2,
        )  # fmt: skip
        found = moments.new_zeros(n_models, self._mean.shape[2] - self.channels, n_atoms)
        compiled.contract(mixed.numpy(), *self._contraction, found.numpy())
        return torch.cat([moments[:, :, 0] / self._first_scale[some], found.mT], dim=2), mixed

    def _of_moments(self, some, mixed, gradient):
        """Return the gradient with respect to the moments from that with respect to the invariants."""
        of_mixed = torch.zeros_like(mixed)
        own = gradient[..., self.channels :].mT.contiguous().numpy()
        compiled.contract_back(mixed.numpy(), *self._contraction, own, of_mixed.numpy())
        found = torch.cat(
            [(self._mixing[some, place] @ of_mixed[:, :, degree].flatten(2)).unflatten(2, (-1, mixed.shape[3]))
             for place, degree in enumerate(DEGREES)], dim=2,
        ).permute(0, 3, 2, 1).contiguous()  # fmt: skip
        found[:, :, 0] += gradient[..., : self.channels] / self._first_scale[some]
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
        self._local = LocalEnergies(members)
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
        moments = weights.new_zeros(n_members, n_atoms, N_MOMENTS, weights.shape[-1])
        compiled.project(*arrays, weights.numpy(), moments.numpy())
        waves = Waves(batch) if "waves" in batch else None
        together = n_members if n_atoms < MEMBERS_TOGETHER else 1
        element = self._elements.index_select(1, batch["numbers"])
        parts = [self._of_moments(slice(begin, begin + together), moments, element, waves)
                 for begin in range(0, n_members, together)]  # fmt: skip
        energy, gradients, forces, virials = (torch.cat(part) for part in zip(*parts, strict=True))
        if waves is None:
            virials = virials.new_zeros(n_members, len(atoms), 3, 3)
        compiled.pull_back(
            arrays[0], batch["neighbours"].numpy(), *arrays[1:], turned.numpy(), gradients.numpy(),
            torch.repeat_interleave(atoms).numpy(), forces.numpy(), virials.numpy(),
        )  # fmt: skip
        return energy, forces, virials / atoms[:, None, None]

    def _of_moments(self, some, moments, element, waves):
        """Return energy and its gradient with respect to the moments, and forces and virials of the charges."""
        energies, charges, kept = self._local.forward(some, moments[some], element[some])
        energy = energies.double().sum(dim=1)
        if waves is None:
            forces = energies.new_zeros(*energies.shape, 3)
            return energy, self._local.backward(some, kept, None), forces, forces[:, :0]
        of_all, of_charges, slopes, virials = waves.interaction(charges[..., 0])
        return energy + of_all, self._local.backward(some, kept, of_charges[..., None]), -slopes, virials

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


def _stack(members, name):
    return torch.stack([getattr(member, name).detach() for member in members])
