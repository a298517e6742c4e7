"""From a crystal and its force constants to its thermal conductivity: every step in one call."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.mesh import Mesh, build_mesh
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, LatticeSum, average_over_sets, frequencies
from phonoscreen.phonons.modes import MeshModes, UnstableCrystal, check_stability, solve_mesh_modes
from phonoscreen.transport.boltzmann import (
    Populations,
    iterate,
    relaxation_time,
    velocity_products,
)  # fmt: skip
from phonoscreen.transport.coherence import coherence_conductivity
from phonoscreen.transport.isotopes import isotope_rates, mass_variances
from phonoscreen.transport.mesh_error import MeshError, coarser_meshes, estimate
from phonoscreen.transport.scattering import ThreePhononRates, three_phonon_rates
from phonoscreen.transport.third_order import check_anharmonicity

SHORTEST_ANGSTROM, LONGEST_ANGSTROM = 0.5, 1000.0
"""Lattice vectors of crystals lie between these."""

CLOSEST_ANGSTROM = 0.3
"""No two atoms of a crystal are as close as this (hydrogen molecule: 0.74)."""


@dataclass
class Settings:
    """How the Boltzmann equation is solved.

    Attributes
    ----------
    temperatures_k : kelvin, one or several
    scalebroad : factor on the adaptive broadening
    isotopes : include isotope scattering
    mass_variances : (n_atoms,) mass variance of each atom, or None for natural abundances
    boundary_length_nm : boundary scattering rate |v| / L, or None
    omega_max : modes above it have no three-phonon processes of their own, as in ShengBTE, rad/ps, or None
    full_solution : also iterate beyond the relaxation-time approximation
    iterations_max, tolerance : of the iteration
    coherence_sum : "cell_average" or "bare", see ``phonoscreen.transport.coherence``
    degeneracy : "sets" or "shengbte", see ``phonoscreen.phonons.modes.MeshModes``
    imaginary_threshold_thz : see ``solve_mesh_modes``
    single_precision : three-phonon matrix elements in single precision
    mesh_error : also estimate how far kappa is from its limit of dense meshes, see ``phonoscreen.transport.mesh_error``
    memory_gib : largest matrix of the full solution kept in memory, see ``three_phonon_rates``
    threads : threads that share the irreducible wave vectors
    """

    temperatures_k: tuple = (300.0,)
    scalebroad: float = 1.0
    isotopes: bool = True
    mass_variances: numpy.ndarray | None = None
    boundary_length_nm: float | None = None
    omega_max: float | None = None
    full_solution: bool = True
    iterations_max: int = 500
    tolerance: float = 1e-5
    coherence_sum: str = "cell_average"
    degeneracy: str = "sets"
    imaginary_threshold_thz: float = 0.1
    single_precision: bool = False
    mesh_error: bool = False
    memory_gib: float = 16.0
    threads: int = 1

    def __post_init__(self) -> None:
        self.temperatures_k = tuple(float(t) for t in numpy.atleast_1d(self.temperatures_k))
        if not self.temperatures_k or not all(numpy.isfinite(t) and t > 0 for t in self.temperatures_k):
            raise StudyError(f"temperatures {list(self.temperatures_k)} K: each must be above 0", where="transport",
                             fix="give temperatures in kelvin, for example 300")  # fmt: skip
        if not 0 < self.scalebroad < numpy.inf:
            raise StudyError(f"scalebroad {self.scalebroad} must be above 0", where="transport", fix="use 1.0 or 0.1")


@dataclass
class Solution:
    """Phonons and heat transport of one crystal.

    Attributes
    ----------
    modes : MeshModes
    rates : ThreePhononRates
    isotope, boundary : (n_irr, n_band) rates, 1/ps
    linewidth : list over temperatures of (n_irr, n_band) full widths Gamma = 1/tau, 1/ps
    rta, full : lists over temperatures of Populations; ``full`` is empty without the iteration
    coherence, coherence_modes : lists over temperatures: (3, 3) W/m/K and (n_irr, n_band)
    mesh_error : list over temperatures of ``MeshError``, empty unless the settings ask for it
    """

    modes: MeshModes
    rates: ThreePhononRates
    isotope: numpy.ndarray
    boundary: numpy.ndarray
    linewidth: list = field(default_factory=list)
    rta: list[Populations] = field(default_factory=list)
    full: list[Populations] = field(default_factory=list)
    coherence: list = field(default_factory=list)
    coherence_modes: list = field(default_factory=list)
    mesh_error: list[MeshError] = field(default_factory=list)


@threadpool_limits.wrap(limits=1, user_api="blas")  # small matrices: threads of their own would only wait
def solve(
    crystal: Crystal,
    second: SecondOrder | LatticeSum,
    third: ThirdOrder,
    mesh: ArrayLike | Mesh,
    settings: Settings | None = None,
    *,
    correction: Callable[..., Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Solution:
    """Solve the phonon Boltzmann equation of a crystal.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    second : ``SecondOrder`` or ``phonoscreen.phonons.dynamical_matrix.LatticeSum``
    third : ``phonoscreen.crystal.constants.ThirdOrder``
    mesh : three integers, or a ``phonoscreen.crystal.mesh.Mesh``
    settings : Settings
    correction : long-range correction of the dynamical matrix, see ``phonoscreen.phonons.long_range``
    progress : function of (done, total) irreducible points, or None

    Returns
    -------
    Solution

    Raises
    ------
    UnstableCrystal
        If the crystal has imaginary frequencies.
    StudyError
        On input that does not fit together.
    """
    settings = settings or Settings()
    modes = _modes(crystal, second, mesh, settings, correction)
    check_anharmonicity(crystal, second.values, third.values)
    rates = three_phonon_rates(
        crystal, third, modes, settings.temperatures_k, scalebroad=settings.scalebroad,
        reduce=settings.degeneracy == "sets", transfer=settings.full_solution, memory_gib=settings.memory_gib,
        dtype=numpy.complex64 if settings.single_precision else numpy.complex128, threads=settings.threads,
        progress=progress,
    )  # fmt: skip
    if settings.omega_max is not None:
        rates.leave_out(modes.omega > settings.omega_max)
    solution = _conductivities(crystal, modes, rates, settings)
    if settings.mesh_error:
        quick = replace(settings, full_solution=False, mesh_error=False)

        def solve_on(shape):
            try:
                return solve(crystal, second, third, shape, quick, correction=correction)
            except UnstableCrystal as error:
                return error

        coarser = [(shape, solve_on(shape)) for shape in coarser_meshes(modes.mesh.shape)]
        solution.mesh_error = _mesh_error(solution, coarser)
    return solution


def check_modes(
    crystal: Crystal,
    second: SecondOrder | LatticeSum,
    mesh: ArrayLike | Mesh,
    settings: Settings,
    *,
    correction: Callable[..., Any] | None = None,
) -> None:
    """Raise UnstableCrystal if a crystal has imaginary frequencies on a mesh (arguments as in ``solve``).

    Only frequencies of the irreducible wave vectors are computed: force constants have the symmetry of the crystal.
    """
    check_crystal(crystal)
    mesh = mesh if isinstance(mesh, Mesh) else build_mesh(crystal, mesh)
    q = mesh.fractional[mesh.irreducible]
    omega = frequencies(DynamicalMatrix(crystal, second, correction), q)
    check_stability(omega, q, settings.imaginary_threshold_thz)


def harmonic(
    crystal: Crystal,
    second: SecondOrder | LatticeSum,
    mesh: ArrayLike | Mesh,
    settings: Settings,
    *,
    correction: Callable[..., Any] | None = None,
) -> tuple[MeshModes, ThreePhononRates, NDArray]:
    """Solve what needs no third-order constants.

    Parameters
    ----------
    crystal, second, mesh, settings, correction : as in ``solve``

    Returns
    -------
    modes : MeshModes
    rates : ThreePhononRates whose phase spaces hold; the rates themselves are 0
    isotope : (n_irr, n_band) rates, 1/ps
    """
    modes = _modes(crystal, second, mesh, settings, correction)
    nothing = ThirdOrder(numpy.zeros((1, 3), int), numpy.zeros((1, 2, 3), int), numpy.zeros((1, 3, 3, 3)))
    rates = three_phonon_rates(
        crystal, nothing, modes, settings.temperatures_k, scalebroad=settings.scalebroad,
        reduce=settings.degeneracy == "sets", transfer=False, threads=settings.threads,
    )  # fmt: skip
    if settings.omega_max is not None:
        rates.leave_out(modes.omega > settings.omega_max)
    return modes, rates, _isotope(crystal, modes, settings)


def _mesh_error(solution, coarser):
    """Return the MeshError of each temperature.

    Parameters
    ----------
    coarser : list of (mesh, Solution or the error that it raised: an imaginary mode that the finer one does not hold)
    """
    known = [(mesh, _means(found)) for mesh, found in coarser if isinstance(found, Solution)]
    shape = solution.modes.mesh.shape
    return [estimate(own, shape, [(mesh, means[t]) for mesh, means in known])
            for t, own in enumerate(_means(solution))]  # fmt: skip


def _means(solution):
    """Return the means of the diagonals of kappa_p, in the relaxation-time approximation, and kappa_c."""
    return [(numpy.trace(rta.kappa) / 3, numpy.trace(coherence) / 3)
            for rta, coherence in zip(solution.rta, solution.coherence, strict=True)]  # fmt: skip


def _modes(crystal, second, mesh, settings, correction):
    check_crystal(crystal)
    if not isinstance(mesh, Mesh):
        mesh = build_mesh(crystal, mesh)
    return solve_mesh_modes(
        DynamicalMatrix(crystal, second, correction), mesh, degeneracy=settings.degeneracy,
        imaginary_threshold_thz=settings.imaginary_threshold_thz,
    )  # fmt: skip


def _conductivities(crystal, modes, rates, settings):
    """Return the Solution that modes and three-phonon rates give."""
    by_sets = settings.degeneracy == "sets"
    isotope = _isotope(crystal, modes, settings)
    boundary = numpy.zeros_like(modes.omega)
    if settings.boundary_length_nm is not None:
        boundary = numpy.linalg.norm(modes.velocities, axis=2) / (10 * settings.boundary_length_nm)
    solution = Solution(modes, rates, isotope, boundary)
    products = velocity_products(modes, settings.degeneracy)
    for t, temperature in enumerate(settings.temperatures_k):
        linewidth = rates.absorption[t] + rates.emission[t] + isotope + boundary
        if by_sets:
            linewidth = average_over_sets(linewidth, modes.sets)
        arguments = (products, crystal.volume, temperature)
        solution.linewidth.append(linewidth)
        solution.rta.append(relaxation_time(modes, linewidth, *arguments))
        if settings.full_solution:
            solution.full.append(
                iterate(modes, linewidth, rates.transfer[t], *arguments,
                        iterations_max=settings.iterations_max, tolerance=settings.tolerance)
            )  # fmt: skip
        kappa, parts = coherence_conductivity(
            modes, linewidth, crystal.volume, temperature, sum_over=settings.coherence_sum
        )  # fmt: skip
        solution.coherence.append(kappa)
        solution.coherence_modes.append(parts)
    return solution


def _isotope(crystal, modes, settings):
    """Isotope scattering rates, (n_irr, n_band), 1/ps."""
    if not settings.isotopes:
        return numpy.zeros_like(modes.omega)
    variances = settings.mass_variances
    return isotope_rates(modes, mass_variances(crystal.numbers, crystal.masses) if variances is None else variances)


def check_crystal(crystal: Crystal) -> None:
    """Raise StudyError if the crystal's arrays do not fit together, or hold NaN or what no crystal has."""
    n = len(numpy.atleast_1d(crystal.numbers))
    arrays = {"cell": (crystal.cell, (3, 3)), "scaled_positions": (crystal.scaled_positions, (n, 3)),
              "masses": (crystal.masses, (n,))}  # fmt: skip
    for name, (array, shape) in arrays.items():
        if numpy.shape(array) != shape or not numpy.isfinite(array).all():
            raise StudyError(f"{name} of the crystal is not a finite array of shape {shape}", where="transport",
                             fix="check the structure file")  # fmt: skip
    if n == 0 or crystal.volume < 1e-6 or numpy.min(crystal.masses) <= 0:
        raise StudyError("the crystal has no atoms, no volume, or an atom without mass", where="transport",
                         fix="check the structure file")  # fmt: skip
    lengths = numpy.linalg.norm(crystal.cell, axis=1)
    flat = crystal.volume / lengths.prod()
    if lengths.min() < SHORTEST_ANGSTROM or lengths.max() > LONGEST_ANGSTROM or flat < 1e-3:
        raise StudyError(f"lattice vectors of {', '.join(f'{x:.3g}' for x in lengths)} A and a volume of "
                         f"{crystal.volume:.3g} A^3", where="transport", fix="check the cell and its unit")  # fmt: skip
    step = crystal.scaled_positions[:, None] - crystal.scaled_positions
    distance = numpy.linalg.norm((step - numpy.rint(step)) @ crystal.cell, axis=2)
    numpy.fill_diagonal(distance, numpy.inf)
    if distance.min() < CLOSEST_ANGSTROM:
        one, other = numpy.unravel_index(distance.argmin(), distance.shape)
        raise StudyError(f"atoms {one + 1} and {other + 1} are {distance.min():.3f} A from each other",
                         where="transport", fix="check the positions: they count lattice vectors")  # fmt: skip
