"""Is a crystal dynamically stable? Frequencies on a mesh and along the standard path."""

from dataclasses import dataclass

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.band_path import band_path, irreducible_mesh
from phonoscreen.lattice.dynamical_matrix import HarmonicLattice, frequencies_thz

MESH_PER_REPETITION = 4
"""Mesh divisions per repetition of the supercell, so that the mesh holds every exact wave vector of the supercell."""


@dataclass
class Stability:
    """Phonons of one crystal and the verdict.

    Parameters
    ----------
    stable : no frequency below the threshold away from Gamma
    reason : why not, or empty
    values : scalars for the record
    arrays : band structure and mesh, named as in the shard's file
    """

    stable: bool
    reason: str
    values: dict
    arrays: dict


def check_stability(crystal, second_order, imaginary_threshold_thz, second_order_committee=()):
    """Phonon frequencies on a mesh and along the standard path, and whether they are real.

    At Gamma the three acoustic modes are left out. Imaginary frequencies count as negative.

    Parameters
    ----------
    crystal : ``Crystal``
    second_order : ``SecondOrder``
    imaginary_threshold_thz : a frequency below minus this is imaginary, THz
    second_order_committee : ``SecondOrder`` of each committee member, for the spread

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
    path = band_path(crystal.cell)
    mesh_qpoints, weights = irreducible_mesh(crystal, MESH_PER_REPETITION * numpy.array(second_order.repetitions))
    qpoints = numpy.concatenate([mesh_qpoints, path.qpoints])
    n_mesh = len(mesh_qpoints)
    frequencies = _frequencies(lattice, second_order, qpoints)
    optical = _without_acoustic_gamma(frequencies, qpoints)
    q, band = numpy.unravel_index(numpy.nanargmin(optical), optical.shape)
    lowest = float(optical[q, band])
    values = {
        "frequency_min_thz": lowest,
        "frequency_max_thz": float(frequencies.max()),
        "frequency_min_qpoint": " ".join(f"{x:.4f}" for x in qpoints[q]),
        "imaginary_fraction": float(
            (weights @ (optical[:n_mesh] < -imaginary_threshold_thz)).sum() / (weights.sum() * frequencies.shape[1])
        ),
    }
    if second_order_committee:
        members = numpy.array([_frequencies(lattice, member, mesh_qpoints) for member in second_order_committee])
        lowest_of_members = [numpy.nanmin(_without_acoustic_gamma(own, mesh_qpoints)) for own in members]
        values |= {
            "frequency_min_std_thz": float(numpy.std(lowest_of_members, ddof=1)) if len(members) > 1 else 0.0,
            "frequency_std_thz": float(numpy.sqrt(numpy.average(members.var(axis=0).mean(axis=1), weights=weights))),
            "members_unstable": int(numpy.sum(numpy.array(lowest_of_members) < -imaginary_threshold_thz)),
        }
    stable = lowest >= -imaginary_threshold_thz
    reason = "" if stable else (
        f"imaginary mode {lowest:.3f} THz at q = ({values['frequency_min_qpoint']}), threshold "
        f"-{imaginary_threshold_thz} THz"
    )  # fmt: skip
    arrays = {
        "band/qpoints": path.qpoints,
        "band/distances": path.distances,
        "band/frequencies_thz": frequencies[n_mesh:],
        "band/labels": numpy.array(path.labels, dtype="S"),
        "mesh/qpoints": mesh_qpoints,
        "mesh/frequencies_thz": frequencies[:n_mesh],
        "mesh/weights": weights,
    }
    return Stability(stable, reason, values, arrays)


def _frequencies(lattice, second_order, qpoints):
    matrices = lattice.dynamical_matrices(second_order, qpoints)
    return frequencies_thz(numpy.linalg.eigvalsh(matrices))


def _without_acoustic_gamma(frequencies, qpoints):
    """Frequencies with the three smallest at Gamma replaced by NaN."""
    rest = frequencies.copy()
    for q in numpy.flatnonzero(numpy.abs(qpoints - numpy.rint(qpoints)).max(axis=1) < 1e-8):
        rest[q, numpy.argsort(numpy.abs(frequencies[q]))[:3]] = numpy.nan
    return rest
