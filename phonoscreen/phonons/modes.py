"""Phonon modes of a whole q mesh, solved once and shared by every property."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.crystal.mesh import Mesh
from phonoscreen.phonons.dynamical_matrix import (
    ZERO_THZ,
    DynamicalMatrix,
    acoustic_at_gamma,
    average_over_sets,
    degenerate_sets,
    velocity_matrices,
)


class UnstableCrystal(StudyError):
    """Imaginary frequencies away from Gamma: the harmonic crystal has no equilibrium to conduct heat around."""


@dataclass
class MeshModes:
    """Modes of a mesh; bands ascend in frequency.

    Rule for degenerate bands (``degeneracy="sets"``): modes of one wave vector closer than the tolerance form a set;
    frequency and group velocity of a mode are the means over its set, so nothing depends on the eigenvectors chosen
    inside it. With ``degeneracy="shengbte"`` each eigenvector keeps its own velocity, projected on the symmetry of the
    wave vector, as ShengBTE does.

    The broadening of a process is the norm of ``steps`` applied to a difference of velocities: with "shengbte" the
    steps of the mesh along the three reciprocal vectors, W. Li et al., Comput. Phys. Commun. 185, 1747 (2014).
    That quadratic form lacks the symmetry of, for example, a face-centred cubic crystal, so equivalent processes get
    different widths; with "sets" the form is averaged over the point group.

    Attributes
    ----------
    mesh : Mesh
    omega : (n_irr, n_band) rad/ps
    sets : (n_irr, n_band) degenerate set of each mode
    velocity_matrices : (n_irr, 3, n_band, n_band) angstrom/ps
    velocities : (n_irr, n_band, 3) angstrom/ps, under the rule above
    eigenvectors : (n_q, n_band, 3n) rows, at every point of the mesh
    mesh_velocities : (n_q, n_band, 3) angstrom/ps, at every point of the mesh
    steps : (3, 3) matrix that turns velocities into frequency changes per mesh step, 1/angstrom
    cells : (n, 3, 3) mesh steps as columns, 1/angstrom, in every orientation that the point group gives to their cell
    """

    mesh: Mesh
    omega: numpy.ndarray
    sets: numpy.ndarray
    velocity_matrices: numpy.ndarray
    velocities: numpy.ndarray
    eigenvectors: numpy.ndarray
    mesh_velocities: numpy.ndarray
    steps: numpy.ndarray
    cells: numpy.ndarray

    @property
    def mesh_omega(self) -> NDArray:
        """(n_q, n_band) rad/ps, at every point of the mesh."""
        return self.omega[self.mesh.star]

    @property
    def irreducible_eigenvectors(self) -> NDArray:
        """(n_irr, n_band, 3n) rows."""
        return self.eigenvectors[self.mesh.irreducible]


def solve_mesh_modes(
    dynamical_matrix: DynamicalMatrix,
    mesh: Mesh,
    *,
    degeneracy: str = "sets",
    imaginary_threshold_thz: float = 0.1,
    rotate: Callable[..., NDArray] | None = None,
) -> MeshModes:
    """Solve the modes of a mesh.

    Parameters
    ----------
    dynamical_matrix : ``phonoscreen.phonons.dynamical_matrix.DynamicalMatrix``
    mesh : Mesh
    degeneracy : "sets" or "shengbte", see ``MeshModes``
    imaginary_threshold_thz : frequencies below minus this make the crystal unstable; smaller imaginary ones are left
        out of every sum
    rotate : None, or a function of (omega, eigenvectors as columns) that returns other eigenvectors of the same modes;
        for checks that results do not depend on the choice inside degenerate sets

    Raises
    ------
    UnstableCrystal
        If a frequency away from Gamma is imaginary beyond the threshold.
    StudyError
        If the frequencies of equivalent wave vectors differ: the force constants lack the crystal's symmetry.
    """
    if degeneracy not in ("sets", "shengbte"):
        raise StudyError(f"degeneracy {degeneracy!r} is neither sets nor shengbte", where="transport")
    q = mesh.fractional
    opposite = mesh.index(-mesh.points)
    half = numpy.flatnonzero(numpy.arange(len(q)) <= opposite)
    matrix, _ = dynamical_matrix(q[half])
    squares, vectors = numpy.linalg.eigh(matrix)
    frequencies = numpy.sign(squares) * numpy.sqrt(numpy.abs(squares))
    if rotate is not None:
        vectors = rotate(frequencies, vectors)
    all_omega = numpy.empty((len(q), frequencies.shape[1]))
    columns = numpy.empty((len(q), *vectors.shape[1:]), complex)
    all_omega[opposite[half]], columns[opposite[half]] = frequencies, vectors.conj()
    all_omega[half], columns[half] = frequencies, vectors

    check_stability(all_omega, q, imaginary_threshold_thz)
    _leave_out_still_modes(all_omega, columns, q)
    omega = all_omega[mesh.irreducible]
    spread = numpy.abs(all_omega - omega[mesh.star]).max() / (2 * numpy.pi)
    if spread > 0.02 + 0.01 * omega.max() / (2 * numpy.pi):
        raise StudyError(
            f"frequencies of equivalent wave vectors differ by {spread:.3f} THz", where="transport",
            fix="symmetrise the force constants, or check that atoms and supercell are in the stated order",
        )  # fmt: skip

    irreducible = columns[mesh.irreducible]
    sets = degenerate_sets(omega)
    slope = dynamical_matrix(q[mesh.irreducible], gradient=True)[1]
    v_matrices = velocity_matrices(omega, irreducible, slope)
    velocities = numpy.einsum("qxss->qsx", v_matrices).real
    if degeneracy == "sets":
        omega = average_over_sets(omega, sets)
        velocities = average_over_sets(velocities, sets)
        mesh_velocities = _expand(velocities, mesh)
    else:
        mesh_velocities = _shengbte_velocities(dynamical_matrix, mesh, omega, columns)
        velocities = mesh_velocities[mesh.irreducible]
    velocities[omega <= 0] = 0.0
    steps = 2 * numpy.pi * numpy.linalg.inv(dynamical_matrix.crystal.cell) / mesh.shape
    cells = _orientations(steps, mesh.rotations)
    if degeneracy == "sets":
        form = numpy.einsum("oxa,ab,oyb->xy", mesh.rotations, steps @ steps.T, mesh.rotations) / len(mesh.rotations)
        steps = numpy.linalg.cholesky(form)
    return MeshModes(
        mesh, omega, sets, v_matrices, velocities, numpy.ascontiguousarray(columns.swapaxes(1, 2)), mesh_velocities,
        steps, cells,
    )  # fmt: skip


def broadening_steps(modes: MeshModes, scalebroad: float) -> NDArray:
    """Return the vectors whose differences are the broadenings: ``velocities @ steps`` times scalebroad / sqrt(6).

    Returns
    -------
    (n_q, n_band, 3) rad/ps
    """
    return numpy.ascontiguousarray(modes.mesh_velocities @ modes.steps * (scalebroad / numpy.sqrt(6)))


def _leave_out_still_modes(omega, columns, q):
    """Set the frequencies of translations, and of modes that hardly oscillate, to 0; bands stay in ascending order."""
    omega[acoustic_at_gamma(omega, q) | (numpy.abs(omega) < 2 * numpy.pi * ZERO_THZ)] = 0.0
    for k in numpy.flatnonzero((numpy.diff(omega, axis=1) < 0).any(axis=1)):
        order = numpy.argsort(omega[k], kind="stable")
        omega[k], columns[k] = omega[k, order], columns[k][:, order]


def _orientations(steps: NDArray, rotations: NDArray) -> NDArray:
    """Return the different parallelepipeds into which rotations turn the one with these edges (columns)."""
    found: dict[frozenset, NDArray] = {}
    for turned in rotations @ steps:
        signed = numpy.round(numpy.concatenate([turned, -turned], axis=1).T / numpy.abs(steps).max(), 6) + 0.0
        found.setdefault(frozenset(map(tuple, signed)), turned)
    return numpy.array(list(found.values()))


def _expand(vectors: NDArray, mesh: Mesh) -> NDArray:
    return numpy.einsum("qxy,qsy->qsx", mesh.rotations[mesh.operation], vectors[mesh.star])


def check_stability(omega: NDArray, q: NDArray, threshold_thz: float) -> None:
    """Raise UnstableCrystal if a frequency besides those of the translations is imaginary beyond a threshold.

    Parameters
    ----------
    omega : (n_q, n_band) rad/ps, ascending; imaginary frequencies are negative
    q : (n_q, 3) fractional wave vectors
    threshold_thz : THz
    """
    omega = numpy.where(acoustic_at_gamma(omega, q), 0.0, omega)
    lowest = omega[:, 0].argmin()
    if omega[lowest, 0] < -2 * numpy.pi * threshold_thz:
        raise UnstableCrystal(
            f"imaginary frequency {units.to_thz(omega[lowest, 0]):.2f} THz (stored as negative) at q = "
            f"{numpy.round(q[lowest], 4).tolist()}, beyond -{threshold_thz} THz",
            where="transport", fix="relax the structure further, use a larger supercell, or treat it as unstable; the "
            "limit is stability.imaginary_threshold_thz (command line: --imaginary-threshold)",
        )  # fmt: skip


def _shengbte_velocities(dynamical_matrix, mesh, omega, columns):
    velocities = numpy.empty((len(mesh.points), omega.shape[1], 3))
    for block in numpy.array_split(numpy.arange(len(mesh.points)), max(1, len(mesh.points) // 512)):
        slope = dynamical_matrix(mesh.fractional[block], gradient=True)[1]
        matrices = velocity_matrices(omega[mesh.star[block]], columns[block], slope)
        velocities[block] = numpy.einsum("qxss->qsx", matrices).real
    for q in range(len(velocities)):
        projector = mesh.rotations[mesh.little_group(q)].mean(axis=0)
        velocities[q] = velocities[q] @ projector.T
    return velocities
