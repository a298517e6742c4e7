"""Nanowires: the average over the cross-section, and the limits of thin and of wide wires."""

import numpy
import pytest
from scipy.integrate import quad

from phonoscreen.crystal import units
from phonoscreen.transport.boltzmann import velocity_products
from phonoscreen.transport.nanowires import Nanowires, cross_section_average, wire_conductivity
from phonoscreen.transport.solve import Settings, solve
from tests import transport_models


def test_the_average_is_the_integral_over_the_circle():
    """By quadrature over the chords of a circle of radius 1; a point of a chord is as likely as any other."""
    for ratio in (0.01, 0.3, 1.0, 5.0, 19.9, 20.1, 100.0):
        path = 2 / ratio

        def chord(y, path=path):
            length = 2 * numpy.sqrt(1 - y * y)
            return length - path * -numpy.expm1(-length / path)

        expected = 2 * quad(chord, 0, 1, epsabs=1e-12)[0] / numpy.pi
        assert cross_section_average(ratio) == pytest.approx(expected, rel=1e-7)


def test_the_average_grows_from_none_to_all():
    ratios = numpy.array([0, 1e-9, 1e-5, *numpy.geomspace(1e-3, 1e6, 500), numpy.inf])
    values = cross_section_average(ratios)
    assert values[0] == 0 and values[-1] == 1 and (numpy.diff(values) >= 0).all()
    assert values[1:3] == pytest.approx(4 * ratios[1:3] / (3 * numpy.pi), rel=1e-5)


@pytest.fixture(scope="module")
def bulk():
    crystal, second, third = transport_models.rocksalt()
    return crystal, solve(crystal, second, third, (6, 6, 6), Settings(temperatures_k=300, full_solution=False))


def conductivity(bulk, directions, diameters_nm):
    crystal, solution = bulk
    directions = numpy.array(directions, float)
    directions /= numpy.linalg.norm(directions, axis=1)[:, None]
    wires = Nanowires(directions, numpy.array(diameters_nm, float))
    return wire_conductivity(solution.modes, solution.linewidth[0], wires, crystal.volume, 300.0, "sets")


def test_wide_wires_conduct_as_the_bulk(bulk):
    found = conductivity(bulk, [[0, 0, 1], [1, 2, 3]], [1e12])
    assert found.sum(axis=2) == pytest.approx(bulk[1].rta[0].kappa[0, 0], rel=1e-6)
    assert found[:, 0] == pytest.approx(numpy.tile(bulk[1].rta[0].history[0][:, 0, 0], (2, 1)), rel=1e-6)


def test_thin_wires_conduct_in_proportion_to_their_diameter_whatever_the_relaxation_times(bulk):
    """kappa = sum of C v_z^2 4 D / (3 pi v_perp): the surface alone limits the way."""
    first, second = conductivity(bulk, [[1, 2, 3]], [1e-6, 2e-6])[0].sum(axis=1)
    assert second == pytest.approx(2 * first, rel=1e-4)
    crystal, modes = bulk[0], bulk[1].modes
    rotations, axis = modes.mesh.rotations[modes.mesh.operation], numpy.array([1, 2, 3]) / numpy.sqrt(14)
    products = numpy.einsum("qax,qsxy,qby->qsab", rotations, velocity_products(modes)[modes.mesh.star], rotations)
    along = products @ axis @ axis
    across = numpy.sqrt(numpy.trace(products, axis1=2, axis2=3) - along)
    counted = (across > 0) & (bulk[1].linewidth[0][modes.mesh.star] > 0)
    terms = numpy.divide(along, across, out=numpy.zeros_like(along), where=counted)
    total = (units.mode_heat_capacity(modes.mesh_omega, 300.0) * terms).sum() / crystal.volume / len(modes.mesh.points)
    assert first == pytest.approx(total * 1e22 * 4e-5 / (3 * numpy.pi), rel=1e-4)


def test_equivalent_directions_conduct_alike_and_none_beyond_the_bulk(bulk):
    found = conductivity(bulk, [[1, 1, 0], [0, 1, -1], [-1, 0, 1]], [3, 30, 300]).sum(axis=2)
    assert found == pytest.approx(numpy.tile(found[0], (3, 1)), rel=1e-6)
    assert (numpy.diff(found, axis=1) > 0).all() and found.max() < bulk[1].rta[0].kappa[0, 0]
