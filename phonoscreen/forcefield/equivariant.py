"""An equivariant, conservative force model on the same element-weighted neighbour density.

The neighbour density of an atom is projected on radial functions times Cartesian moments of rank 0 to 3, as in moment
tensor potentials (Shapeev, Multiscale Model. Simul. 14, 1153 (2016)) and the atomic cluster expansion (Drautz, Phys.
Rev. B 99, 014104 (2019)). Elements enter through their attributes, so that an element with few examples profits from
its neighbours in the periodic table. Scalar contractions of the moments give an energy per atom; forces are its exact
gradient, so they turn with the atoms, add up to zero, and vanish where symmetry demands it.
"""

import numpy
import torch

from phonoscreen.forcefield.elements import ATTRIBUTES, element_attributes
from phonoscreen.forcefield.model import ForceModel

RADIAL_FUNCTIONS = 10
CALIBRATION_SUPERCELLS = 64

# Independent components of symmetric tensors of rank 0 to 3 and how often each occurs in the full tensor.
_INDICES = [
    [()],
    [(0,), (1,), (2,)],
    [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)],
    [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1), (0, 1, 2), (0, 2, 2), (1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)],
]
_SLICES = [slice(0, 1), slice(1, 4), slice(4, 10), slice(10, 20)]


class EquivariantPotential(ForceModel):
    """Strictly local many-body potential from Cartesian moments.

    Settings: ``channels`` of the density, ``hidden`` layers of the energy, ``cutoff_angstrom``.
    """

    kind = "equivariant"

    def __init__(self, settings):
        super().__init__(settings)
        channels, n_attributes = settings["channels"], len(ATTRIBUTES)
        self.radial = torch.nn.Linear(RADIAL_FUNCTIONS, channels, bias=False, dtype=self.dtype)
        self.neighbour_element = torch.nn.Linear(n_attributes, channels, bias=False, dtype=self.dtype)
        self.centre_element = torch.nn.Linear(n_attributes, channels, dtype=self.dtype)
        self.mixing = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(2, channels, channels, dtype=self.dtype) * channels**-0.5) for _ in range(4)
        )
        n_invariants = 7 * channels
        widths = [n_invariants + n_attributes, *settings["hidden"]]
        layers = []
        for wide, narrow in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(wide, narrow, dtype=self.dtype), torch.nn.SiLU()]
        self.network = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1, dtype=self.dtype))
        indices = [[*index, 3, 3, 3][:3] for rank in _INDICES for index in rank]
        self.register_buffer("powers", torch.tensor(indices), persistent=False)
        full = [_full_tensor(rank) for rank in range(4)]
        self.register_buffer("rank_two", full[2].to(self.dtype), persistent=False)
        self.register_buffer("rank_three", full[3].to(self.dtype), persistent=False)
        self.register_buffer("invariant_mean", torch.zeros(n_invariants, dtype=self.dtype))
        self.register_buffer("invariant_scale", torch.ones(n_invariants, dtype=self.dtype))
        self.register_buffer("attribute_mean", torch.zeros(n_attributes, dtype=self.dtype))
        self.register_buffer("attribute_scale", torch.ones(n_attributes, dtype=self.dtype))
        self.register_buffer("neighbour_count", torch.ones((), dtype=self.dtype))
        self.register_buffer("force_scale", torch.ones((), dtype=self.dtype))

    @torch.no_grad()
    def calibrate(self, samples, seed):
        square = sum(float((forces**2).sum()) for _, forces in samples)
        self.force_scale.fill_((square / sum(forces.size for _, forces in samples)) ** 0.5)
        chosen = numpy.random.default_rng(seed).permutation(len(samples))[:CALIBRATION_SUPERCELLS]
        described = [self.describe(samples[place][0]) for place in chosen]
        attributes = torch.cat([description["attributes"] for description in described])
        self.attribute_mean.copy_(attributes.mean(dim=0))
        self.attribute_scale.copy_(attributes.std(dim=0) + 1e-3)
        self.neighbour_count.fill_(float(numpy.mean([description["n_neighbours"] for description in described])))
        invariants = torch.cat([self._invariants(**_graph(description)) for description in described])
        self.invariant_mean.copy_(invariants.mean(dim=0))
        self.invariant_scale.copy_(invariants.std(dim=0) + 1e-6)

    def describe(self, neighbourhoods, undisplaced=None):
        inside = (neighbourhoods.vectors**2).sum(axis=1) < self.cutoff_angstrom**2
        centres = neighbourhoods.centres[inside]
        counts = numpy.bincount(centres, minlength=len(neighbourhoods))
        places = numpy.arange(len(centres)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
        shape = len(neighbourhoods), max(int(counts.max(initial=0)), 1)
        # an empty place holds the atom itself at the cutoff, where every weight and its slope are zero
        vectors = numpy.tile([self.cutoff_angstrom, 0.0, 0.0], (*shape, 1))
        vectors[centres, places] = neighbourhoods.vectors[inside]
        neighbours = numpy.tile(numpy.arange(shape[0])[:, None], (1, shape[1]))
        neighbours[centres, places] = neighbourhoods.neighbours[inside]
        description = {
            "vectors": torch.as_tensor(vectors, dtype=self.dtype),
            "neighbours": torch.as_tensor(neighbours),
            "attributes": torch.as_tensor(element_attributes(neighbourhoods.numbers), dtype=self.dtype),
            "n_neighbours": float(counts.mean()),
        }
        if undisplaced is not None:
            description["undisplaced"] = self.describe(undisplaced)
        return description

    def _invariants(self, vectors, neighbours, attributes):
        """Return the scalar contractions of the moments, (n_atoms, 7 * channels)."""
        distance = vectors.norm(dim=-1)
        reduced = distance / self.cutoff_angstrom
        smooth = (0.5 * (1 + torch.cos(torch.pi * reduced))) ** 2
        order = torch.arange(1, RADIAL_FUNCTIONS + 1, dtype=self.dtype, device=vectors.device)
        radial = torch.sin(torch.pi * order * reduced[..., None]) / reduced[..., None] * smooth[..., None]
        weights = self.radial(radial) * self.neighbour_element(attributes)[neighbours]
        direction = vectors / distance[..., None]
        extended = torch.cat([direction, torch.ones_like(distance)[..., None]], dim=-1)
        shapes = extended[..., self.powers].prod(dim=-1)  # (n, m, 20): independent components of rank 0 to 3
        moments = weights.transpose(1, 2) @ shapes / self.neighbour_count**0.5
        moments = moments * self.centre_element(attributes)[..., None]
        scalar, vector, tensor, third = (
            [torch.einsum("ncd,ce->ned", moments[..., part], mixing) for mixing in self.mixing[rank]]
            for rank, part in enumerate(_SLICES)
        )
        twos = [torch.einsum("ncd,dij->ncij", value, self.rank_two) for value in tensor]
        threes = [torch.einsum("ncd,dijk->ncijk", value, self.rank_three) for value in third]
        invariants = [
            scalar[0][..., 0],
            (vector[0] * vector[1]).sum(dim=-1),
            (twos[0] * twos[1]).sum(dim=(-1, -2)),
            (threes[0] * threes[1]).sum(dim=(-1, -2, -3)),
            torch.einsum("nci,ncij,ncj->nc", vector[0], twos[0], vector[1]),
            torch.einsum("ncij,ncjk,ncki->nc", twos[0], twos[1], twos[1]),
            torch.einsum("ncijk,ncij,nck->nc", threes[0], twos[0], vector[0]),
        ]
        return torch.cat(invariants, dim=1)

    def energies(self, vectors, neighbours, attributes):
        """Return the energy of each atom over the force scale, (n_atoms,), angstrom."""
        invariants = (self._invariants(vectors, neighbours, attributes) - self.invariant_mean) / self.invariant_scale
        attributes = (attributes - self.attribute_mean) / self.attribute_scale
        return self.network(torch.cat([invariants, attributes], dim=1))[:, 0]

    def _forces(self, graph, create_graph):
        """Return minus the gradient of the energy over the force scale, (n_atoms, 3)."""
        with torch.enable_grad():
            vectors = graph["vectors"].detach().requires_grad_(True)
            energy = self.energies(vectors, graph["neighbours"], graph["attributes"]).sum()
            (gradient,) = torch.autograd.grad(energy, vectors, create_graph=create_graph)
        forces = gradient.sum(dim=1)
        return forces.index_add(0, graph["neighbours"].reshape(-1), -gradient.reshape(-1, 3))

    def predict(self, description):
        forces = self._forces(_graph(description, self.device), create_graph=False) * self.force_scale
        if "undisplaced" in description:
            at_rest = self._forces(_graph(description["undisplaced"], self.device), create_graph=False)
            forces = forces - at_rest.repeat(len(forces) // len(at_rest), 1) * self.force_scale
        return forces.detach()

    def prepare(self, neighbourhoods, forces):
        graph = _graph(self.describe(neighbourhoods))
        return (*graph.values(), torch.as_tensor(forces, dtype=self.dtype) / self.force_scale.cpu())

    def batches(self, prepared, generator, n_environments):
        batch, size = [], 0
        for place in torch.randperm(len(prepared), generator=generator).tolist():
            batch.append(prepared[place])
            size += len(prepared[place][0])
            if size >= n_environments:
                yield self._collate(batch)
                batch, size = [], 0
        if batch:
            yield self._collate(batch)

    def _collate(self, parts):
        """Join supercells; neighbour lists are filled up to the longest with atoms at the cutoff."""
        longest = max(vectors.shape[1] for vectors, *_ in parts)
        shift, joined = 0, []
        for vectors, neighbours, attributes, forces in parts:
            missing = longest - vectors.shape[1]
            filling = vectors.new_tensor([self.cutoff_angstrom, 0.0, 0.0]).expand(len(vectors), missing, 3)
            itself = torch.arange(len(vectors))[:, None].expand(-1, missing)
            neighbours = torch.cat([neighbours, itself], dim=1) + shift
            joined.append((torch.cat([vectors, filling], dim=1), neighbours, attributes, forces))
            shift += len(vectors)
        return tuple(torch.cat(group).to(self.device) for group in zip(*joined))

    def loss(self, batch):
        *graph, targets = batch
        graph = dict(zip(("vectors", "neighbours", "attributes"), graph))
        return ((self._forces(graph, create_graph=True) - targets) ** 2).mean()


def _graph(description, device="cpu"):
    """Return the tensors of a description that the energy needs."""
    return {name: description[name].to(device) for name in ("vectors", "neighbours", "attributes")}


def _full_tensor(rank):
    """Return the tensor that spreads independent components over a full symmetric tensor, float."""
    components = _INDICES[rank]
    full = numpy.zeros((len(components), *(3,) * rank))
    for index in numpy.ndindex(*(3,) * rank):
        full[(components.index(tuple(sorted(index))), *index)] = 1.0
    return torch.as_tensor(full)
