"""Crystals with central forces, whose force constants are known exactly: models for the tests of transport."""

import itertools

import numpy

from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder


def morse(depth, stiffness, length):
    """First, second and third derivative of a Morse bond, functions of the distance."""

    def derivatives(r):
        x = numpy.exp(-stiffness * (r - length))
        return (
            2 * depth * stiffness * (x - x * x),
            2 * depth * stiffness**2 * (2 * x * x - x),
            2 * depth * stiffness**3 * (x - 4 * x * x),
        )

    return derivatives


def central_forces(crystal, bonds, reach, repetitions):
    """Force constants of pair potentials.

    Parameters
    ----------
    crystal : Crystal
    bonds : function of (number, number, distance) that returns the three derivatives, or None for no bond
    reach : longest bond, angstrom
    repetitions : (3,) of the second-order supercell
    """
    n, delta = len(crystal.numbers), numpy.eye(3)
    total = int(numpy.prod(repetitions))
    second = numpy.zeros((n, n * total, 3, 3))
    triplets = {}

    def add(atoms, cells, value):
        key = (*atoms, *cells[0], *cells[1])
        triplets[key] = triplets.get(key, 0.0) + value

    zero = (0, 0, 0)
    for a, b in itertools.product(range(n), repeat=2):
        for cell in itertools.product(range(-3, 4), repeat=3):
            shift = numpy.array(cell) + crystal.scaled_positions[b] - crystal.scaled_positions[a]
            vector = shift @ crystal.cell
            r = numpy.linalg.norm(vector)
            bond = bonds(crystal.numbers[a], crystal.numbers[b], r) if 1e-6 < r < reach else None
            if bond is None:
                continue
            first, curvature, third = bond
            u = vector / r
            k = curvature * numpy.outer(u, u) + first / r * (delta - numpy.outer(u, u))
            uuu = numpy.einsum("x,y,z->xyz", u, u, u)
            mixed = sum(
                numpy.einsum(order, delta, u) for order in ("xy,z->xyz", "xz,y->xyz", "yz,x->xyz")
            )  # fmt: skip
            t = third * uuu + (curvature - first / r) / r * (mixed - 3 * uuu)
            index = numpy.ravel_multi_index(numpy.mod(cell, repetitions), repetitions) * n + b
            second[a, index] -= k
            second[a, a] += k
            add((a, a, a), (zero, zero), -t)
            add((a, a, b), (zero, cell), t)
            add((a, b, a), (cell, zero), t)
            add((a, b, b), (cell, cell), -t)
    keys = numpy.array(list(triplets))
    return SecondOrder(repetitions, second), ThirdOrder(
        keys[:, :3], keys[:, 3:].reshape(-1, 2, 3), numpy.array(list(triplets.values()))
    )


def rocksalt(length=2.8, stretch=(1.0, 1.0, 1.0), repetitions=(4, 4, 4)):
    """Rock salt of unlike atoms, or with ``stretch`` the same bonds in a tetragonal or orthorhombic cell."""
    cell = length * numpy.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * numpy.array(stretch)
    crystal = Crystal(cell, numpy.array([[0, 0, 0], [0.5, 0.5, 0.5]]), numpy.array([12, 17]), numpy.array([24.3, 35.4]))
    near, far = morse(0.6, 1.3, length), morse(0.15, 1.1, 1.5 * length)

    def bonds(first, second, r):
        return near(r) if first != second and r < 1.3 * length else far(r) if r < 1.6 * length else None

    return crystal, *central_forces(crystal, bonds, 1.6 * length, repetitions)


def half_heusler(length=2.55, repetitions=(3, 3, 3)):
    """Three unlike atoms on the sites of a half-Heusler compound: all bonds of length and of 2 length / sqrt(3)."""
    a = 4 * length / 3**0.5
    cell = a / 2 * numpy.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    positions = numpy.array([[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]])
    crystal = Crystal(cell, positions, numpy.array([22, 28, 50]), numpy.array([47.9, 58.7, 118.7]))
    near, far = morse(0.7, 1.4, length), morse(0.2, 1.2, a / 2)

    def bonds(first, second, r):
        return near(r) if r < 1.08 * length else far(r) if first != second and r < 0.55 * a else None

    return crystal, *central_forces(crystal, bonds, 0.55 * a, repetitions)


def conventional_rocksalt(length=2.8, repetitions=(2, 2, 2)):
    """The eight-atom cubic cell of ``rocksalt``."""
    points = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    points += [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    kinds = numpy.repeat([12, 17], 4)
    crystal = Crystal(2 * length * numpy.eye(3), numpy.array(points), kinds, numpy.where(kinds == 12, 24.3, 35.4))
    near, far = morse(0.6, 1.3, length), morse(0.15, 1.1, 1.5 * length)

    def bonds(first, second, r):
        return near(r) if first != second and r < 1.3 * length else far(r) if r < 1.6 * length else None

    return crystal, *central_forces(crystal, bonds, 1.6 * length, repetitions)


def hexagonal(repetitions=(4, 4, 3)):
    """Hexagonal close packing of one element: a non-symmorphic group, degenerate bands on its faces."""
    a, c = 3.2, 5.3
    cell = numpy.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])
    points = numpy.array([[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    crystal = Crystal(cell, points, numpy.array([12, 12]), numpy.array([24.3, 24.3]))
    return crystal, *central_forces(crystal, lambda _a, _b, r: morse(0.3, 1.3, a)(r), 4.8, repetitions)
