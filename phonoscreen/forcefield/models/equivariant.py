"""An equivariant, conservative force model: an energy per atom from the moments of its neighbour density.

Local, one pass, linear in the number of atoms. Moments (``phonoscreen.forcefield.moments``) of the density around an
atom are contracted to rotational invariants of body order two to four, which a small perceptron turns into the energy
of the atom; forces are its exact gradient. They turn and mirror with the atoms, add up to zero, have a symmetric
Hessian, and vanish where symmetry demands it.

Elements enter through their attributes only: a small network maps the attributes of an element to an embedding, and
another one maps the embeddings of two elements to the radial functions of the pair. So an element with few examples
profits from its neighbours in the periodic table. The construction follows moment tensor potentials (Shapeev,
Multiscale Model. Simul. 14, 1153 (2016)) and the atomic cluster expansion (Drautz, Phys. Rev. B 99, 014104 (2019)).
"""

from collections.abc import Sequence

import numpy
import torch
from numpy.typing import NDArray

from phonoscreen.forcefield.elements import N_DESCRIPTORS, SYMBOLS, element_descriptors, element_radii_angstrom
from phonoscreen.forcefield.long_range import (
    coulomb_energy,
    coulomb_virials,
    describe_matrices,
    describe_waves,
    matrix_interaction,
)
from phonoscreen.forcefield.models.base import ForceModel, perceptron, to_device
from phonoscreen.forcefield.moments import (
    DEGREES,
    Pairs,
    coupling_coefficients,
    neighbour_moments,
    pair_gradients,
)
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

CALIBRATION_SUPERCELLS, CALIBRATION_MOVE_ANGSTROM = 256, 0.02
SCALE_FLOOR = 0.1  # of the median spread: what vanishes by symmetry in most crystals has no scale of its own
SCALED_MAX = 5.0  # what is further from the mean than this many spreads is hardly told apart
RADIAL_FUNCTIONS = 10
EMBEDDING, EMBEDDING_HIDDEN = 12, 16
SMALL_BEGINNING = 0.05
MEAN_STRESS_SHARE = 0.1  # in the loss. An error of the lattice constant is the mean; where it is large, softer
# crystals have smaller errors of the stress, so that a full share would teach small elastic constants
CHARGE_HIDDEN, CHARGE_SCALE = 16, 2.0
PRODUCTS, TRIPLE_PRODUCTS = 32, 8  # invariants of two moments for each degree, of three for each of ...
MEAN_SCALE_ANGSTROM = 2.8  # of the sum of two radii
TRIPLES = ((1, 1, 2), (2, 2, 2), (1, 2, 3), (2, 3, 3))


class EquivariantPotential(ForceModel):
    """Strictly local many-body potential.

    Settings: ``channels`` of the radial functions, ``hidden`` layers of the energy, ``cutoff_angstrom``.
    """

    kind = "equivariant"
    descriptors: torch.Tensor
    moment_scale: torch.Tensor
    invariant_mean: torch.Tensor
    invariant_scale: torch.Tensor
    invariant_change: torch.Tensor

    def __init__(self, settings: dict) -> None:
        super().__init__(settings)
        self.channels, self.long_range = settings["channels"], settings["long_range"]
        wide = settings.get("element_hidden", 32)  # models stored before it was a setting have 32
        numbers = sorted(SYMBOLS)
        descriptors = torch.zeros(max(numbers) + 1, N_DESCRIPTORS, dtype=self.dtype)
        descriptors[numbers] = torch.as_tensor(element_descriptors(numbers), dtype=self.dtype)
        self.register_buffer("descriptors", descriptors, persistent=False)
        n_outputs = RADIAL_FUNCTIONS * len(DEGREES) * self.channels
        self.embedding = perceptron([N_DESCRIPTORS, EMBEDDING_HIDDEN, EMBEDDING], self.dtype)
        self.radial = perceptron([2 * EMBEDDING + 1, wide, n_outputs], self.dtype)
        self.product_mixing = self._mixing(PRODUCTS)
        self.triple_mixing = self._mixing(TRIPLE_PRODUCTS)
        for number, triple in enumerate(TRIPLES):
            self.register_buffer(f"coupling{number}", coupling_coefficients(*triple).to(self.dtype), persistent=False)
        n_invariants = self.channels + len(DEGREES) * PRODUCTS + len(TRIPLES) * TRIPLE_PRODUCTS
        self.network = perceptron([n_invariants + EMBEDDING, *settings["hidden"], 1], self.dtype, bias_of_last=False)
        self.coefficients = perceptron([EMBEDDING + self.channels, wide, n_invariants], self.dtype)
        if self.long_range:
            self.charges = perceptron([EMBEDDING + self.channels, CHARGE_HIDDEN, 1], self.dtype)
        with torch.no_grad():  # begins with forces that are small: what is wrong in size is learned last
            for network in (self.network, self.coefficients):
                network[-1].get_parameter("weight").mul_(SMALL_BEGINNING)
            self.coefficients[-1].get_parameter("bias").mul_(SMALL_BEGINNING)
        self.register_buffer("moment_scale", torch.ones(16, 1, dtype=self.dtype))
        self.register_buffer("invariant_mean", torch.zeros(n_invariants, dtype=self.dtype))
        self.register_buffer("invariant_scale", torch.ones(n_invariants, dtype=self.dtype))
        self.register_buffer("invariant_change", torch.ones(n_invariants, dtype=self.dtype))

    def _mixing(self, outputs):
        """Return two matrices per degree that mix the channels of the moments."""
        shape = len(DEGREES), 2, self.channels, outputs
        return torch.nn.Parameter(torch.randn(*shape, dtype=self.dtype) * self.channels**-0.5)

    @torch.no_grad()
    def calibrate(self, samples: Sequence[tuple[Neighbourhoods, NDArray]], seed: int) -> None:
        """Set scale of the moments, and mean, scale and change of the invariants, from a part of the training set."""
        chosen = numpy.random.default_rng(seed).permutation(len(samples))[:CALIBRATION_SUPERCELLS]
        batch = self.collate([self.prepare(samples[place][0], samples[place][1], 1.0) for place in chosen])
        elements = self.embed_elements()
        moments = neighbour_moments(*self._pair_inputs(batch, elements))
        for degree in DEGREES:
            self.moment_scale[degree] = (moments[:, degree] ** 2).mean().sqrt()
        invariants = self._invariants(moments)
        self.invariant_mean.copy_(invariants.mean(dim=0))
        spread = invariants.std(dim=0)
        self.invariant_scale.copy_(torch.maximum(spread, SCALE_FLOOR * spread.median()))
        drawn = numpy.random.default_rng([seed, 1]).normal(size=(len(moments), 3)) * CALIBRATION_MOVE_ANGSTROM
        weights, vectors, pairs = self._pair_inputs(batch, elements)
        moves = torch.as_tensor(drawn, dtype=self.dtype, device=self.device)
        moved = neighbour_moments(weights, vectors + moves[pairs.neighbours] - moves[pairs.centres], pairs)
        change = (self._invariants(moved) - invariants) / CALIBRATION_MOVE_ANGSTROM
        self.invariant_change.copy_((change**2).mean(dim=0).sqrt() + 1e-6)

    def describe(self, neighbourhoods: Neighbourhoods, undisplaced: Neighbourhoods | None = None) -> dict:
        """Return pairs, kinds of pairs and, with a long-ranged part, wave vectors; see ``ForceModel.describe``."""
        element_descriptors(neighbourhoods.numbers)  # refuses unknown elements
        species, slots = numpy.unique(neighbourhoods.numbers, return_inverse=True)
        slot_of = numpy.zeros(256, dtype=numpy.int32)
        slot_of[species] = numpy.arange(len(species))
        types = slots[neighbourhoods.centres] * len(species) + slot_of[neighbourhoods.neighbour_numbers]
        first, second = numpy.repeat(species, len(species)), numpy.tile(species, len(species))
        description: dict = {
            "vectors": torch.as_tensor(neighbourhoods.vectors, dtype=self.dtype),
            "offsets": torch.as_tensor(neighbourhoods.offsets),
            "neighbours": torch.as_tensor(neighbourhoods.neighbours, dtype=torch.int32),
            "types": torch.as_tensor(types, dtype=torch.int32),
            "kinds": torch.as_tensor(numpy.column_stack([first, second])),
            "scales": torch.as_tensor(element_radii_angstrom(first) + element_radii_angstrom(second), dtype=self.dtype),
            "numbers": torch.as_tensor(neighbourhoods.numbers),
            "atoms_of_structures": torch.tensor([n_atoms for n_atoms, _ in neighbourhoods.structures]),
        }
        if self.long_range:
            description |= describe_waves(neighbourhoods.structures, self.dtype)
            description["positions"] = torch.as_tensor(neighbourhoods.positions, dtype=self.dtype)
        if undisplaced is not None:
            description["undisplaced"] = self.describe(undisplaced)
        return description

    def embed_elements(self) -> torch.Tensor:
        """Return the learned numbers of every element, (84, n); rows without an element have no meaning."""
        return self.embedding(self.descriptors)

    def radial_weights(self, elements: torch.Tensor, kinds: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """Return the weights of the radial functions, (n_kinds, n_radial, 4, channels).

        Parameters
        ----------
        elements : of ``embed_elements``
        kinds : (n_kinds, 2) atomic numbers of centre and neighbour
        scales : (n_kinds,) sum of their radii, angstrom
        """
        first, second = (elements.index_select(0, numbers) for numbers in kinds.unbind(dim=1))
        weights = self.radial(torch.cat([first, second, scales[:, None] - MEAN_SCALE_ANGSTROM], dim=1))
        return weights.reshape(len(weights), RADIAL_FUNCTIONS, len(DEGREES), self.channels)

    def _pair_inputs(self, batch, elements):
        """Return weights of the radial functions, vectors and pairs (see ``neighbour_moments``)."""
        weights = self.radial_weights(elements, batch["kinds"], batch["scales"])
        counts = batch["offsets"].diff()
        pairs = Pairs(
            batch["offsets"], torch.repeat_interleave(counts), batch["neighbours"], batch["types"], batch["scales"],
            self.cutoff_angstrom,
        )  # fmt: skip
        return weights, batch["vectors"], pairs

    def _invariants(self, moments):
        """Return the scalar contractions of the moments, (n_atoms, n_invariants)."""
        parts = [moments[:, degree] / self.moment_scale[degree] for degree in DEGREES]
        invariants = [parts[0][:, 0]]
        for part, (left, right) in zip(parts, self.product_mixing):
            invariants.append(((part @ left) * (part @ right)).sum(dim=1) * part.shape[1] ** -0.5)
        mixed = [(part @ left, part @ right) for part, (left, right) in zip(parts, self.triple_mixing)]
        for number, (first, second, third) in enumerate(TRIPLES):
            couple = getattr(self, f"coupling{number}").flatten(end_dim=1).T
            outer = (mixed[first][0][:, :, None] * mixed[second][1][:, None]).flatten(1, 2)
            invariants.append(((couple @ outer) * mixed[third][0]).sum(dim=1))
        return torch.cat(invariants, dim=1)

    def atomic_energies(self, moments: torch.Tensor, element: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the local energy of every atom, eV, and its charge (no numbers without a long-ranged part).

        The energy is a perceptron of all invariants and a sum of them. The coefficients of the sum, and the charge,
        depend on the element and on the scalar moments. The perceptron sees differences between compounds; the sum is
        scaled by how much each invariant changes under small moves, so that the small changes that make the forces are
        learned as easily.
        """
        centred = self._invariants(moments) - self.invariant_mean
        scaled = centred / self.invariant_scale
        scaled = scaled * (1 + (scaled / SCALED_MAX) ** 2) ** -0.5
        context = torch.cat([element, scaled[:, : self.channels]], dim=1)
        linear = (self.coefficients(context) * centred / self.invariant_change).sum(dim=1) * centred.shape[1] ** -0.5
        charges = CHARGE_SCALE * self.charges(context)[:, 0] if self.long_range else linear.new_zeros(0)
        return linear + self.network(torch.cat([scaled, element], dim=1))[:, 0], charges

    def _forces(self, batch):
        return self._derivatives(batch, False)[1]

    def _derivatives(self, batch, with_virials=True):
        """Return the energy, minus its gradient, and its derivative with respect to strain over the atoms.

        Differentiable with respect to the weights where gradients are enabled.

        Returns
        -------
        energy : of all atoms, eV
        forces : (n_atoms, 3), eV/angstrom
        virials : (n_structures, 3, 3), eV per atom, or None
        """
        training, by_matrices = torch.is_grad_enabled(), "charge_matrices" in batch
        elements = self.embed_elements()
        weights, vectors, pairs = self._pair_inputs(batch, elements)
        moments = neighbour_moments(weights, vectors, pairs)
        with torch.enable_grad():
            inputs = [moments if training else moments.requires_grad_(True)]
            energies, charges = self.atomic_energies(moments, elements.index_select(0, batch["numbers"]))
            total = energies.sum()
            if by_matrices:
                energy, slopes, strain = matrix_interaction(charges, batch)
                total = total + energy
            elif self.long_range:
                inputs.append(batch["positions"].detach().requires_grad_(True))
                total = total + coulomb_energy(charges, inputs[1], batch)
            gradients = torch.autograd.grad(total, inputs, create_graph=training, materialize_grads=True)
        energy_ev = energies.double().sum() + (total - energies.sum())  # single precision adds up short terms alone
        of_vectors = pair_gradients(weights, vectors, gradients[0], pairs)
        forces = of_vectors.new_zeros(len(batch["numbers"]), 3).index_add(0, pairs.centres, of_vectors)
        forces = forces.index_add(0, pairs.neighbours, -of_vectors)
        if self.long_range:
            forces = forces - (slopes if by_matrices else gradients[1])
        if not with_virials:
            return energy_ev, forces, None
        atoms = batch["atoms_of_structures"]
        ends = batch["offsets"][torch.cat([atoms.new_zeros(1), atoms.cumsum(0)])].diff().tolist()
        parts = zip(vectors.split(ends), of_vectors.split(ends), strict=True)
        virials = torch.stack([part.T @ gradient for part, gradient in parts])
        if by_matrices:
            virials = virials.index_add(0, torch.repeat_interleave(atoms), strain)
        elif self.long_range:
            virials = virials + coulomb_virials(charges, batch["positions"], batch)
        return energy_ev, forces, virials / atoms[:, None, None]

    @torch.no_grad()
    def energy(self, description: dict) -> float:
        """Return the energy of all atoms, eV, up to a constant of each element."""
        batch = to_device(description, self.device)
        elements = self.embed_elements()
        moments = neighbour_moments(*self._pair_inputs(batch, elements))
        energies, charges = self.atomic_energies(moments, elements.index_select(0, batch["numbers"]))
        total = energies.double().sum()
        return float(total + coulomb_energy(charges, batch["positions"], batch) if self.long_range else total)

    @torch.no_grad()
    def evaluate(self, description: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ``energy``, forces (n_atoms, 3) in eV/angstrom and ``virials`` in one pass."""
        return self._derivatives(to_device(description, self.device))

    @torch.no_grad()
    def virials(self, description: dict) -> torch.Tensor:
        """Return the derivative of the energy with respect to strain, (n_structures, 3, 3) tensor, eV per atom.

        The stress of a crystal, positive under tension, is this times the number of atoms over the volume.
        """
        return self._derivatives(to_device(description, self.device))[2]

    @torch.no_grad()
    def predict(self, description: dict) -> torch.Tensor:
        """Return the forces, (n_centres, 3) tensor, eV/angstrom."""
        batch = to_device(description, self.device)
        forces = self._forces(batch)
        if "undisplaced" in batch:
            at_rest = self._forces(batch["undisplaced"])
            forces = forces - at_rest.repeat(len(forces) // len(at_rest), 1)
        return forces

    def prepare(
        self,
        neighbourhoods: Neighbourhoods,
        forces: NDArray,
        weight: float,
        virials: NDArray | None = None,
        virial_weight: float = 0.0,
        at_rest: Neighbourhoods | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return description, targets and weights, the long-ranged part as matrices; see ``ForceModel.prepare``.

        The cell at rest stands behind the atoms of the supercell, with no weight of its own; ``rest`` names the atom
        whose force is subtracted, and ``relative`` is 1 where it is.
        """
        places = torch.arange(len(neighbourhoods))
        weights = torch.full((len(places),), weight / len(places), dtype=self.dtype)
        targets, relative = torch.as_tensor(forces, dtype=self.dtype), torch.zeros_like(weights)
        if at_rest is not None:
            behind = torch.arange(len(at_rest)) + len(places)
            places = torch.cat([behind.repeat(len(places) // len(behind)), behind])
            relative = torch.cat([torch.ones_like(weights), weights.new_zeros(len(behind))])
            weights = torch.cat([weights, weights.new_zeros(len(behind))])
            targets = torch.cat([targets, targets.new_zeros(len(behind), 3)])
            neighbourhoods = Neighbourhoods.concatenate([neighbourhoods, at_rest])
            virials = virials if virials is None else numpy.concatenate([virials, numpy.zeros((1, 3, 3))])
        prepared = {**self.describe(neighbourhoods), "forces": targets, "weights": weights}
        prepared |= {"rest": places, "relative": relative}
        if self.long_range:
            for name in ("wave_groups", "waves", "wave_weights", "positions"):
                del prepared[name]
            prepared |= describe_matrices(neighbourhoods.structures, neighbourhoods.positions, self.dtype)
        if virials is not None:
            prepared["virials"] = torch.as_tensor(virials, dtype=self.dtype)
            prepared["virial_weights"] = torch.tensor([virial_weight], dtype=self.dtype)
            prepared["virial_counts"] = torch.tensor([len(virials)])
        return prepared

    def collate(self, prepared: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return the batch of a list of prepared supercells, on the device of the model."""
        batch = {name: [part[name] for part in prepared] for name in prepared[0]}
        shifts = (("offsets", "neighbours"), ("neighbours", "numbers"), ("types", "kinds"), ("rest", "numbers"))
        for name, shifted_by in shifts:
            shift = 0
            for place, part in enumerate(prepared):
                values = part[name][1:] if name == "offsets" and place else part[name]
                batch[name][place] = values + shift
                shift += len(part[shifted_by])
        return {name: torch.cat(parts).to(self.device) for name, parts in batch.items()}

    def loss(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the sum over atoms of the mean squared error; see ``ForceModel.loss``."""
        _, forces, virials = self._derivatives(batch, "virials" in batch)
        forces = forces - batch["relative"][:, None] * forces.index_select(0, batch["rest"])
        square = ((forces - batch["forces"]) ** 2).mean(dim=1)
        loss = (square * batch["weights"]).sum()
        if virials is not None:
            counts = batch["virial_counts"]
            errors = virial_errors(virials - batch["virials"], torch.repeat_interleave(counts), counts)
            loss = loss + (errors * batch["virial_weights"]).sum()
        return loss, square.detach()[batch["weights"] > 0].sum()


def virial_errors(errors: torch.Tensor, owner: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return a squared error of the virials of each structure: of their differences, and a share of their mean's.

    Parameters
    ----------
    errors : (n_cells, 3, 3) of the cells of all structures
    owner : (n_cells,) the structure of each cell
    counts : (n_structures,) cells of each
    """
    mean = errors.new_zeros(len(counts), 3, 3).index_add(0, owner, errors) / counts[:, None, None]
    spread = ((errors - mean.index_select(0, owner)) ** 2).mean(dim=(1, 2))
    spread = spread.new_zeros(len(counts)).index_add(0, owner, spread) / counts
    return spread + MEAN_STRESS_SHARE * (mean**2).mean(dim=(1, 2))
