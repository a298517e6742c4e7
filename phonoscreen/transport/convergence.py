"""Thermal conductivity against q mesh and broadening."""

from dataclasses import replace

import numpy

from phonoscreen.transport.mesh import automatic_mesh
from phonoscreen.transport.solve import solve


def convergence(crystal, second, third, settings, density_angstrom, *, densities, scalebroads):
    """Vary one setting at a time around the study's.

    Parameters
    ----------
    crystal, second, third : one structure
    settings : ``phonoscreen.transport.solve.Settings`` of the study
    density_angstrom : mesh density of the study
    densities, scalebroads : values to try

    Returns
    -------
    list of dicts ``varied, value, mesh, kappa_p_rta_w_per_m_k, kappa_p_w_per_m_k, kappa_c_w_per_m_k``
    """
    rows = []

    def add(varied, value, density, settings):
        mesh = automatic_mesh(crystal, density)
        found = solve(crystal, second, third, mesh, settings)
        rows.append({
            "varied": varied, "value": float(value), "mesh": " ".join(str(n) for n in mesh),
            "kappa_p_rta_w_per_m_k": float(numpy.trace(found.rta[0].kappa) / 3),
            "kappa_p_w_per_m_k": float(numpy.trace(found.full[0].kappa) / 3),
            "kappa_c_w_per_m_k": float(numpy.trace(found.coherence[0]) / 3),
        })  # fmt: skip

    for density in densities:
        add("mesh_density_angstrom", density, density, settings)
    for scale in scalebroads:
        add("scalebroad", scale, density_angstrom, replace(settings, scalebroad=scale))
    return rows
