"""A structure fitted again for a check, with the settings of the study that the check does not vary."""

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from phonoscreen.crystal.constants import SecondOrder
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings
from phonoscreen.phonons.dipoles import dipole_constants
from phonoscreen.stages.transport import Task

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal
    from phonoscreen.force_constants.basis import SymmetryBasis
    from phonoscreen.force_constants.fit import FittedForceConstants


def fit_task(crystal: "Crystal", basis: "SymmetryBasis", samples: dict, force_constants: dict, transport: dict) -> Task:
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
    return task_of(crystal, basis, fitted, samples.get("charges"), transport)


def task_of(
    crystal: "Crystal",
    basis: "SymmetryBasis",
    fitted: "FittedForceConstants",
    charges: tuple[NDArray, NDArray] | None,
    transport: dict,
) -> Task:
    """Return what is to be solved of fitted force constants, a committee's included.

    Parameters
    ----------
    crystal : ``Crystal``
    basis : ``SymmetryBasis``
    fitted : ``FittedForceConstants``
    charges : Born charges and dielectric tensor that the fit knew, or None
    transport : section of the study's settings

    Returns
    -------
    ``phonoscreen.stages.transport.Task``
    """
    dipoles = 0.0 if charges is None else dipole_constants(crystal, basis.repetitions, *charges).values

    def expand(parameters):
        second = basis.expand_second(parameters)
        return SecondOrder(second.repetitions, second.values + dipoles), basis.expand_third(parameters)

    committee = () if fitted.parameters_committee is None else tuple(map(expand, fitted.parameters_committee))
    corrected = charges if transport["non_analytic_correction"] else None
    second, third = expand(fitted.parameters)
    return Task(crystal, second, third, committee, corrected)
