"""How far a conductivity is from its limit of dense q meshes, estimated from two meshes of half the density.

The error falls at least as fast as one over the number N of points along a direction (the long waves around Gamma that
the mesh does not hold). Where it goes as 1/N, kappa(M) - kappa(N) on a coarser mesh is N/M - 1 times the error on the
finer one: that is the estimate, the larger one of two meshes of about half the density, one with an odd and one with an
even number of points, because one difference alone can vanish by chance. The coarser meshes are solved in the
relaxation-time approximation; the relative error of the full solution is taken to be the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

LARGEST_PERCENT = 1000.0
"""Estimates end here: a coarse mesh that holds no process conducts without limit, and tells nothing more."""


@dataclass
class MeshError:
    """Estimated numerical errors at one temperature, relative to the conductivities on the mesh that was used.

    Attributes
    ----------
    kappa_p_percent, kappa_c_percent : of the particle-like and of the wave-like conductivity; NaN where unknown, at
        most ``LARGEST_PERCENT``
    """

    kappa_p_percent: float = numpy.nan
    kappa_c_percent: float = numpy.nan


def coarser_meshes(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the meshes of half the density, rounded down and up; none where that leaves a single point.

    Parameters
    ----------
    shape : (3,) integers

    Returns
    -------
    list of tuples of three integers
    """
    halves = [tuple(max(1, (int(n) + extra) // 2) for n in shape) for extra in (0, 1)]
    if halves[0] == halves[1]:  # an even mesh
        halves[1] = tuple(n // 2 + 1 if n > 2 else 1 for n in (int(n) for n in shape))
    return [mesh for mesh in dict.fromkeys(halves) if max(mesh) > 1]


def estimate(
    own: tuple[float, float], shape: Sequence[int], coarser: Sequence[tuple[Sequence[int], tuple[float, float]]]
) -> MeshError:
    """Return the MeshError of one temperature.

    Parameters
    ----------
    own : (kappa_p, kappa_c), means of the diagonals on the mesh itself
    shape : (3,) integers of the mesh itself
    coarser : list of (mesh, (kappa_p, kappa_c)) on coarser meshes
    """
    percent = [numpy.nan, numpy.nan]
    for mesh, others in coarser:
        ratio = (numpy.prod(shape) / numpy.prod(mesh)) ** (1 / 3)
        for k in range(2):
            if own[k] > 0:
                percent[k] = numpy.fmax(percent[k], 100 * abs(others[k] / own[k] - 1) / (ratio - 1))
    return MeshError(*(float(numpy.minimum(value, LARGEST_PERCENT)) for value in percent))


def sentences(errors: Sequence[MeshError], temperatures_k: Sequence[float]) -> list[str]:
    """Return one sentence per temperature on the estimated errors.

    Parameters
    ----------
    errors : list over temperatures of MeshError
    temperatures_k : kelvin
    """
    lines = []
    for error, temperature in zip(errors, temperatures_k, strict=True):
        words = " and ".join(
            f"{'at least ' * (value >= LARGEST_PERCENT)}{value:.0f} % of {name}" for name, value in
            (("kappa_p", error.kappa_p_percent), ("kappa_c", error.kappa_c_percent)) if numpy.isfinite(value)
        )  # fmt: skip
        lines.append(
            f"{temperature:g} K: estimated error of the q mesh {words or 'unknown'} (two meshes of half the density)"
        )
    return lines
