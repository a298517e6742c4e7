"""Is a crystal dynamically stable? Frequencies on a mesh and along the standard path."""

from dataclasses import dataclass

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.band_path import band_path, irreducible_mesh
from phonoscreen.lattice.dipoles import check_charges
from phonoscreen.lattice.dynamical_matrix import HarmonicLattice, frequencies_thz
from phonoscreen.transport.harmonic import DynamicalMatrix, acoustic_at_gamma
from phonoscreen.transport.nonanalytic import GonzeCorrection
from phonoscreen.transport.units import to_thz

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


def check_stability(crystal, second_order, imaginary_threshold_thz, second_order_committee=(), charges=None):
    """Phonon frequencies on a mesh and along the standard path, and whether they are real.

    At Gamma the three acoustic modes are left out. Imaginary frequencies count as negative.

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

    def frequencies_of(constants, qpoints):
        if charges is None:
            return frequencies_thz(numpy.linalg.eigvalsh(lattice.dynamical_matrices(constants, qpoints)))
        return corrected_frequencies_thz(crystal, constants, qpoints, *charges)

    path = band_path(crystal.cell)
    mesh_qpoints, weights = irreducible_mesh(crystal, MESH_PER_REPETITION * numpy.array(second_order.repetitions))
    qpoints = numpy.concatenate([mesh_qpoints, path.qpoints])
    n_mesh = len(mesh_qpoints)
    frequencies = frequencies_of(second_order, qpoints)
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
        members = numpy.array([frequencies_of(member, mesh_qpoints) for member in second_order_committee])
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
    born, dielectric = check_charges(crystal, born, dielectric)
    matrices = DynamicalMatrix(crystal, second_order, lambda *of: GonzeCorrection(*of, born, dielectric))(qpoints)[0]
    squares = numpy.linalg.eigvalsh(matrices)
    return numpy.sign(squares) * to_thz(numpy.sqrt(numpy.abs(squares)))


def _without_acoustic_gamma(frequencies, qpoints):
    """Frequencies with the three smallest at Gamma replaced by NaN."""
    return numpy.where(acoustic_at_gamma(frequencies, qpoints), numpy.nan, frequencies)
