"""The long-ranged part against Ewald's sum of an independent program, and its laws."""

import numpy
import pytest
import torch
from ase import Atoms
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure
from scipy.special import erfc

from phonoscreen.forcefield.long_range import (
    COULOMB_EV_ANGSTROM,
    SIGMA_ANGSTROM,
    coulomb_energy,
    describe_waves,
)
from tests.forcefield_crystals import perovskite, random_moves, rock_salt


def smooth_energy(atoms, charges):
    """Energy of the Gaussian charges of one structure, eV."""
    batch = describe_waves([(len(atoms), atoms.cell.array if atoms.pbc.all() else None)], torch.float64)
    return float(coulomb_energy(torch.as_tensor(charges), torch.as_tensor(atoms.positions), batch))


@pytest.mark.parametrize(
    "atoms, charges", [(rock_salt(), [1.0, -1.0]), (perovskite(), [2.0, 4.0, -2.0, -2.0, -2.0])], ids=["NaCl", "SrTiO3"]
)
def test_the_rest_of_point_charges_is_short_ranged(atoms, charges):
    """Smooth part + erfc part - energy of each charge with itself is Ewald's sum, here pymatgen's."""
    supercell = atoms.repeat(2)
    supercell.positions += random_moves(1, len(supercell), 1, length=0.1)[0]
    charges = numpy.tile(charges, 8)
    lattice = Lattice(supercell.cell.array)
    structure = Structure(lattice, supercell.numbers, supercell.positions, coords_are_cartesian=True)
    structure.add_oxidation_state_by_site(charges.tolist())
    centres, neighbours, _, distances = structure.get_neighbor_list(12.0)
    short = (
        0.5
        * COULOMB_EV_ANGSTROM
        * numpy.sum(charges[centres] * charges[neighbours] * erfc(distances / (2 * SIGMA_ANGSTROM)) / distances)
    )
    itself = COULOMB_EV_ANGSTROM * (charges**2).sum() / (2 * SIGMA_ANGSTROM * numpy.sqrt(numpy.pi))
    ours = smooth_energy(supercell, charges) + short - itself
    assert ours == pytest.approx(EwaldSummation(structure).total_energy, rel=1e-4)


def test_energy_of_a_larger_cell_and_of_a_batch():
    atoms = rock_salt()
    charges = numpy.array([0.8, -0.8])
    one = smooth_energy(atoms, charges)
    assert smooth_energy(atoms.repeat((3, 2, 2)), numpy.tile(charges, 12)) == pytest.approx(12 * one, rel=1e-9)
    cluster = Atoms("NaCl", positions=[(0, 0, 0), (0, 0, 2.5)])
    assert smooth_energy(cluster, charges) == 0.0
    cells = [atoms, atoms, cluster, perovskite()]
    batch = describe_waves([(len(a), a.cell.array if a.pbc.all() else None) for a in cells], torch.float64)
    assert batch["wave_groups"][:, 0].tolist() == [2, 1, 1]
    all_charges = numpy.concatenate([charges, charges, charges, [2.0, 4.0, -2.0, -2.0, -2.0]])
    together = coulomb_energy(
        torch.as_tensor(all_charges), torch.as_tensor(numpy.concatenate([a.positions for a in cells])), batch
    )
    assert float(together) == pytest.approx(2 * one + smooth_energy(perovskite(), all_charges[6:]), rel=1e-12)


def test_a_common_charge_does_nothing():
    atoms = perovskite()
    assert smooth_energy(atoms, numpy.full(5, 0.7)) == pytest.approx(0, abs=1e-12)
