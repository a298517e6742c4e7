"""Isotope scattering."""

import numpy
from ase.data import atomic_masses

from phonoscreen.audit.errors import StudyError
from phonoscreen.phonons.modes import broadening_steps
from phonoscreen.transport import kernels

NATURAL = 2.5e-4
"""A mass is the natural one if it is within this, relative, of the mean of the isotopes or of the standard atomic mass;
the two differ by up to 4.4e-4 (zinc), pure 16O from both by 2.6e-4."""


def natural_isotopes(number):
    """Return mean mass (u) and mass variance g = sum_i f_i (1 - m_i / mean)^2 of an element's natural isotopes.

    Isotope masses and abundances of phonopy's compilation.

    Parameters
    ----------
    number : atomic number

    Raises
    ------
    StudyError
        If the element has no natural isotopes.
    """
    from ase.data import chemical_symbols
    from phonopy.structure.atomic_data import get_atomic_data

    symbol = chemical_symbols[int(number)]
    isotopes = get_atomic_data().isotope_data.get(symbol)
    if not isotopes:
        raise StudyError(f"no natural isotopes known for {symbol}", where="transport",
                         fix="switch isotope scattering off: --no-isotopes, isotopes=.FALSE. of CONTROL, or "
                         "transport.isotopes of a study")  # fmt: skip
    _, masses, fractions = numpy.array(isotopes, float).T
    fractions = fractions / fractions.sum()
    mean = (masses * fractions).sum()
    return mean, (fractions * (1 - masses / mean) ** 2).sum()


def mass_variances(numbers, masses=None):
    """Return the mass variance of the isotopes of each atom.

    Atoms whose mass is not the natural one are of one isotope, or of a mixture nobody has told: their variance is zero.

    Parameters
    ----------
    numbers : (n_atoms,) atomic numbers
    masses : (n_atoms,) masses, u; None for the natural ones

    Returns
    -------
    (n_atoms,)
    """
    numbers = numpy.asarray(numbers).tolist()
    found = {number: natural_isotopes(number) for number in set(numbers)}
    if masses is None:
        return numpy.array([found[number][1] for number in numbers])
    natural = [(atomic_masses[number], *found[number]) for number in numbers]
    return numpy.array([
        variance if min(abs(mass / standard - 1), abs(mass / mean - 1)) < NATURAL else 0.0
        for mass, (standard, mean, variance) in zip(numpy.asarray(masses).tolist(), natural, strict=True)
    ])  # fmt: skip


def isotope_rates(modes, variances):
    """Return the isotope scattering rates of the irreducible modes, 1/ps.

    S. Tamura, Phys. Rev. B 27, 858 (1983), Eq. (3.4), with the broadening of ``elastic_widths``.

    Parameters
    ----------
    modes : ``phonoscreen.phonons.modes.MeshModes``
    variances : (n_atoms,) from ``mass_variances``

    Returns
    -------
    (n_irr, n_band)
    """
    mesh = modes.mesh
    sums = numpy.zeros(modes.omega.shape)
    kernels.elastic(
        numpy.ascontiguousarray(modes.irreducible_eigenvectors), modes.eigenvectors,
        numpy.ascontiguousarray(modes.mesh_omega), elastic_widths(broadening_steps(modes, 1.0)),
        numpy.asarray(variances, float), mesh.irreducible, sums,
    )  # fmt: skip
    return numpy.pi / 2 / len(mesh.points) * modes.omega**2 * sums


def elastic_widths(steps):
    """Return the broadening of each mode for densities of states and elastic scattering.

    The width of ``broadening_steps``, but no less than exp(Q1 - 1.5 (Q3 - Q1)) with Q the quartiles of the logarithms
    of all widths: flat bands would otherwise give spikes (W. Li et al., Comput. Phys. Commun. 185, 1747 (2014)).

    Parameters
    ----------
    steps : (n_q, n_band, 3) rad/ps

    Returns
    -------
    (n_q, n_band) rad/ps
    """
    widths = numpy.linalg.norm(steps, axis=2)
    ordered = numpy.sort(widths, axis=None)
    n = ordered.size
    # log of the noise of a vanishing velocity would dominate the quartiles no more than a rounded one
    first, third = numpy.log(numpy.maximum([ordered[25 * n // 100 - 1], ordered[75 * n // 100 - 1]], 1e-12))
    return numpy.maximum(widths, numpy.exp(first - 1.5 * (third - first)))
