"""Mode Grueneisen parameters from third-order force constants."""

from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.crystal import units
from phonoscreen.crystal.constants import Crystal, ThirdOrder
from phonoscreen.phonons.modes import MeshModes


def mode_gruneisen(crystal: Crystal, third: ThirdOrder, modes: MeshModes) -> NDArray:
    """Return the Grueneisen parameter of each irreducible mode.

    gamma = -1/(6 omega^2) sum_bc Phi(0a, R_b b, R_c c) e_a^* e_b exp(i q.R_b) (r_c)_z / sqrt(m_a m_b), D. A. Broido,
    A. Ward and N. Mingo, Phys. Rev. B 72, 014308 (2005); W. Li et al., Comput. Phys. Commun. 185, 1747 (2014).

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    third : ``phonoscreen.crystal.constants.ThirdOrder``
    modes : ``phonoscreen.phonons.modes.MeshModes``

    Returns
    -------
    (n_irr, n_band); 0 where the frequency is 0
    """
    atoms, cells = numpy.asarray(third.atoms), numpy.asarray(third.cells)
    n = len(crystal.masses)
    masses = numpy.asarray(crystal.masses, float)
    reach = (cells[:, 1] + numpy.asarray(crystal.scaled_positions)[atoms[:, 2]]) @ crystal.cell
    strained = numpy.einsum("txyz,tz->txy", third.values, reach)
    strained /= numpy.sqrt(masses[atoms[:, 0]] * masses[atoms[:, 1]])[:, None, None]
    vectors, slot = numpy.unique(cells[:, 0], axis=0, return_inverse=True)
    table = numpy.zeros((len(vectors), n, 3, n, 3))
    places: Any = (slot.ravel(), atoms[:, 0], slice(None), atoms[:, 1])
    numpy.add.at(table, places, strained)
    q = modes.mesh.fractional[modes.mesh.irreducible]
    phases = numpy.exp(2j * numpy.pi * (q @ vectors.T))
    matrices = (phases @ table.reshape(len(vectors), -1)).reshape(len(q), 3 * n, 3 * n)
    rows = modes.irreducible_eigenvectors
    change = numpy.einsum("qsi,qij,qsj->qs", rows.conj(), matrices, rows).real * units.SQUARED_FREQUENCY
    positive = modes.omega > 0
    return numpy.where(positive, -change / (6 * numpy.where(positive, modes.omega, 1.0) ** 2), 0.0)


def mean_gruneisen(gruneisen: NDArray, modes: MeshModes, temperature_k: float) -> float:
    """Return the mean of the Grueneisen parameters, weighted by the heat capacities of the modes."""
    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    return float((heat * gruneisen).sum() / heat.sum())
