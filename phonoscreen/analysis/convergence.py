"""Thermal conductivity of one structure against the choices of a calculation, one at a time."""

from dataclasses import replace

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.basis import build_basis
from phonoscreen.lattice.cutoffs import choose_cutoff
from phonoscreen.lattice.fit import ForceConstantFitter
from phonoscreen.lattice.settings import FitSettings
from phonoscreen.transport.mesh import automatic_mesh
from phonoscreen.transport.solve import solve
from phonoscreen.transport.stage import settings_of

KAPPAS = ["kappa_p_rta_w_per_m_k", "kappa_p_w_per_m_k", "kappa_c_w_per_m_k"]


def convergence(crystal, repetitions, samples, force_constants, transport, choices):
    """Vary the q mesh, the broadening and the third-order cutoff around the study's own choice.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    samples : dict of the arguments ``displacements, forces, residual_forces`` of ``ForceConstantFitter.fit``
    force_constants, transport : sections of the study's settings
    choices : section ``convergence``: ``mesh_densities_angstrom, scalebroads, third_cutoffs_angstrom``

    Returns
    -------
    list of dicts ``varied, value, study`` (is it the study's own choice), ``mesh, reason`` and ``KAPPAS``; cutoffs are
    those used, in the gaps between shells. A cutoff that these supercells cannot determine has a reason and NaN.

    Raises
    ------
    StudyError
        If the study's own choice cannot be solved.
    """
    settings, density = settings_of(transport), transport["mesh_density_angstrom"]
    mesh, rows = automatic_mesh(crystal, density), []

    def add(varied, value, study, mesh, constants, settings):
        found = solve(crystal, *constants, mesh, settings)
        tensors = (found.rta[0].kappa, found.full[0].kappa, found.coherence[0])
        row = {"varied": varied, "value": float(value), "study": bool(study), "mesh": _text(mesh), "reason": ""}
        rows.append(row | {name: float(numpy.trace(x) / 3) for name, x in zip(KAPPAS, tensors, strict=True)})

    own_cutoff = choose_cutoff(crystal, repetitions, force_constants["third_cutoff_angstrom"]).value_angstrom
    own = _fit(crystal, repetitions, samples, force_constants, own_cutoff)
    for value in sorted({*choices["mesh_densities_angstrom"], density}):
        add("mesh_density_angstrom", value, value == density, automatic_mesh(crystal, value), own, settings)
    for value in sorted({*choices["scalebroads"], settings.scalebroad}):
        scaled = replace(settings, scalebroad=value)
        add("scalebroad", value, value == settings.scalebroad, mesh, own, scaled)
    add("third_cutoff_angstrom", own_cutoff, True, mesh, own, settings)
    tried = {own_cutoff}
    for largest in choices["third_cutoffs_angstrom"]:
        cutoff = largest
        try:
            cutoff = choose_cutoff(crystal, repetitions, largest).value_angstrom
            if cutoff not in tried:
                constants = _fit(crystal, repetitions, samples, force_constants, cutoff)
                add("third_cutoff_angstrom", cutoff, False, mesh, constants, settings)
        except StudyError as error:
            row = {"varied": "third_cutoff_angstrom", "value": cutoff, "study": False, "mesh": _text(mesh)}
            rows.append(row | {"reason": str(error), **dict.fromkeys(KAPPAS, numpy.nan)})
        tried.add(cutoff)
    return sorted(rows, key=lambda row: (row["varied"], row["value"]))


def _fit(crystal, repetitions, samples, force_constants, cutoff_angstrom):
    basis = build_basis(crystal, repetitions, (None, cutoff_angstrom))
    fitter = ForceConstantFitter(basis, FitSettings.from_section(force_constants))
    parameters = fitter.fit(crystal, **samples).parameters
    return basis.expand_second(parameters), basis.expand_third(parameters)


def _text(mesh):
    return " ".join(str(n) for n in mesh)
