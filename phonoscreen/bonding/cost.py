"""What the COHP of a crystal costs with GPAW, known from its formula and its number of atoms alone."""

from __future__ import annotations

import h5py
from ase.data import atomic_numbers, covalent_radii

from phonoscreen.audit.shipped import shipped
from phonoscreen.bonding.gpaw_lcao import MAGNETIC
from phonoscreen.structures.formulas import composition

SECONDS, ATOMS_EXPONENT, VOLUME_EXPONENT = 54.0, 1.24, -0.53
METAL, BOTH_SPINS = 2.05, 2.2
"""Least squares over the logarithms of the kept records (``measured_on``), a tenth added so that the sum is right.

Three in four are right within a factor of two. A compound without an element of ``NONMETALS`` counts as a metal: its
density takes more steps. Both spins double a calculation; a magnetic metal takes far longer (FeAl 11 minutes).
"""
RECORDS = "resources/bonding/cohp.h5"
NONMETALS = frozenset("H C N O F P S Cl As Se Br Sb Te I".split())


def cpu_seconds(formula: str, n_atoms: int) -> float:
    """Return the estimated CPU time of ``find_cohp`` with the engine ``gpaw``, s.

    The atoms make the basis and the grid, and a small volume makes many k-points. The volume is estimated by the cubes
    of the covalent diameters.

    Parameters
    ----------
    formula : of the crystal
    n_atoms : of the primitive cell
    """
    counts = composition(formula)
    cubes = sum(n * (2 * covalent_radii[atomic_numbers[symbol]]) ** 3 for symbol, n in counts.items())
    volume = cubes * n_atoms / sum(counts.values())
    spins = 1.0 if MAGNETIC.keys().isdisjoint(counts) else BOTH_SPINS
    metal = METAL if NONMETALS.isdisjoint(counts) else 1.0
    return SECONDS * n_atoms**ATOMS_EXPONENT * volume**VOLUME_EXPONENT * metal * spins


def measured_on() -> tuple[int, int, int]:
    """Return how many crystals the estimate was fitted to, and the atoms of the smallest and of the largest of them."""
    with h5py.File(shipped(RECORDS)) as store:
        atoms = [len(record["numbers"]) for record in store.values() if "numbers" in record]
    return len(atoms), min(atoms), max(atoms)
