"""Is a crystal dynamically stable? Frequencies on a mesh and along the standard path."""

from dataclasses import dataclass

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.units import to_thz
from phonoscreen.phonons.band_path import band_path, irreducible_mesh
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, acoustic_at_gamma
from phonoscreen.phonons.lattice_sums import HarmonicLattice, frequencies_thz
from phonoscreen.phonons.long_range import GonzeCorrection

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
    def stable(self):
        """Whether the verdict is ``stable``."""
        return self.verdict == "stable"

    @property
    def status(self):
        """Status of the record: an uncertain verdict has not converged with the size of the supercell."""
        return {"stable": "ok", "unstable": "unstable", "uncertain": "not_converged"}[self.verdict]


def check_stability(crystal, second_order, imaginary_threshold_thz, second_order_committee=(), charges=None):
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
    lattice = HarmonicLattice(crystal, second_order.repetitions)

    charges = check_charges(crystal, *charges) if charges is not None else None

    def frequencies_of(constants, qpoints):
        if charges is None:
            return frequencies_thz(numpy.linalg.eigvalsh(lattice.dynamical_matrices(constants, qpoints)))
        return _corrected_thz(crystal, constants, qpoints, *charges)

    path = band_path(crystal.cell)
    mesh_qpoints, weights = irreducible_mesh(crystal, MESH_PER_REPETITION * numpy.array(second_order.repetitions))
    qpoints = numpy.concatenate([mesh_qpoints, path.qpoints])
    n_mesh = len(mesh_qpoints)
    frequencies = frequencies_of(second_order, qpoints)
    optical = _without_acoustic_gamma(frequencies, qpoints)
    exact = fit_into_supercell(qpoints, second_order.repetitions)
    q, lowest = _lowest(optical)
    exact_q, exact_lowest = _lowest(numpy.where(exact[:, None], optical, numpy.nan))
    values = {
        "frequency_min_thz": lowest,
        "frequency_min_commensurate_thz": exact_lowest,
        "frequency_min_interpolated_thz": _lowest(numpy.where(exact[:, None], numpy.nan, optical))[1],
        "frequency_max_thz": float(frequencies.max()),
        "frequency_min_qpoint": _named(qpoints[q]),
        "imaginary_fraction": float(
            (weights @ (optical[:n_mesh] < -imaginary_threshold_thz)).sum() / (weights.sum() * frequencies.shape[1])
        ),
    }
    if second_order_committee:
        members = numpy.array([frequencies_of(member, mesh_qpoints) for member in second_order_committee])
        rest = [_without_acoustic_gamma(own, mesh_qpoints) for own in members]
        lowest_of_members = [numpy.nanmin(own) for own in rest]
        imaginary = [(own[exact[:n_mesh]] < -imaginary_threshold_thz).any() for own in rest]
        values |= {
            "frequency_min_std_thz": float(numpy.std(lowest_of_members, ddof=1)) if len(members) > 1 else 0.0,
            "frequency_std_thz": float(numpy.sqrt(numpy.average(members.var(axis=0).mean(axis=1), weights=weights))),
            "members_unstable": int(numpy.sum(imaginary)),
        }
    verdict, reason = "stable", ""
    if exact_lowest < -imaginary_threshold_thz:
        verdict = "unstable"
        reason = (
            f"imaginary mode {exact_lowest:.3f} THz at q = ({_named(qpoints[exact_q])}), a wave vector of the "
            f"supercell, threshold -{imaginary_threshold_thz} THz"
        )
    elif lowest < -imaginary_threshold_thz:
        verdict = "uncertain"
        reason = (
            f"imaginary mode {lowest:.3f} THz at q = ({values['frequency_min_qpoint']}), threshold "
            f"-{imaginary_threshold_thz} THz, but only between the wave vectors of the supercell, where the lowest is "
            f"{exact_lowest:.3f} THz: a larger supercell decides"
        )
    values["verdict"] = verdict
    arrays = {
        "band/qpoints": path.qpoints,
        "band/distances": path.distances,
        "band/frequencies_thz": frequencies[n_mesh:],
        "band/labels": numpy.array(path.labels, dtype="S"),
        "mesh/qpoints": mesh_qpoints,
        "mesh/frequencies_thz": frequencies[:n_mesh],
        "mesh/weights": weights,
    }
    return Stability(verdict, reason, values, arrays)


def corrected_frequencies_thz(crystal, second_order, qpoints, born, dielectric):
    """Phonon frequencies with the dipole-dipole part interpolated between the supercell's wave vectors.

    At Gamma itself, where it depends on the direction, the non-analytic term is left out.

    Parameters
    ----------
    crystal : ``Crystal``
    second_order : ``SecondOrder``, the dipole-dipole part included
    qpoints : (n_q, 3) in units of the reciprocal primitive vectors
    born, dielectric : as for ``dipole_constants``

    Returns
    -------
    (n_q, 3 n_atoms), THz, ascending; imaginary ones negative
    """
    return _corrected_thz(crystal, second_order, qpoints, *check_charges(crystal, born, dielectric))


def _corrected_thz(crystal, second_order, qpoints, born, dielectric):
    matrices = DynamicalMatrix(crystal, second_order, lambda *of: GonzeCorrection(*of, born, dielectric))(qpoints)[0]
    squares = numpy.linalg.eigvalsh(matrices)
    return numpy.sign(squares) * to_thz(numpy.sqrt(numpy.abs(squares)))


def fit_into_supercell(qpoints, repetitions):
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
