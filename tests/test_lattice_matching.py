"""Atoms of distorted supercells find their sites: any order, any origin, thermal displacements; no melt."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.matching import SupercellSites
from tests import prototype_crystals as prototypes

CRYSTALS = [(prototypes.rocksalt, (3, 3, 3)), (prototypes.perovskite, (2, 2, 2)), (prototypes.half_heusler, (2, 2, 2))]


def perfect(sites):
    return sites.scaled @ sites.cell


@pytest.mark.parametrize("make, repetitions", CRYSTALS)
@pytest.mark.parametrize("amplitude", [0.01, 0.05, 0.12])
def test_thermal_displacements_come_back(make, repetitions, amplitude):
    """Amplitudes in units of the nearest-neighbour distance; Lindemann's melting is at 0.1 to 0.15."""
    sites, rng = SupercellSites(make(), repetitions), numpy.random.default_rng(0)
    places = perfect(sites)
    for _ in range(3):
        moves = rng.normal(size=places.shape) * amplitude / numpy.sqrt(3) * sites.nearest_angstrom
        moves -= numpy.median(moves, axis=0)
        order = rng.permutation(len(moves))
        positions = (places + moves + rng.normal(size=3))[order]
        positions += rng.integers(-2, 3, size=positions.shape) @ sites.cell
        found, own = sites.displacements(sites.cell, positions, sites.numbers[order])
        assert sorted(found) == list(range(len(places)))
        assert numpy.array_equal(sites.numbers[order][found], sites.numbers)
        assert (own**2).sum() <= (moves**2).sum() * (1 + 1e-4)  # no other assignment is shorter than the true one
        assert numpy.abs(numpy.median(own, axis=0)).max() < 1e-2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), amplitude=st.floats(0.0, 0.08))
def test_small_displacements_come_back_exactly_whatever_order_and_lattice_vectors(seed, amplitude):
    sites, rng = SupercellSites(prototypes.rocksalt(), (2, 2, 2)), numpy.random.default_rng(seed)
    places = perfect(sites)
    moves = amplitude * rng.normal(size=places.shape).clip(-2, 2)
    order = rng.permutation(len(places))
    change = numpy.array([[1, 1, 0], [0, 1, 0], [-1, 0, 1]])  # other vectors of the same supercell
    found, own = sites.displacements(change @ sites.cell, (places + moves)[order], sites.numbers[order])
    assert numpy.array_equal(order[found], numpy.arange(len(places)))
    rest = moves - own
    assert numpy.allclose(rest, rest[0], atol=1e-9)  # the common shift at most


def test_one_displaced_atom_stays_one_displaced_atom():
    sites = SupercellSites(prototypes.rocksalt(), (2, 2, 2))
    positions = perfect(sites)
    positions[5] += (0.01, 0.0, 0.0)
    _, own = sites.displacements(sites.cell, positions, sites.numbers)
    assert numpy.flatnonzero(numpy.abs(own).max(axis=1) > 1e-12).tolist() == [5]


def test_melts_diffused_atoms_and_other_crystals_are_refused_with_numbers():
    sites, rng = SupercellSites(prototypes.rocksalt(), (3, 3, 3)), numpy.random.default_rng(1)
    places = perfect(sites)
    with pytest.raises(StudyError, match=r"angstrom from the sites .* root mean square"):
        sites.displacements(sites.cell, rng.random(places.shape) @ sites.cell, sites.numbers, "a melt")
    interstitial = places.copy()
    interstitial[0] += 0.25 * sites.cell.sum(axis=0) / 3
    with pytest.raises(StudyError, match="1 of 54 beyond half the nearest-neighbour distance"):
        sites.displacements(sites.cell, interstitial, sites.numbers)
    with pytest.raises(StudyError, match="other elements"):
        sites.displacements(sites.cell, places, sites.numbers[::-1] + 1)
    with pytest.raises(StudyError, match="not the crystal's repeated"):
        sites.displacements(1.02 * sites.cell, 1.02 * places, sites.numbers)
    with pytest.raises(StudyError, match="has 53 atoms"):
        sites.displacements(sites.cell, places[1:], sites.numbers[1:])


def test_two_atoms_that_hopped_into_each_others_site_are_the_crystal_again():
    sites = SupercellSites(prototypes.rocksalt(), (2, 2, 2))
    positions = perfect(sites)
    like = numpy.flatnonzero(sites.numbers == sites.numbers[0])[:2]
    positions[like] = positions[like[::-1]]
    order, own = sites.displacements(sites.cell, positions, sites.numbers)
    assert numpy.abs(own).max() < 1e-9
    assert order[like[0]] == like[1]
