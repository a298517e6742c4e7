"""The committee's own pass over all members: the numbers of each member's automatic derivatives."""

import numpy
import pytest
import torch

from phonoscreen.forcefield.committee import Committee
from phonoscreen.forcefield.models.equivariant import EquivariantPotential
from phonoscreen.forcefield.neighbourhoods import Neighbourhoods, atoms_neighbourhoods
from phonoscreen.forcefield.stacked_members import MEMBERS_TOGETHER, StackedMembers
from tests.forcefield_crystals import SETTINGS, perovskite, rock_salt

MODEL = {**SETTINGS, "kind": "equivariant", "cutoff_angstrom": 4.5}


def committee(**changed):
    """Three members with random weights and scales of their own."""
    torch.manual_seed(1)
    members = [EquivariantPotential({**MODEL, **changed}) for _ in range(3)]
    for seed, member in enumerate(members):
        cell = perovskite().repeat(2)
        cell.rattle(0.05, seed=seed)
        neighbourhoods = atoms_neighbourhoods(cell, member.cutoff_angstrom)
        member.calibrate([(neighbourhoods, numpy.zeros((len(cell), 3)))], seed)
    return members


def crystals(repeated):
    """Rattled cells of two crystals, one of them twice, and one with an atom that has no neighbour."""
    atoms = [perovskite().repeat(repeated), rock_salt(), perovskite().repeat(repeated), rock_salt()]
    atoms[3].set_cell(3 * atoms[3].cell, scale_atoms=True)
    for seed, one in enumerate(atoms[:3]):
        one.rattle(0.05, seed=seed)
    return Neighbourhoods.concatenate([atoms_neighbourhoods(one, MODEL["cutoff_angstrom"]) for one in atoms])


@pytest.mark.parametrize("long_range", [True, False])
@pytest.mark.parametrize("repeated", [1, 3])
def test_members_together_give_what_each_gives_alone(long_range, repeated):
    members, cells = committee(long_range=long_range), crystals(repeated)
    assert (len(cells) < MEMBERS_TOGETHER) == (repeated == 1)  # both ways to share the work
    description = members[0].describe(cells)
    alone = [torch.stack(parts) for parts in zip(*(member.evaluate(description) for member in members))]
    for found, wanted in zip(StackedMembers(members).evaluate(description), alone, strict=True):
        assert found.shape == wanted.shape and wanted.abs().max() > 0.01
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_rounding_of_members_together_is_that_of_each():
    members, cells = committee(dtype="float32"), crystals(2)
    exact = committee()
    for one, other in zip(exact, members, strict=True):
        one.load_state_dict({name: value.double() for name, value in other.state_dict().items()})
    wanted = numpy.array([member.forces(cells) for member in exact])
    each = numpy.abs(numpy.array([member.forces(cells) for member in members]) - wanted).max()
    assert numpy.abs(Committee(members).forces(cells) - wanted).max() < 3 * each
