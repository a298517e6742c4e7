"""What the pairs of atoms contribute to an equivariant model, computed once and kept: training sees it many times.

The moments of an atom are linear in the weights of the radial functions. What multiplies the weights, the densities

    B_i(s,n,lm) = sum_j f(r_ij) cos(2 n arctan(r_ij / s_ij)) Y_lm(r_ij / |r_ij|)    over the neighbours j of element s,

depends on positions alone, and so do the derivatives that turn a gradient with respect to them into forces. On a GPU
a step of training then has no loop over pairs that depends on a weight, no second derivative of one, and arrays of
always the same shapes, so that all members are trained at once (``phonoscreen.forcefield.together``). The loss is that
of ``EquivariantPotential.loss`` (``tests/test_forcefield_together.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

from phonoscreen.forcefield.elements import element_radii_angstrom
from phonoscreen.forcefield.long_range import SIGMA_ANGSTROM, wave_vectors
from phonoscreen.forcefield.models.equivariant import RADIAL_FUNCTIONS, EquivariantPotential, virial_errors
from phonoscreen.forcefield.moments import DEGREES, N_MOMENTS, harmonics, radial_functions
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

CHUNK = 2**19  # pairs whose derivatives are computed together


@dataclass
class Item:
    """A displaced supercell, or the strained cells of a structure, with what is known of it.

    Parameters
    ----------
    neighbourhoods : of its atoms
    forces : (n_atoms, 3), eV/angstrom
    weight : of the mean squared error of its forces, angstrom^2/eV^2
    virials : (n_structures, 3, 3), eV per atom
    virial_weight : of their squared error (``virial_errors``), 1/eV^2
    at_rest : the undisplaced primitive cell, of which the supercell is a repetition: the forces are meant relative to
        its forces; None: they are meant as they are
    """

    neighbourhoods: Neighbourhoods
    forces: NDArray
    weight: float
    virials: NDArray
    virial_weight: float
    at_rest: Neighbourhoods | None = None


def item_arrays(item: Item) -> dict[str, NDArray]:
    """Return an item as arrays; those of many items are joined along their first axis by ``Tables``."""
    own = item.neighbourhoods
    whole = own if item.at_rest is None else Neighbourhoods.concatenate([own, item.at_rest])
    n_own, n_atoms = len(own), len(whole)
    sizes = numpy.array([n_atoms_of for n_atoms_of, _ in whole.structures])
    owner = numpy.repeat(numpy.arange(len(sizes)), sizes)
    species = [numpy.unique(whole.numbers[owner == place]) for place in range(len(sizes))]
    slot_of = numpy.zeros((len(sizes), 256), dtype=numpy.int64)
    for place, present in enumerate(species):
        slot_of[place, present] = numpy.arange(len(present))
    waves = [(numpy.empty((0, 3)), numpy.empty(0)) if cell is None else wave_vectors(cell)
             for _, cell in whole.structures]  # fmt: skip
    weights, reference = numpy.zeros(n_atoms), numpy.full(n_atoms, -1)
    weights[:n_own] = item.weight / n_own
    if item.at_rest is not None:
        reference[:n_own] = n_own + numpy.arange(n_own) % len(item.at_rest)
    forces, virials = numpy.zeros((n_atoms, 3)), numpy.zeros((len(sizes), 3, 3))
    forces[:n_own], virials[: len(item.virials)] = item.forces, item.virials
    return {
        "numbers": whole.numbers, "owner": owner, "positions": whole.positions, "forces": forces, "weights": weights,
        "reference": reference, "centres": whole.centres.astype(numpy.int32),
        "neighbours": numpy.asarray(whole.neighbours, dtype=numpy.int32), "vectors": whole.vectors,
        "slots": slot_of[owner[whole.centres], whole.neighbour_numbers].astype(numpy.int8),
        "neighbour_numbers": numpy.asarray(whole.neighbour_numbers, dtype=numpy.int16),
        "sizes": sizes, "virials": virials,
        "n_waves": numpy.array([len(one) for _, one in waves]), "waves": numpy.concatenate([one for one, _ in waves]),
        "wave_weights": numpy.concatenate([one for _, one in waves]),
        "virial_share": numpy.full(len(sizes), item.virial_weight),
    }  # fmt: skip


class Tables:
    """Items on a device, in tables of atoms, pairs and structures of which a batch takes rows.

    Parameters
    ----------
    items : list of what ``item_arrays`` returns
    cutoff_angstrom : radius of the neighbourhoods
    dtype, device : of the numbers
    """

    def __init__(
        self, items: Sequence[dict[str, NDArray]], cutoff_angstrom: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.dtype, self.device = dtype, device
        joined = {name: numpy.concatenate([item[name] for item in items]) for name in items[0]}
        counts = {name: numpy.array([len(item[name]) for item in items]) for name in ("numbers", "vectors", "sizes")}
        self.counts = {"atoms": counts["numbers"], "pairs": counts["vectors"], "structures": counts["sizes"]}
        pairs_of_elements, kinds = _kinds(joined, counts)
        self.kinds = self._whole(pairs_of_elements)
        self.scales = self._numbers(element_radii_angstrom(pairs_of_elements).sum(axis=1))
        n_slots = int(joined["slots"].max(initial=0)) + 1
        self.structures = self._structures(joined)
        self.pairs = self._pairs(joined, kinds, cutoff_angstrom)
        self.atoms = self._atoms(joined, counts, kinds, n_slots)
        self.totals = {name: int(numbers.sum()) for name, numbers in self.counts.items()}
        self.starts, self.lengths = {}, {}
        for name, numbers in self.counts.items():  # the last item is empty: it fills what a batch leaves
            self.starts[name] = self._whole(numpy.concatenate([[0], numpy.cumsum(numbers)]))
            self.lengths[name] = self._whole(numpy.append(numbers, 0))

    def _numbers(self, values):
        return torch.as_tensor(numpy.asarray(values), dtype=self.dtype, device=self.device)

    def _whole(self, values):
        return torch.as_tensor(numpy.asarray(values), dtype=torch.int64, device=self.device)

    def _structures(self, joined):
        counts, n_structures = joined["n_waves"], len(joined["sizes"])
        shape = n_structures + 1, max(int(counts.max()), 1)  # the last row stands for no structure
        row = numpy.repeat(numpy.arange(n_structures), counts)
        column = numpy.arange(len(row)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
        waves, weights = numpy.zeros((*shape, 3)), numpy.zeros(shape)
        waves[row, column], weights[row, column] = joined["waves"], joined["wave_weights"]
        return {
            "waves": self._numbers(waves), "wave_weights": self._numbers(weights),
            "sizes": self._numbers(numpy.append(joined["sizes"], 1)),
            "virials": self._numbers(numpy.append(joined["virials"], numpy.zeros((1, 3, 3)), axis=0)),
            "virial_share": self._numbers(numpy.append(joined["virial_share"], 0)),
        }  # fmt: skip

    def _pairs(self, joined, kinds, cutoff):
        """Radial functions, harmonics and their derivatives of every pair; the last row stands for no pair."""
        n_pairs = len(kinds)
        table = {
            name: torch.zeros(n_pairs + 1, *shape, dtype=self.dtype, device=self.device)
            for name, shape in {
                "radial": (RADIAL_FUNCTIONS,), "steep": (RADIAL_FUNCTIONS,), "harmonics": (N_MOMENTS,),
                "tilts": (N_MOMENTS, 3), "directions": (3,), "vectors": (3,),
            }.items()
        }  # fmt: skip
        for begin in range(0, n_pairs, CHUNK):
            here = slice(begin, min(begin + CHUNK, n_pairs))
            vectors = self._numbers(joined["vectors"][here])
            scales = self.scales[self._whole(kinds[here])]
            for name, values in pair_constants(vectors, scales, cutoff).items():
                table[name][here] = values
        for name in ("centres", "neighbours", "slots"):
            table[name] = self._whole(numpy.append(joined[name], 0))
        return table

    def _atoms(self, joined, counts, kinds, n_slots):
        n_atoms = len(joined["numbers"])
        shifts = numpy.repeat(numpy.cumsum(counts["numbers"]) - counts["numbers"], counts["vectors"])
        place = self._whole((joined["centres"] + shifts) * n_slots + joined["slots"])
        densities = torch.zeros(
            (n_atoms + 1) * n_slots, RADIAL_FUNCTIONS, N_MOMENTS, dtype=self.dtype, device=self.device
        )
        for begin in range(0, len(kinds), CHUNK):
            here = slice(begin, min(begin + CHUNK, len(kinds)))
            radial, harmonic = self.pairs["radial"][here], self.pairs["harmonics"][here]
            densities.index_add_(0, place[here], radial[:, :, None] * harmonic[:, None])
        types = numpy.zeros((n_atoms + 1) * n_slots, dtype=numpy.int64)
        types[place.cpu().numpy()] = kinds
        structures = numpy.repeat(numpy.cumsum(counts["sizes"]) - counts["sizes"], counts["numbers"])
        structures = self._whole(structures + joined["owner"])
        waves, positions = self.structures["waves"], self._numbers(joined["positions"])
        phases = torch.zeros(n_atoms + 1, waves.shape[1], dtype=self.dtype, device=self.device)
        for begin in range(0, n_atoms, CHUNK // 8):
            here = slice(begin, min(begin + CHUNK // 8, n_atoms))
            phases[here] = torch.einsum("ax,awx->aw", positions[here], waves[structures[here]])
        return {
            "densities": densities.reshape(n_atoms + 1, n_slots, RADIAL_FUNCTIONS, N_MOMENTS),
            "types": self._whole(types).reshape(n_atoms + 1, n_slots),
            "numbers": self._whole(numpy.append(joined["numbers"], joined["numbers"][0])),
            "owner": self._whole(numpy.append(joined["owner"], 0)),
            "cosine": torch.cos(phases), "sine": torch.sin(phases),
            "forces": self._numbers(numpy.append(joined["forces"], numpy.zeros((1, 3)), axis=0)),
            "weights": self._numbers(numpy.append(joined["weights"], 0)),
            "reference": self._whole(numpy.append(joined["reference"], -1)),
        }  # fmt: skip

    def batch(self, items: torch.Tensor, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
        """Return the rows of some items as a batch of fixed shape; nothing is copied to or from the CPU.

        Parameters
        ----------
        items : (n_items,) int64 numbers of items on the device; ``len(self.counts["atoms"])`` stands for no item
        sizes : number of ``atoms``, ``pairs`` and ``structures`` of a batch, at least those of the items and of
            structures one more
        """
        rows, owners, begins = {}, {}, {}
        tables = {"atoms": self.atoms, "pairs": self.pairs, "structures": self.structures}
        for name, size in sizes.items():
            lengths = self.lengths[name][items]
            ends = lengths.cumsum(0)
            begins[name] = torch.cat([ends - lengths, ends[-1:]])
            places = torch.arange(size, device=self.device)
            owners[name] = torch.searchsorted(ends, places, right=True)
            first = torch.cat([self.starts[name][items], self.starts[name][-1:]])[owners[name]]
            rows[name] = (first + places - begins[name][owners[name]]).clamp(max=self.totals[name])
        batch = {name: values[rows[table]] for table, content in tables.items() for name, values in content.items()}
        first_atom = begins["atoms"][owners["pairs"]].clamp(max=sizes["atoms"] - 1)
        batch["centres"] = (batch["centres"] + first_atom).clamp(max=sizes["atoms"] - 1)
        batch["neighbours"] = (batch["neighbours"] + first_atom).clamp(max=sizes["atoms"] - 1)
        owned = owners["atoms"] < len(items)
        last = torch.full_like(owners["atoms"], sizes["structures"] - 1)
        batch["owner"] = torch.where(owned, batch["owner"] + begins["structures"][owners["atoms"]], last)
        has = (batch["reference"] >= 0) & owned
        own = torch.arange(sizes["atoms"], device=self.device)
        batch["at_rest"] = has.to(self.dtype)
        batch["reference"] = torch.where(has, batch["reference"] + begins["atoms"][owners["atoms"]], own)
        batch["item_of_structure"] = owners["structures"]
        batch["cells_of_items"] = torch.cat(
            [self.lengths["structures"][items].clamp(min=1), self.lengths["structures"][-1:] + 1]
        )
        batch["kinds"], batch["scales"] = self.kinds, self.scales
        return batch


def _kinds(joined, counts):
    """Return the kinds of pairs, (n, 2) atomic numbers, and that of every pair."""
    shifts = numpy.repeat(numpy.cumsum(counts["numbers"]) - counts["numbers"], counts["vectors"])
    centre_numbers = joined["numbers"][joined["centres"] + shifts]
    codes = centre_numbers.astype(numpy.int64) * 256 + joined["neighbour_numbers"]
    present = numpy.flatnonzero(numpy.bincount(codes, minlength=1))
    kind_of = numpy.zeros(present.max(initial=0) + 1, dtype=numpy.int64)
    kind_of[present] = numpy.arange(len(present))
    return numpy.column_stack([present // 256, present % 256]), kind_of[codes]


def pair_constants(vectors: torch.Tensor, scales: torch.Tensor, cutoff_angstrom: float) -> dict[str, torch.Tensor]:
    """Return radial functions, harmonics and their derivatives of pairs.

    Parameters
    ----------
    vectors : (n_pairs, 3), angstrom
    scales : (n_pairs,) sum of the radii of the two elements, angstrom
    cutoff_angstrom : radius of the neighbourhoods

    Returns
    -------
    dict of ``radial`` (n_pairs, n_radial) and its derivative ``steep`` with respect to the distance, ``harmonics``
    (n_pairs, 16) and their gradient ``tilts`` (n_pairs, 16, 3), ``directions`` (n_pairs, 3), and ``vectors``
    """
    distances = vectors.norm(dim=1)

    def of_distance(distance):
        return radial_functions(distance, scales, RADIAL_FUNCTIONS, cutoff_angstrom)

    ones = torch.ones_like(distances)
    radial, steep = torch.func.jvp(of_distance, (distances,), (ones,))[:2]
    tilts = []
    for along in torch.eye(3, dtype=vectors.dtype, device=vectors.device):
        tilts.append(torch.func.jvp(_of_directions, (vectors,), (along.expand_as(vectors),))[1])
    return {
        "radial": radial, "steep": steep, "harmonics": _of_directions(vectors), "tilts": torch.stack(tilts, dim=2),
        "directions": vectors / distances[:, None], "vectors": vectors,
    }  # fmt: skip


def _of_directions(vectors):
    return harmonics(vectors / vectors.norm(dim=1)[:, None])


class PrecomputedLoss(torch.nn.Module):
    """The loss of an equivariant model on a batch of ``Tables``; a module, so that members can be stacked.

    Parameters
    ----------
    model : with a long-ranged part or without
    """

    def __init__(self, model: EquivariantPotential) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the sum over the weighed atoms of the mean squared error of their force components."""
        forces, virials = self.derivatives(batch, self.model.embed_elements())
        forces = forces - forces.index_select(0, batch["reference"]) * batch["at_rest"][:, None]
        square = ((forces - batch["forces"]) ** 2).mean(dim=1)
        errors = virial_errors(virials - batch["virials"], batch["item_of_structure"], batch["cells_of_items"])
        share = errors.new_zeros(len(errors)).index_add(
            0, batch["item_of_structure"],
            batch["virial_share"] / batch["cells_of_items"].index_select(0, batch["item_of_structure"]),
        )  # fmt: skip
        weighed = (batch["weights"] > 0).to(square.dtype)
        return (square * batch["weights"]).sum() + (errors * share).sum(), (square * weighed).sum()

    def derivatives(self, batch: dict[str, torch.Tensor], elements: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return forces (n_atoms, 3) in eV/angstrom and virials (n_structures, 3, 3) in eV per atom."""
        model, densities, types = self.model, batch["densities"], batch["types"]
        weights = model.radial_weights(elements, batch["kinds"], batch["scales"])
        weights = weights.index_select(0, types.flatten()).unflatten(0, types.shape)
        element = elements.index_select(0, batch["numbers"])
        moments = torch.cat(
            [torch.einsum("asnm,asnk->amk", densities[..., degree], weights[..., place, :])
             for place, degree in enumerate(DEGREES)], dim=1,
        )  # fmt: skip

        def energy(moments):
            energies, charges = model.atomic_energies(moments, element)
            total = energies.sum()
            if not model.long_range:
                return total, (charges, charges)
            neutral = _neutral(charges, batch)
            waves = _structure_factors(neutral, batch)
            return total + ((waves[0] ** 2 + waves[1] ** 2) * batch["wave_weights"]).sum(), (neutral, waves)

        gradient, (charges, waves) = torch.func.grad(energy, has_aux=True)(moments)
        slopes = torch.cat(
            [torch.einsum("amk,asnk->asnm", gradient[:, degree], weights[..., place, :])
             for place, degree in enumerate(DEGREES)], dim=3,
        ).flatten(0, 1)  # fmt: skip
        of_pairs = slopes.index_select(0, batch["centres"] * densities.shape[1] + batch["slots"])
        radial = torch.stack([batch["radial"], batch["steep"]], dim=1)  # (n_pairs, 2, n_radial)
        along, steep = (radial @ of_pairs).unbind(dim=1)
        turn = torch.cat([batch["directions"][:, None], batch["tilts"]], dim=1)
        pull = torch.cat([(steep * batch["harmonics"]).sum(dim=1)[:, None], along], dim=1)
        pulls = (pull[:, None] @ turn)[:, 0]
        forces = pulls.new_zeros(len(batch["numbers"]), 3).index_add(0, batch["centres"], pulls)
        forces = forces.index_add(0, batch["neighbours"], -pulls)
        outer = batch["vectors"][:, :, None] * pulls[:, None]
        sizes = batch["sizes"]
        virials = pulls.new_zeros(len(sizes), 3, 3).index_add(0, batch["owner"][batch["centres"]], outer)
        if model.long_range:
            force, strain = _coulomb_derivatives(charges, waves, batch)
            forces, virials = forces + force, virials + strain
        return forces, virials / sizes[:, None, None]


def _neutral(charges, batch):
    """Charges less their mean over each structure."""
    total = charges.new_zeros(len(batch["sizes"])).index_add(0, batch["owner"], charges)
    return charges - (total / batch["sizes"]).index_select(0, batch["owner"])


def _structure_factors(charges, batch):
    """Real and imaginary part of sum_i q_i exp(i k r_i), (n_structures, n_waves) each."""
    zeros = charges.new_zeros(batch["wave_weights"].shape)
    return tuple(zeros.index_add(0, batch["owner"], charges[:, None] * batch[name]) for name in ("cosine", "sine"))


def _coulomb_derivatives(charges, waves, batch):
    """Forces and virials of the charges at constant charges (see ``phonoscreen.forcefield.long_range``)."""
    real, imaginary = waves
    weights, vectors, owner = batch["wave_weights"], batch["waves"], batch["owner"]
    turned = (weights * imaginary).index_select(0, owner) * batch["cosine"]
    turned = turned - (weights * real).index_select(0, owner) * batch["sine"]
    forces = -2 * charges[:, None] * torch.einsum("aw,awx->ax", turned, vectors[owner])
    terms = weights * (real**2 + imaginary**2)
    square = (vectors**2).sum(dim=2)
    slopes = torch.where(square > 0, 2 * (SIGMA_ANGSTROM**2 + 1 / square.clamp(min=1e-12)), torch.zeros_like(square))
    virials = torch.einsum("sw,swx,swy->sxy", terms * slopes, vectors, vectors)
    unit = torch.eye(3, dtype=terms.dtype, device=terms.device)
    return forces, virials - terms.sum(dim=1)[:, None, None] * unit
