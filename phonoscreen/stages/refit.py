"""A structure fitted again for a check, with the settings of the study that the check does not vary."""

from phonoscreen.crystal.constants import SecondOrder
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.phonons.dipoles import dipole_constants
from phonoscreen.stages.transport import Task


def fit_task(crystal, basis, samples, force_constants, transport):
    """Fit the force constants of one structure as the stages of the study do, and return what is to be solved.

    Parameters
    ----------
    crystal : ``Crystal``
    basis : ``SymmetryBasis``
    samples : dict of the arguments ``displacements, forces, residual_forces`` and ``charges`` (None where unknown) of
        ``ForceConstantFitter.fit``
    force_constants, transport : sections of the study's settings

    Returns
    -------
    ``phonoscreen.stages.transport.Task``
    """
    fitted = ForceConstantFitter(basis, FitSettings.from_section(force_constants)).fit(crystal, **samples)
    second, charges = basis.expand_second(fitted.parameters), samples.get("charges")
    if charges is not None:
        dipoles = dipole_constants(crystal, basis.repetitions, *charges)
        second = SecondOrder(second.repetitions, second.values + dipoles.values)
    corrected = charges if transport["non_analytic_correction"] else None
    return Task(crystal, second, basis.expand_third(fitted.parameters), charges=corrected)
