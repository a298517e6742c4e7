"""Thermal conductivity of nanowires whose surface scatters phonons in every direction.

A phonon in the wire left the surface with no memory of the temperature gradient. Its displacement at a point is that of
the bulk times 1 - exp(-s / L), s being the way from the surface and L its mean free path, both across the wire. The
conductivity takes the average over a circular cross-section: W. Li et al., Phys. Rev. B 85, 195436 (2012); W. Li et
al., Comput. Phys. Commun. 185, 1747 (2014). With the relaxation times of the bulk this is ShengBTE's lower bound.
"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.special import iv, modstruve

from phonoscreen.crystal import units
from phonoscreen.phonons.modes import MeshModes
from phonoscreen.transport.boltzmann import TO_W_PER_M_K, velocity_products

_THIN, _WIDE = 1e-6, 20.0  # between them the closed form loses no more than eight digits to cancellation


@dataclass(frozen=True)
class Nanowires:
    """Wires of some directions and diameters.

    Parameters
    ----------
    directions : (n_direction, 3) unit vectors along the axes
    diameters_nm : (n_diameter,) of the circular cross-section
    """

    directions: NDArray
    diameters_nm: NDArray


def cross_section_average(ratio: NDArray) -> NDArray:
    """Average of 1 - exp(-s / L) over a circle, s being the distance from its edge along one direction.

    With x = 2 R / L it is 1 - (2 / x) [I1(x) - L1(x)], I1 and L1 being the modified Bessel and Struve functions of
    order 1: 4 x / (3 pi) for thin wires, 1 - 4 / (pi x) for wide ones.

    Parameters
    ----------
    ratio : x, the diameter divided by the mean free path across the wire; may be infinite

    Returns
    -------
    numbers from 0 to 1, of the same shape
    """
    ratio = numpy.asarray(ratio, float)
    thin, wide = ratio < _THIN, ratio > _WIDE
    x = numpy.where(thin | wide, 1.0, ratio)
    square = numpy.where(wide, ratio, _WIDE) ** -2.0
    series = 1 - 4 / numpy.pi * numpy.sqrt(square) * (1 - square - 3 * square**2 - 45 * square**3)
    return numpy.select([thin, wide], [4 / (3 * numpy.pi) * ratio, series], 1 - 2 / x * (iv(1, x) - modstruve(1, x)))


def wire_conductivity(
    modes: MeshModes, linewidth: NDArray, wires: Nanowires, volume: float, temperature_k: float, degeneracy: str
) -> NDArray:
    """Conductivity of nanowires along their axes, with the relaxation times of the bulk.

    A mode that runs along the axis never meets the surface. On a mesh it stands for all directions inside its cell of
    wave vectors, so it is taken to run at the angle of half a step of the mesh to the axis (tangent 1 / 2N, as in
    ShengBTE).

    Parameters
    ----------
    modes : of the bulk
    linewidth : (n_irr, n_band) full width Gamma = 1/tau, 1/ps
    wires : directions and diameters
    volume : of the primitive cell, angstrom^3
    temperature_k : kelvin
    degeneracy : treatment of degenerate bands, see ``MeshModes``

    Returns
    -------
    (n_direction, n_diameter, n_band) W/m/K
    """
    mesh = modes.mesh
    products = velocity_products(modes, degeneracy)
    squares = numpy.trace(products, axis1=2, axis2=3)[mesh.star]
    lifetime = numpy.divide(1.0, linewidth, out=numpy.zeros_like(linewidth), where=linewidth > 0)[mesh.star]
    heat = units.mode_heat_capacity(modes.mesh_omega, temperature_k) * TO_W_PER_M_K / (volume * len(mesh.points))
    found = numpy.empty((len(wires.directions), len(wires.diameters_nm), modes.omega.shape[1]))
    for n, direction in enumerate(wires.directions):
        axes = numpy.einsum("qxy,x->qy", mesh.rotations[mesh.operation], direction)  # seen from the irreducible point
        along = numpy.einsum("qx,qsxy,qy->qs", axes, products[mesh.star], axes)
        across = numpy.where(squares - along <= 1e-8 * along, along / (4 * len(mesh.points) ** (2 / 3) + 1),
                             squares - along)  # fmt: skip
        free_path_nm = numpy.sqrt(numpy.maximum(across, 0)) * lifetime / 10
        for m, diameter in enumerate(wires.diameters_nm):
            ratio = numpy.full_like(free_path_nm, numpy.inf)
            numpy.divide(diameter, free_path_nm, out=ratio, where=free_path_nm > 0)
            found[n, m] = (heat * along * lifetime * cross_section_average(ratio)).sum(axis=0)
    return found
