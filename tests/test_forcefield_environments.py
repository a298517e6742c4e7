"""Neighbourhoods, frames and the elemental density: what the force models see."""

import numpy
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.density import PARITIES, DensityMesh
from phonoscreen.forcefield.elements import SYMBOLS, element_attributes
from phonoscreen.forcefield.frames import neighbour_frames
from phonoscreen.forcefield.neighbourhoods import (
    Neighbourhoods,
    SupercellNeighbours,
    atoms_neighbourhoods,
    point_neighbourhood,
)
from tests.forcefield_crystals import perovskite, random_moves, rock_salt, zinc_blende

CUTOFF = 4.5
MESH = DensityMesh(CUTOFF, 1.2, 0.7)


def sorted_pairs(neighbourhoods):
    """Rows (centre, number of the neighbour, vector) in one order, to compare lists."""
    rows = numpy.column_stack([neighbourhoods.centres, neighbourhoods.neighbours, neighbourhoods.vectors.round(9)])
    rows = rows[numpy.linalg.norm(neighbourhoods.vectors, axis=1) < CUTOFF]
    return rows[numpy.lexsort(rows.T[::-1])]


def rotated(neighbourhoods, rotation):
    """The same environment turned in space."""
    return Neighbourhoods(
        neighbourhoods.numbers, neighbourhoods.offsets, neighbourhoods.neighbours, neighbourhoods.neighbour_numbers,
        neighbourhoods.vectors @ rotation.T, neighbourhoods.positions, neighbourhoods.structures,
    )  # fmt: skip


@pytest.mark.parametrize("atoms, repetitions", [(rock_salt(), (2, 3, 2)), (perovskite(), (2, 1, 2))])
def test_neighbours_of_a_displaced_supercell_are_those_of_ase(atoms, repetitions):
    supercell = atoms.repeat(repetitions)
    move = random_moves(1, len(supercell), 1)[0]
    ours = SupercellNeighbours(Crystal.from_ase(atoms), repetitions, CUTOFF, 0.03).displaced(move)
    supercell.positions += move
    numpy.testing.assert_allclose(sorted_pairs(ours), sorted_pairs(atoms_neighbourhoods(supercell, CUTOFF)), atol=2e-9)


def test_the_density_is_the_formula_folded_into_parities():
    supercell = perovskite().repeat(2)
    supercell.positions += random_moves(1, 40, 2)[0]
    around = atoms_neighbourhoods(supercell, CUTOFF)
    frames = neighbour_frames(around, CUTOFF, 1)
    density = MESH.density(around, frames)
    centre = 7
    pairs = slice(around.offsets[centre], around.offsets[centre + 1])
    vectors, weights = around.vectors[pairs], element_attributes(around.neighbour_numbers[pairs])
    distance = numpy.linalg.norm(vectors, axis=1)
    smooth = numpy.where(distance < CUTOFF, 0.5 + 0.5 * numpy.cos(numpy.pi * distance / CUTOFF), 0)
    row = numpy.flatnonzero(frames.centres == centre)[0]
    vectors = vectors @ frames.rotations[row].T

    def rho(points):
        square = ((vectors[:, None] - MESH.spacing_angstrom * points) ** 2).sum(axis=-1)
        return numpy.einsum("jk,j,jg->kg", weights, smooth, numpy.exp(-square / (2 * MESH.width_angstrom**2)))

    begin = 0
    for parity, size, part in zip(PARITIES, MESH.sizes, MESH.parts):
        points = MESH.points[begin : begin + size]
        total = numpy.zeros((5, size))
        for flips in PARITIES:
            signs = 1 - 2 * numpy.array(flips)
            total += numpy.prod(signs ** numpy.array(parity)) * rho(points * signs)
        # a point on a mirror plane meets itself: sqrt(2) for each axis off the plane, 2 for each axis on it
        total /= numpy.prod(numpy.where(points == 0, 2, numpy.sqrt(2)), axis=1)
        numpy.testing.assert_allclose(density[row, part], total.ravel(), atol=2e-6)
        begin += size


def test_the_parities_hold_every_mesh_point_once():
    reach = numpy.arange(-MESH.reach, MESH.reach + 1)
    inside = (numpy.stack(numpy.meshgrid(reach, reach, reach)) ** 2).sum(axis=0) * 1.2**2 <= CUTOFF**2
    assert len(MESH.points) == inside.sum()
    assert MESH.n_values == 5 * inside.sum()


@pytest.mark.parametrize("displaced", [True, False])
@pytest.mark.parametrize("atoms", [rock_salt(), zinc_blende(), perovskite()], ids=["NaCl", "ZnS", "SrTiO3"])
def test_frames_turn_with_the_environment_so_the_mean_density_does_not(atoms, displaced):
    supercell = atoms.repeat(2)
    supercell.positions += displaced * random_moves(1, len(supercell), 3)[0]
    around = atoms_neighbourhoods(supercell, CUTOFF)
    turned = rotated(around, Rotation.random(random_state=4).as_matrix())
    means = []
    for environment in (around, turned):
        frames = neighbour_frames(environment, CUTOFF, 3)
        numpy.testing.assert_allclose(numpy.linalg.det(frames.rotations), 1, atol=1e-12)
        numpy.testing.assert_allclose(numpy.bincount(frames.centres, frames.weights), 1, atol=1e-12)
        mean = numpy.zeros((len(around), MESH.n_values))
        numpy.add.at(mean, frames.centres, frames.weights[:, None] * MESH.density(environment, frames))
        means.append(mean)
    numpy.testing.assert_allclose(means[0], means[1], atol=2e-5)


def test_a_tie_takes_every_tied_neighbour():
    around = atoms_neighbourhoods(rock_salt(), CUTOFF)
    frames = neighbour_frames(around, CUTOFF, 3)
    # six nearest neighbours, four of them not collinear with the first
    assert numpy.bincount(frames.centres).tolist() == [24, 24]
    numpy.testing.assert_allclose(frames.weights, 1 / 24)


def test_the_density_vanishes_smoothly_at_the_cutoff():
    def density(distance):
        atoms = Atoms("NaCl2", positions=[(0, 0, 0), (2.5, 0, 0), (0, 2.6, 0)]) + Atoms("K", [(0, 0, distance)])
        around = atoms_neighbourhoods(atoms, 6.0)
        around = Neighbourhoods(  # of the first atom only
            around.numbers[:1],
            around.offsets[:2],
            around.neighbours,
            around.neighbour_numbers,
            around.vectors,
            around.positions[:1],
            [(1, None)],
        )
        return MESH.density(around, neighbour_frames(around, CUTOFF, 1))[0]

    outside, step = density(CUTOFF + 1e-3), 1e-2
    near, nearer = (numpy.abs(density(CUTOFF - distance) - outside).max() for distance in (2 * step, step))
    assert near < 1e-4
    assert nearer < 0.3 * near  # second order in the distance to the cutoff: force and its slope are continuous


def test_each_of_the_63_elements_has_its_own_numbers():
    attributes = element_attributes(sorted(SYMBOLS))
    assert attributes.shape == (63, 5)
    assert numpy.isfinite(attributes).all() and (attributes[:, 0] == 1).all()
    assert len({tuple(row) for row in attributes.round(6)}) == 63


def test_an_atom_in_the_centre_of_the_cell_is_seen():
    around = point_neighbourhood(Crystal.from_ase(perovskite()), (0.5, 0.5, 0.5), CUTOFF)
    distances = numpy.linalg.norm(around.vectors, axis=1)
    assert around.numbers.tolist() == [0]
    assert around.neighbour_numbers[distances.argmin()] == 22 and distances.min() < 1e-9


@pytest.mark.parametrize(
    "atoms, words",
    [
        (Atoms(cell=[4, 4, 4], pbc=True), "no atoms"),
        (Atoms("NaCl", positions=[(0, 0, 0), (0, 0, numpy.nan)]), "not finite"),
        (Atoms("NaCl", positions=[(0, 0, 0), (0, 0, 0.1)]), "0.100 A apart"),
    ],
)
def test_nonsense_atoms_are_refused(atoms, words):
    with pytest.raises(StudyError, match=words):
        atoms_neighbourhoods(atoms, CUTOFF)


def test_atoms_without_frames_and_unknown_elements_are_refused():
    with pytest.raises(StudyError, match="no frame"):
        neighbour_frames(atoms_neighbourhoods(Atoms("Na"), CUTOFF), CUTOFF, 3)
    with pytest.raises(StudyError, match="no frame"):
        neighbour_frames(atoms_neighbourhoods(Atoms("NaCl", positions=[(0, 0, 0), (0, 0, 2)]), CUTOFF), CUTOFF, 3)
    with pytest.raises(StudyError, match=r"\[92\]"):
        element_attributes([11, 92])


def test_displacements_that_do_not_fit_are_refused():
    neighbours = SupercellNeighbours(Crystal.from_ase(rock_salt()), (2, 2, 2), CUTOFF, 0.03)
    for wrong, words in ((numpy.zeros((4, 3)), "shape"), (numpy.full((16, 3), 0.1), "complete"),
                         (numpy.full((16, 3), numpy.nan), "nan")):  # fmt: skip
        with pytest.raises(StudyError, match=words):
            neighbours.displaced(wrong)
    flat = Crystal(numpy.zeros((3, 3)), numpy.zeros((1, 3)), numpy.array([11]), None)
    with pytest.raises(StudyError, match="no volume"):
        SupercellNeighbours(flat, (1, 1, 1), CUTOFF)
