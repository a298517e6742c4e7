"""The elemental spatial density: one vector of fixed length for any environment of any of the 63 elements."""

import numba
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.elements import ATTRIBUTES, element_attributes


class DensityMesh:
    """Mesh points around a centre on which the neighbours' densities are evaluated.

    ``rho_k(g) = sum_j w_k(Z_j) f_c(|r_j|) exp(-|R r_j - g|^2 / (2 sigma^2))`` with ``f_c = (1 + cos(pi r / R_c)) / 2``
    on the points ``g = h (a, b, c), |g| <= R_c``; ``w_k`` are the element attributes, ``R`` a nearest-neighbour frame.
    The idea follows Rodriguez et al., Commun. Mater. 4, 61 (2023); this formula is our own choice.

    Parameters
    ----------
    cutoff_angstrom : R_c
    spacing_angstrom : h
    width_over_spacing : sigma / h, at least 0.6 (narrower Gaussians do not see a displacement of 0.03 angstrom)
    """

    def __init__(self, cutoff_angstrom, spacing_angstrom, width_over_spacing):
        if not (cutoff_angstrom > 0 and 0 < spacing_angstrom <= cutoff_angstrom and width_over_spacing >= 0.6):
            raise StudyError(
                f"mesh with cutoff {cutoff_angstrom} A, spacing {spacing_angstrom} A, width/spacing {width_over_spacing}",
                where="DensityMesh",
                fix="spacing between 0 and the cutoff, width_over_spacing at least 0.6",
            )
        self.cutoff_angstrom, self.spacing_angstrom = float(cutoff_angstrom), float(spacing_angstrom)
        self.width_angstrom = width_over_spacing * self.spacing_angstrom
        reach = int(self.cutoff_angstrom / self.spacing_angstrom + 1e-9)
        axis = numpy.arange(-reach, reach + 1)
        a, b = (index.ravel() for index in numpy.meshgrid(axis, axis, indexing="ij"))
        inside = self.cutoff_angstrom**2 / self.spacing_angstrom**2 + 1e-9 - a**2 - b**2
        a, b, inside = a[inside >= 0], b[inside >= 0], inside[inside >= 0]
        half = numpy.sqrt(inside).astype(int)
        self.reach = reach
        # columns of points along z: index of x and y, first and last z, place of the first point
        self.columns = numpy.stack(
            [a + reach, b + reach, reach - half, reach + half + 1, numpy.cumsum(2 * half + 1) - (2 * half + 1)], axis=1
        )
        self.n_points = int((2 * half + 1).sum())

    @property
    def points(self):
        """Mesh points in the order of the density, (n_points, 3), angstrom."""
        points = [(x, y, z) for x, y, low, high, _ in self.columns for z in range(low, high)]
        return (numpy.array(points) - self.reach) * self.spacing_angstrom

    @property
    def n_values(self):
        """Length of one density vector."""
        return self.n_points * len(ATTRIBUTES)

    def density(self, neighbourhoods, frames):
        """Return the density in every frame.

        Returns
        -------
        (n_frames, 5 * n_points) float32; channel after channel in the order of the element attributes
        """
        species, slots = numpy.unique(neighbourhoods.neighbour_numbers, return_inverse=True)
        return _density(
            neighbourhoods.offsets.astype(numpy.int64), slots.astype(numpy.int64),
            numpy.ascontiguousarray(neighbourhoods.vectors, dtype=float), frames.centres, frames.rotations,
            element_attributes(species).astype(numpy.float32), self.columns.astype(numpy.int64), self.n_points,
            self.reach, self.spacing_angstrom, self.width_angstrom, self.cutoff_angstrom,
        )  # fmt: skip


@numba.njit(cache=True, fastmath=True)
def _density(offsets, slots, vectors, centres, rotations, attributes, columns, n_points, reach, spacing, width, cutoff):
    n_species, n_channels = attributes.shape
    result = numpy.zeros((len(centres), n_channels * n_points), numpy.float32)
    axes = numpy.empty((3, 2 * reach + 1), numpy.float32)
    by_species = numpy.empty((n_species, n_points), numpy.float32)
    present = numpy.empty(n_species, numpy.bool_)
    for frame in range(len(centres)):
        by_species[:] = 0.0
        present[:] = False
        for pair in range(offsets[centres[frame]], offsets[centres[frame] + 1]):
            x, y, z = vectors[pair]
            length = numpy.sqrt(x * x + y * y + z * z)
            if length >= cutoff:
                continue
            slot = slots[pair]
            present[slot] = True
            # the Gaussian factorises: one exponential per axis and mesh plane
            for axis in range(3):
                place = rotations[frame, axis, 0] * x + rotations[frame, axis, 1] * y + rotations[frame, axis, 2] * z
                for step in range(2 * reach + 1):
                    gap = place - spacing * (step - reach)
                    axes[axis, step] = numpy.exp(-gap * gap / (2 * width * width))
            smooth = numpy.float32(0.5 + 0.5 * numpy.cos(numpy.pi * length / cutoff))
            target = by_species[slot]
            for column in range(len(columns)):
                low, high = columns[column, 2], columns[column, 3]
                factor = smooth * axes[0, columns[column, 0]] * axes[1, columns[column, 1]]
                place_in = columns[column, 4] - low
                for step in range(low, high):
                    target[place_in + step] += factor * axes[2, step]
        for slot in range(n_species):
            if present[slot]:
                for channel in range(n_channels):
                    weight = attributes[slot, channel]
                    row = result[frame, channel * n_points : (channel + 1) * n_points]
                    for point in range(n_points):
                        row[point] += weight * by_species[slot, point]
    return result
