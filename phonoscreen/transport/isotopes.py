"""Isotope scattering."""

import numpy
from ase.data import atomic_masses
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.phonons.modes import MeshModes, broadening_steps
from phonoscreen.transport import kernels

NATURAL = 2.5e-4
"""A mass is the natural one if it is within this, relative, of the mean of the isotopes or of the standard atomic mass;
the two differ by up to 4.4e-4 (zinc), pure 16O from both by 2.6e-4."""


def natural_isotopes(number: int) -> tuple[float, float]:
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


def mass_variances(numbers: ArrayLike, masses: ArrayLike | None = None) -> NDArray:
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
    variances = numpy.array([natural_isotopes(number)[1] for number in numpy.asarray(numbers).tolist()])
    return variances if masses is None else numpy.where(_is_natural(numbers, masses), variances, 0.0)


def isotope_doubts(numbers: NDArray, masses: NDArray) -> list[str]:
    """Return a sentence on atoms that have no isotope scattering because of their mass, in a list, or an empty list.

    A pure isotope is meant so; a natural mass with too few digits is not, and no number tells one from the other.

    Parameters
    ----------
    numbers, masses : (n_atoms,) of a crystal
    """
    from ase.data import chemical_symbols

    own = ~_is_natural(numbers, masses)
    kinds = sorted(set(zip(numpy.asarray(numbers)[own].tolist(), numpy.asarray(masses, float)[own].tolist())))
    if not kinds:
        return []
    named = ", ".join(f"{chemical_symbols[number]} {mass:.8g} u (natural {atomic_masses[number]:.8g})"
                      for number, mass in kinds)  # fmt: skip
    return [f"no isotope scattering by {named}: the masses given are not the natural ones, so that these atoms count "
            "as of one isotope; if they are natural, give their masses with all digits, else their mass variances as "
            "gfactors of CONTROL with autoisotopes=.FALSE."]  # fmt: skip


def _is_natural(numbers, masses):
    """Whether each mass is that of the natural isotopes: (n_atoms,) booleans; False where an element has none."""
    from ase.data import chemical_symbols
    from phonopy.structure.atomic_data import get_atomic_data

    numbers, masses = numpy.asarray(numbers), numpy.asarray(masses, float)
    isotopes = get_atomic_data().isotope_data
    means = [natural_isotopes(n)[0] if isotopes.get(chemical_symbols[n]) else numpy.inf for n in numbers.tolist()]
    return numpy.minimum(abs(masses / atomic_masses[numbers] - 1), abs(masses / numpy.array(means) - 1)) < NATURAL


def isotope_rates(modes: MeshModes, variances: NDArray) -> NDArray:
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


def elastic_widths(steps: NDArray) -> NDArray:
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
