"""Isotope scattering."""

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.transport import kernels
from phonoscreen.transport.modes import broadening_steps


def mass_variances(numbers):
    """Return g = sum_i f_i (1 - m_i / mean)^2 of the natural isotopes of each atom.

    Isotope masses and abundances of phonopy's compilation.

    Parameters
    ----------
    numbers : (n_atoms,) atomic numbers

    Raises
    ------
    StudyError
        If an element has no natural isotopes.
    """
    from ase.data import chemical_symbols
    from phonopy.structure.atomic_data import get_atomic_data

    isotopes = get_atomic_data().isotope_data
    variances = {}
    for number in set(numpy.asarray(numbers).tolist()):
        symbol = chemical_symbols[number]
        if not isotopes.get(symbol):
            raise StudyError(f"no natural isotopes known for {symbol}", where="transport",
                             fix="switch isotope scattering off for this crystal")  # fmt: skip
        _, masses, fractions = numpy.array(isotopes[symbol], float).T
        mean = (masses * fractions).sum()
        variances[number] = (fractions * (1 - masses / mean) ** 2).sum()
    return numpy.array([variances[number] for number in numpy.asarray(numbers).tolist()])


def isotope_rates(crystal, modes, variances, scalebroad=1.0):
    """Return the isotope scattering rates of the irreducible modes, 1/ps.

    S. Tamura, Phys. Rev. B 27, 858 (1983), Eq. (3.4), with the adaptive broadening of the transport.

    Parameters
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``
    modes : ``phonoscreen.transport.modes.MeshModes``
    variances : (n_atoms,) from ``mass_variances``
    scalebroad : factor on the broadening

    Returns
    -------
    (n_irr, n_band)
    """
    mesh = modes.mesh
    sums = numpy.zeros(modes.omega.shape)
    kernels.elastic(
        numpy.ascontiguousarray(modes.irreducible_eigenvectors), modes.eigenvectors,
        numpy.ascontiguousarray(modes.mesh_omega), broadening_steps(modes, crystal, scalebroad),
        numpy.asarray(variances, float), mesh.irreducible, sums,
    )  # fmt: skip
    return numpy.pi / 2 / len(mesh.points) * modes.omega**2 * sums
