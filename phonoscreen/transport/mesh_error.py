"""How far a conductivity is from its limit of a dense q mesh, estimated from two coarser meshes.

The error falls at least as fast as one over the number N of points along a direction (the missing long waves around
Gamma); where it goes as 1/N, kappa(M) - kappa(N) on a coarser mesh is N/M - 1 times the error on the fine one. That is
taken as the estimate: the larger one of two meshes, of about half and of about two thirds of the points along each
direction, because one difference alone can vanish by chance. Both are solved in the relaxation-time approximation; the
relative error of the full solution is taken to be the same.
"""

from dataclasses import dataclass

import numpy

FRACTIONS = (1 / 2, 2 / 3)


@dataclass
class MeshError:
    """Estimated numerical errors of one temperature, relative to the conductivities on the mesh that was used.

    Attributes
    ----------
    kappa_p_percent, kappa_c_percent : of the particle-like and of the wave-like conductivity; NaN where unknown
    meshes : the coarser meshes that were solved
    """

    kappa_p_percent: float
    kappa_c_percent: float
    meshes: tuple = ()


def coarser_meshes(shape):
    """Return one or two coarser meshes of the same proportions; odd where the mesh is odd, none of a single point.

    Parameters
    ----------
    shape : (3,) integers

    Returns
    -------
    list of tuples of three integers
    """
    found = []
    for fraction in FRACTIONS:
        mesh = tuple(_lower(int(n), fraction) for n in shape)
        if mesh not in found and max(mesh) > 1 and mesh != tuple(int(n) for n in shape):
            found.append(mesh)
    return found


def _lower(n, fraction):
    """Return the number of the parity of n nearest to a fraction of it; small odd ones give even ones."""
    if n <= 3:
        return max(1, n - 1)
    near = n % 2 + 2 * round((n * fraction - n % 2) / 2)
    return max(near, 2)


def estimate(conductivities, shape, coarser):
    """Return the MeshError of each temperature.

    Parameters
    ----------
    conductivities : list over temperatures of (kappa_p, kappa_c), means of the diagonals on the mesh itself
    shape : (3,) of the mesh itself
    coarser : list of (shape, conductivities) on coarser meshes
    """
    errors = []
    for t, own in enumerate(conductivities):
        found = [numpy.nan, numpy.nan]
        for mesh, others in coarser:
            ratio = (numpy.prod(shape) / numpy.prod(mesh)) ** (1 / 3)
            for k in range(2):
                if own[k] > 0:
                    found[k] = numpy.fmax(found[k], 100 * abs(others[t][k] / own[k] - 1) / min(1.0, ratio - 1))
        errors.append(MeshError(float(found[0]), float(found[1]), tuple(mesh for mesh, _ in coarser)))
    return errors
