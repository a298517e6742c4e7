"""Coherences averaged over the cell of each wave vector: laws, limits and convergence with the mesh."""

import itertools

import numpy
import pytest

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.mesh import build_mesh
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix
from phonoscreen.phonons.modes import solve_mesh_modes
from phonoscreen.transport import coherence
from phonoscreen.transport.cell_average import NODES, WEIGHTS, pair_averages
from phonoscreen.transport.coherence import coherence_conductivity
from tests.phonondb import archives, fit_compound, read_compound
from tests.transport_models import conventional_rocksalt, half_heusler, hexagonal, rocksalt

T = 300.0


def averages(gaps, width, slope, matrix, cell):
    """Average for a pair with V_12 = ``matrix`` (3,) complex, for each gap."""
    n, found = len(gaps), numpy.zeros((len(gaps), 3, 3))
    coupling = numpy.outer(matrix, matrix.conj()).real
    pair_averages(numpy.asarray(gaps, float), numpy.full(n, float(width)), numpy.tile(slope, (n, 1)).astype(float),
                  numpy.tile(coupling, (n, 1, 1)), cell[None], NODES, WEIGHTS, found)  # fmt: skip
    return found


def lorentzian(gap, width):
    return width / (4 * gap**2 + width**2)


def third_difference(gap, width, changes):
    """Average of the Lorentzian over a box in which the gap is linear, from its third antiderivative.

    With z = gap - i width / 2 the Lorentzian is Im(1/z) / 2 and the antiderivative z^2 log(z) / 2.
    """
    z, total = gap - 0.5j * width, 0.0
    for signs in itertools.product((-1, 1), repeat=3):
        corner = z + numpy.dot(signs, changes) / 2
        total += numpy.prod(signs) * corner**2 * numpy.log(corner) / 2
    return (total / numpy.prod(changes)).imag / 2


def random_pair(seed):
    rng = numpy.random.default_rng(seed)
    slope, cell = rng.normal(size=3), rng.normal(size=(3, 3))
    return rng, slope, rng.normal(size=3) + 1j * rng.normal(size=3) * (seed % 2), cell


@pytest.mark.parametrize("width", [1e-3, 0.1, 3.0])
def test_linear_difference_gives_the_third_difference_of_an_antiderivative(width):
    """A cell across which the bands do not couple: edges perpendicular to the coupling."""
    rng, slope, _, cell = random_pair(0)
    cell[2], matrix = 0.0, numpy.array([0, 0, 1.3 + 0.4j])
    gaps = rng.normal(size=40)
    found = averages(gaps, width, slope, matrix, cell)
    expected = numpy.array([third_difference(gap, width, slope @ cell) for gap in gaps])
    errors = found[:, 2, 2] / abs(matrix[2]) ** 2 - expected
    assert abs(errors.mean()) < 0.02 * expected.mean()  # of the quadrature at the corners of the cell
    assert numpy.abs(errors).max() < 0.1 * expected.max()


def test_average_keeps_the_area_of_the_lorentzian():
    _, slope, _, cell = random_pair(1)
    cell[2], gaps = 0.0, numpy.linspace(-60, 60, 6001)
    found = averages(gaps, 0.3, slope, numpy.array([0, 0, 1.0]), cell)[:, 2, 2]
    inside = numpy.arctan(2 * 60 / 0.3)  # of pi / 2
    assert numpy.trapezoid(found, gaps) == pytest.approx(inside, rel=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_average_is_that_of_many_points_in_the_cell(seed):
    """The two-level system diagonalised at 40^3 points of the cell, with numpy and Pauli matrices."""
    rng, slope, matrix, cell = random_pair(seed)
    gap, width = 0.5 * rng.normal(), 10 ** rng.uniform(-1, 0.5)
    velocity = numpy.array([[[s / 2, m], [m.conj(), -s / 2]] for s, m in zip(slope, matrix)])
    steps = (numpy.arange(40) + 0.5) / 40 - 0.5
    deltas = numpy.stack(numpy.meshgrid(steps, steps, steps), -1).reshape(-1, 3) @ cell.T
    levels, vectors = numpy.linalg.eigh(numpy.diag([gap / 2, -gap / 2]) + numpy.einsum("na,aij->nij", deltas, velocity))
    between = numpy.einsum("ni,aij,nj->na", vectors[:, :, 0].conj(), velocity, vectors[:, :, 1])
    weight = lorentzian(levels[:, 1] - levels[:, 0], width) / len(deltas)
    expected = numpy.einsum("n,na,nb->ab", weight, between, between.conj()).real
    found = averages([gap], width, slope, matrix, cell)[0]
    assert found == pytest.approx(expected, abs=0.015 * numpy.trace(expected))


def test_small_cells_and_equal_velocities_give_the_bare_lorentzian():
    _, slope, matrix, cell = random_pair(3)
    gaps = numpy.array([0.01, 0.2, -3.0])
    product = numpy.outer(matrix, matrix.conj()).real
    bare = lorentzian(gaps, 0.7)[:, None, None] * product
    assert averages(gaps, 0.7, slope, matrix, 1e-6 * cell) == pytest.approx(bare, rel=1e-6, abs=1e-7)
    cell[2], along = 0.0, numpy.array([0, 0, 1.0])
    still = averages(gaps, 0.7, numpy.zeros(3), along, cell)
    assert still[:, 2, 2] == pytest.approx(lorentzian(gaps, 0.7), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_average_is_symmetric_positive_and_the_same_for_both_orders_of_the_bands(seed):
    _, slope, matrix, cell = random_pair(seed)
    gaps = numpy.array([-0.7, 0.0, 1e-9, 0.3, 40.0])
    found = averages(gaps, 0.05, slope, matrix, cell)
    assert found == pytest.approx(found.swapaxes(1, 2), rel=1e-12, abs=1e-15)
    assert numpy.linalg.eigvalsh(found).min() > -1e-9 * found.max()
    exchanged = averages(-gaps, 0.05, -slope, matrix.conj(), cell)
    assert found == pytest.approx(exchanged, rel=1e-9, abs=1e-12)
    turned = averages(gaps, 0.05, slope, matrix * numpy.exp(0.7j), cell)
    assert found == pytest.approx(turned, rel=1e-6, abs=1e-9)


def conductivity(crystal, second, n, linewidth, sum_over="cell_average"):
    """Mean of kappa_c on a mesh with the same linewidth for every mode, or a function of the frequencies."""
    shape = (n, n, n) if numpy.isscalar(n) else n
    modes = solve_mesh_modes(DynamicalMatrix(crystal, second), build_mesh(crystal, shape))
    widths = linewidth(modes.omega) if callable(linewidth) else numpy.full(modes.omega.shape, linewidth)
    kappa, parts = coherence_conductivity(modes, widths, crystal.volume, T, sum_over=sum_over)
    assert parts.sum() == pytest.approx(numpy.trace(kappa) / 3, rel=1e-9)
    return numpy.trace(kappa) / 3


@pytest.mark.parametrize(
    ("model", "coarse", "fine"), [(rocksalt, 7, 21), (half_heusler, 7, 15), (hexagonal, (7, 7, 5), (21, 21, 15)),
                                  (conventional_rocksalt, 5, 11)],
)  # fmt: skip
def test_both_sums_approach_the_same_limit_from_both_sides_or_together(model, coarse, fine):
    crystal, second, _ = model()
    bare, average = ([conductivity(crystal, second, n, 1.0, sum_over) for n in (coarse, fine)]
                     for sum_over in ("bare", "cell_average"))  # fmt: skip
    gaps = [abs(a / b - 1) for a, b in zip(bare, average)]
    assert gaps[1] < 0.1 and gaps[1] < 0.5 * gaps[0]
    between = sorted((bare[1], average[1]))  # where the limit lies
    assert 0.85 * between[0] < average[0] < 1.05 * between[1]


def test_sums_agree_where_lines_are_wider_than_the_cells():
    crystal, second, _ = rocksalt()
    wide = [conductivity(crystal, second, 15, 60.0, sum_over) for sum_over in ("bare", "cell_average")]
    assert wide[1] == pytest.approx(wide[0], rel=0.03)


@pytest.mark.parametrize(
    ("name", "linewidth"),
    [("2624-alsb-f-43m-216", 0.055), ("1672-cas-fm-3m-225", 0.19), ("23268-nai-fm-3m-225", 1.1)],
)
def test_narrow_lines_converge_on_a_coarse_mesh(reference, tmp_path, name, linewidth):
    """DFT second order; linewidths that go with the square of the frequency, their median (rad/ps) that of a universal
    potential's third order at 300 K. The bare sum of AlSb on these meshes is three times the limit and falls slowly.
    """
    compound = read_compound(archives(reference)[name], tmp_path)
    crystal, second = compound.data.crystal, fit_compound(compound.data)
    found = {n: conductivity(crystal, second, n, lambda omega: linewidth * omega**2 / numpy.median(omega**2))
             for n in (11, 12, 19)}  # fmt: skip
    assert found[11] == pytest.approx(found[19], rel=0.12)
    assert found[12] == pytest.approx(found[11], rel=0.04)


def test_unknown_sum_is_refused():
    crystal, second, _ = rocksalt()
    with pytest.raises(StudyError, match="cell_average"):
        conductivity(crystal, second, 3, 1.0, "smeared")


def test_two_modes_of_a_set_part_as_their_diagonalised_velocities_say():
    """The closed form of two modes against eigenvectors of the velocities along every direction."""
    rng = numpy.random.default_rng(3)
    cells, width = 0.1 * rng.normal(size=(2, 3, 3)), 0.2
    directions = (coherence._FACES @ cells.swapaxes(1, 2)).reshape(-1, 3)
    for size in (0.01, 1.0, 100.0):
        block = size * (rng.normal(size=(3, 2, 2)) + 1j * rng.normal(size=(3, 2, 2)))
        block = block + block.conj().swapaxes(1, 2)
        slopes, vectors = numpy.linalg.eigh(numpy.einsum("dx,xst->dst", directions, block))
        between = (vectors.conj().swapaxes(1, 2)[:, None] @ block @ vectors[:, None])[:, :, 0, 1]
        lorentz = coherence._lorentzian(slopes[:, 1] - slopes[:, 0], width) * numpy.tile(coherence._FACE_WEIGHTS, 2)
        wanted = numpy.einsum("d,dx,dy->xy", lorentz, between, between.conj()).real  # 2 orders of the pair, 2 cells
        assert coherence._inside_set(block, width / 2, cells) == pytest.approx(wanted, rel=1e-10, abs=1e-12 * size**2)
