"""Is a crystal dynamically stable? Frequencies on a mesh and along the standard path."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder
from phonoscreen.crystal.shortest_images import ShortestImages
from phonoscreen.phonons.band_path import band_path, irreducible_mesh
from phonoscreen.phonons.dipoles import dipole_correction
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, LatticeSum, acoustic_at_gamma, frequencies_thz

MESH_PER_REPETITION = 4
"""Mesh divisions per repetition of the supercell, so that the mesh holds every exact wave vector of the supercell."""


@dataclass
class Stability:
    """Phonons of one crystal and the verdict.

    Parameters
    ----------
    verdict : ``stable``: no frequency below the threshold away from Gamma; ``unstable``: one at a wave vector that
        fits into the supercell, where the forces themselves give it; ``uncertain``: only interpolated ones
    reason : why not stable, or empty
    values : scalars for the record
    arrays : band structure and mesh, named as in the shard's file
    """

    verdict: str
    reason: str
    values: dict
    arrays: dict

    @property
    def stable(self) -> bool:
        """Whether the verdict is ``stable``."""
        return self.verdict == "stable"

    @property
    def status(self) -> str:
        """Status of the record: an uncertain verdict has not converged with the size of the supercell."""
        return {"stable": "ok", "unstable": "unstable", "uncertain": "not_converged"}[self.verdict]


def check_stability(
    crystal: Crystal,
    second_order: SecondOrder,
    imaginary_threshold_thz: float,
    second_order_committee: Iterable[SecondOrder] = (),
    charges: tuple[NDArray, NDArray] | None = None,
) -> Stability:
    """Phonon frequencies on a mesh and along the standard path, and whether they are real.

    At Gamma the three acoustic modes are left out. Imaginary frequencies count as negative. At the wave vectors that
    fit into the supercell the frequencies are those of the forces; between them they are interpolated, and a small
    supercell can make the interpolation imaginary where the crystal is not. The two are judged apart.

    Parameters
    ----------
    crystal : ``Crystal``
    second_order : ``SecondOrder``
    imaginary_threshold_thz : a frequency below minus this is imaginary, THz
    second_order_committee : ``SecondOrder`` of each committee member, for the spread
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3) for the non-analytic correction, or None

    Returns
    -------
    Stability

    Raises
    ------
    StudyError
        If force constants or masses are not finite.
    """
    if not numpy.isfinite(second_order.values).all() or not (crystal.masses > 0).all():
        raise StudyError("force constants or masses are not finite numbers", fix="fit the force constants again")
    repetitions, threshold = second_order.repetitions, imaginary_threshold_thz
    images, correction = ShortestImages(crystal, repetitions), dipole_correction(crystal, charges)

    def frequencies_of(constants, qpoints):
        summed = LatticeSum.from_second_order(crystal, constants, images)
        return frequencies_thz(DynamicalMatrix(crystal, summed, correction), qpoints)

    path = band_path(crystal.cell)
    mesh, weights = irreducible_mesh(crystal, MESH_PER_REPETITION * numpy.array(repetitions))
    qpoints, n_mesh = numpy.concatenate([mesh, path.qpoints]), len(mesh)
    frequencies = frequencies_of(second_order, qpoints)
    optical, exact = _without_acoustic_gamma(frequencies, qpoints), fit_into_supercell(qpoints, repetitions)
    values = _lowest_frequencies(frequencies, optical, qpoints, exact)
    imaginary = weights @ (optical[:n_mesh] < -threshold)
    values["imaginary_fraction"] = float(imaginary.sum() / (weights.sum() * frequencies.shape[1]))
    if second_order_committee:
        members = numpy.array([frequencies_of(member, mesh) for member in second_order_committee])
        values |= _spread_of_members(members, mesh, weights, exact[:n_mesh], threshold)
    exact_qpoint = qpoints[_lowest(numpy.where(exact[:, None], optical, numpy.nan))[0]]
    values["verdict"], reason = _verdict(values, exact_qpoint, threshold)
    arrays = {
        "band/qpoints": path.qpoints,
        "band/distances": path.distances,
        "band/frequencies_thz": frequencies[n_mesh:],
        "band/labels": numpy.array(path.labels, dtype="S"),
        "mesh/qpoints": mesh,
        "mesh/frequencies_thz": frequencies[:n_mesh],
        "mesh/weights": weights,
    }
    return Stability(values["verdict"], reason, values, arrays)


def _lowest_frequencies(frequencies, optical, qpoints, exact):
    """Lowest frequencies away from translations: of all wave vectors, of those of the supercell, and between them."""
    q, lowest = _lowest(optical)
    return {
        "frequency_min_thz": lowest,
        "frequency_min_commensurate_thz": _lowest(numpy.where(exact[:, None], optical, numpy.nan))[1],
        "frequency_min_interpolated_thz": _lowest(numpy.where(exact[:, None], numpy.nan, optical))[1],
        "frequency_max_thz": float(frequencies.max()),
        "frequency_min_qpoint": _named(qpoints[q]),
    }


def _spread_of_members(frequencies, qpoints, weights, exact, imaginary_threshold_thz):
    """How much the frequencies (n_members, n_q, n_band) of a committee differ, and how many members are unstable."""
    optical = [_without_acoustic_gamma(own, qpoints) for own in frequencies]
    lowest = [numpy.nanmin(own) for own in optical]
    unstable = [(own[exact] < -imaginary_threshold_thz).any() for own in optical]
    return {
        "frequency_min_std_thz": float(numpy.std(lowest, ddof=1)) if len(lowest) > 1 else 0.0,
        "frequency_std_thz": float(numpy.sqrt(numpy.average(frequencies.var(axis=0).mean(axis=1), weights=weights))),
        "members_unstable": int(numpy.sum(unstable)),
    }


def _verdict(values, exact_qpoint, imaginary_threshold_thz):
    """Return the verdict and why the crystal is not stable."""
    lowest, exact_lowest = values["frequency_min_thz"], values["frequency_min_commensurate_thz"]
    if exact_lowest < -imaginary_threshold_thz:
        return "unstable", (
            f"imaginary mode {exact_lowest:.3f} THz at q = ({_named(exact_qpoint)}), a wave vector of the "
            f"supercell, threshold -{imaginary_threshold_thz} THz"
        )
    if lowest < -imaginary_threshold_thz:
        return "uncertain", (
            f"imaginary mode {lowest:.3f} THz at q = ({values['frequency_min_qpoint']}), threshold "
            f"-{imaginary_threshold_thz} THz, but only between the wave vectors of the supercell, where the lowest is "
            f"{exact_lowest:.3f} THz: a larger supercell decides"
        )
    return "stable", ""


def fit_into_supercell(qpoints: NDArray, repetitions: Sequence[int]) -> NDArray:
    """Whether each wave vector is one of the supercell: (n_q,) booleans."""
    steps = numpy.asarray(qpoints) * numpy.array(repetitions)
    return numpy.abs(steps - numpy.rint(steps)).max(axis=1) < 1e-6


def _lowest(frequencies):
    """Index of the wave vector of the lowest frequency, and that frequency; NaN where there is none."""
    if numpy.isnan(frequencies).all():
        return 0, float("nan")
    q, band = numpy.unravel_index(numpy.nanargmin(frequencies), frequencies.shape)
    return int(q), float(frequencies[q, band])


def _named(qpoint):
    return " ".join(f"{x:.4f}" for x in qpoint)


def _without_acoustic_gamma(frequencies, qpoints):
    """Frequencies with the three smallest at Gamma replaced by NaN."""
    return numpy.where(acoustic_at_gamma(frequencies, qpoints), numpy.nan, frequencies)
