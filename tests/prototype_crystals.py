"""Crystals of the study's prototypes for the tests of lattice and transport."""

import numpy
from ase import Atoms
from ase.build import bulk

from phonoscreen.crystal.constants import Crystal

FCC = numpy.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])


def rocksalt(symbols="NaCl", a=5.6):
    return Crystal.from_ase(Atoms(symbols, cell=a * FCC, scaled_positions=[[0] * 3, [0.5] * 3], pbc=True))


def half_heusler(symbols="NiTiSn", a=5.95):
    points = [[0.25] * 3, [0] * 3, [0.5] * 3]
    return Crystal.from_ase(Atoms(symbols, cell=a * FCC, scaled_positions=points, pbc=True))


def full_heusler(symbols="Pd2CuSr", a=6.7):
    points = [[0.25] * 3, [0.75] * 3, [0] * 3, [0.5] * 3]
    return Crystal.from_ase(Atoms(symbols, cell=a * FCC, scaled_positions=points, pbc=True))


def perovskite(symbols="KMgF3", a=4.0):
    points = [[0.5] * 3, [0] * 3, [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Crystal.from_ase(Atoms(symbols, cell=a * numpy.eye(3), scaled_positions=points, pbc=True))


def elpasolite(symbols="Cs2KIrCl6", a=10.3, u=0.235):
    anions = [sign * u * numpy.array(v) for v in ([-1, 1, 1], [1, -1, 1], [1, 1, -1]) for sign in (1, -1)]
    points = [[0.25] * 3, [0.75] * 3, [0.5] * 3, [0] * 3, *anions]
    return Crystal.from_ase(Atoms(symbols, cell=a * FCC, scaled_positions=points, pbc=True))


def wurtzite(symbols="ZnO", a=3.25, c=5.2):
    return Crystal.from_ase(bulk(symbols, "wurtzite", a=a, c=c))
