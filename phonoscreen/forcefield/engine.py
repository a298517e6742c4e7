"""A published force model as an engine: energy, forces and stress of a crystal, for its relaxation."""

from typing import TYPE_CHECKING, Any

import numpy
import torch
from numpy.typing import NDArray

from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.long_range import coulomb_energy, coulomb_virials
from phonoscreen.forcefield.models.base import to_device
from phonoscreen.forcefield.moments import neighbour_moments, pair_gradients
from phonoscreen.forcefield.neighbourhoods import SupercellNeighbours

if TYPE_CHECKING:
    from ase import Atoms

    from phonoscreen.forcefield.committee import Committee
    from phonoscreen.forcefield.models.equivariant import EquivariantPotential


class CommitteeEngine:
    """Energy, forces and stress of the mean of a committee (interface: ``phonoscreen.reference.base``).

    Parameters
    ----------
    committee : ``Committee``
    name : what products call it
    """

    kind = "model"

    def __init__(self, committee: "Committee", name: str) -> None:
        self.committee, self.name = committee, name
        self.relaxes = committee.has_energy
        """A model without an energy cannot relax: structures are taken as they are."""

    def evaluate(self, atoms: "Atoms", label: str | None = None) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension."""
        crystal = Crystal(atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers, atoms.get_masses())
        at_rest = SupercellNeighbours(crystal, (1, 1, 1), self.committee.cutoff_angstrom)
        description = self.committee.members[0].describe(at_rest.displaced(numpy.zeros((len(atoms), 3))))
        members: list[Any] = self.committee.members  # of the kind that has an energy
        found = [energy_forces_strain(member, description) for member in members]
        energy_ev, forces, strain = (numpy.mean(part, axis=0) for part in zip(*found))
        return float(energy_ev), forces, strain / atoms.cell.volume


@torch.no_grad()
def energy_forces_strain(model: "EquivariantPotential", description: dict) -> tuple[float, NDArray, NDArray]:
    """Return energy, forces and the derivative of the energy with respect to a homogeneous strain, of one crystal.

    One pass through the model gives all three, where ``energy``, ``predict`` and ``virials`` take one each.

    Parameters
    ----------
    model : ``EquivariantPotential``
    description : of the atoms of one periodic cell

    Returns
    -------
    float, eV; (n_atoms, 3), eV/angstrom; (3, 3), eV
    """
    batch = to_device(description, model.device)
    weights, vectors, pairs = model._pair_inputs(batch)
    moments = neighbour_moments(weights, vectors, pairs)
    with torch.enable_grad():
        inputs = [moments.requires_grad_(True)]
        energies, charges = model._energies(moments, batch["numbers"])
        total = energies.sum()
        if model.long_range:
            inputs.append(batch["positions"].detach().requires_grad_(True))
            total = total + coulomb_energy(charges, inputs[1], batch)
        gradients = torch.autograd.grad(total, inputs, materialize_grads=True)
    of_vectors = pair_gradients(weights, vectors, gradients[0], pairs)
    forces = of_vectors.new_zeros(len(batch["numbers"]), 3).index_add(0, pairs.centres, of_vectors)
    forces = forces.index_add(0, pairs.neighbours, -of_vectors)
    strain = vectors.T @ of_vectors
    if model.long_range:
        forces = forces - gradients[1]
        strain = strain + coulomb_virials(charges, batch["positions"], batch)[0]
    energy_ev, strain = energies.double().sum() + (total - energies.sum()), strain.double().cpu().numpy()
    return float(energy_ev), forces.double().cpu().numpy(), (strain + strain.T) / 2
