"""The elemental spatial density: one vector of fixed length for any environment of any of the 63 elements."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numba
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.elements import ATTRIBUTES, element_attributes

if TYPE_CHECKING:
    from phonoscreen.forcefield.frames import Frames
    from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

# Even (0) or odd (1) under the reversal of each axis of the frame; the mesh density splits into these eight parts.
PARITIES = tuple(itertools.product((0, 1), repeat=3))


class DensityMesh:
    """Mesh points around a centre on which the neighbours' densities are evaluated.

    ``rho_k(g) = sum_j w_k(Z_j) f_c(|r_j|) exp(-|R r_j - g|^2 / (2 sigma^2))`` with ``f_c = (1 + cos(pi r / R_c)) / 2``
    on the points ``g = h (a, b, c), |g| <= R_c``; ``w_k`` are the element attributes, ``R`` a nearest-neighbour frame.
    The mesh is symmetric, so the density is kept as its parts of definite parity: for every axis the sum and the
    difference of the values at g and at the mirrored point, over sqrt(2), an orthogonal transformation. For a Gaussian
    it costs nothing, and it makes the exact law f(mirrored environment) = mirrored f(environment) easy to build in.
    The idea follows Rodriguez et al., Commun. Mater. 4, 61 (2023); this formula is our own choice.

    Parameters
    ----------
    cutoff_angstrom : R_c
    spacing_angstrom : h
    width_over_spacing : sigma / h, at least 0.6 (narrower Gaussians do not see a displacement of 0.03 angstrom)
    channels : element attributes that weight the density, of ``elements.ATTRIBUTES``

    Attributes
    ----------
    points : (n_points, 3) integers a, b, c >= 0 of the values of one element attribute
    """

    def __init__(
        self,
        cutoff_angstrom: float,
        spacing_angstrom: float,
        width_over_spacing: float,
        channels: Sequence[str] = ATTRIBUTES,
    ) -> None:
        if not (cutoff_angstrom > 0 and 0 < spacing_angstrom <= cutoff_angstrom and width_over_spacing >= 0.6):
            raise StudyError(
                f"mesh of cutoff {cutoff_angstrom} A, spacing {spacing_angstrom} A, width/spacing {width_over_spacing}",
                where="DensityMesh",
                fix="spacing between 0 and the cutoff, width_over_spacing at least 0.6",
            )
        self.cutoff_angstrom, self.spacing_angstrom = float(cutoff_angstrom), float(spacing_angstrom)
        self.width_angstrom = width_over_spacing * self.spacing_angstrom
        self.channels = [ATTRIBUTES.index(name) for name in channels]
        self.reach = int(self.cutoff_angstrom / self.spacing_angstrom + 1e-9)
        radius_squared = (self.cutoff_angstrom / self.spacing_angstrom) ** 2 + 1e-9
        columns: list[tuple[int, ...]] = []
        points: list[tuple[int, int, int]] = []
        self.sizes: list[int] = []
        for parity in PARITIES:
            begin = len(points)
            for a in range(parity[0], self.reach + 1):
                for b in range(parity[1], self.reach + 1):
                    height = radius_squared - a * a - b * b
                    if height >= parity[2] ** 2:
                        high = int(height**0.5) + 1
                        columns.append((*parity, a, b, parity[2], high, len(points)))
                        points += [(a, b, c) for c in range(parity[2], high)]
            self.sizes.append(len(points) - begin)
        self.columns, self.points = numpy.array(columns), numpy.array(points)

    @property
    def n_values(self) -> int:
        """Length of one density vector."""
        return len(self.points) * len(self.channels)

    @property
    def parts(self) -> list[slice]:
        """Slice of the density vector for each of the eight parities."""
        ends = numpy.cumsum([0, *self.sizes]) * len(self.channels)
        return [slice(begin, end) for begin, end in zip(ends, ends[1:])]

    def density(self, neighbourhoods: "Neighbourhoods", frames: "Frames") -> NDArray:
        """Return the density in every frame.

        Returns
        -------
        (n_frames, n_values) float32; parity after parity (``parts``), in each one element attribute after the other
        """
        species, slots = numpy.unique(neighbourhoods.neighbour_numbers, return_inverse=True)
        weights = numpy.ascontiguousarray(element_attributes(species)[:, self.channels], dtype=numpy.float32)
        return _density(
            neighbourhoods.offsets.astype(numpy.int64), slots.astype(numpy.int64),
            numpy.ascontiguousarray(neighbourhoods.vectors, dtype=float), frames.centres, frames.rotations,
            weights, self.columns.astype(numpy.int64),
            numpy.cumsum([0, *self.sizes]), self.reach, self.spacing_angstrom, self.width_angstrom,
            self.cutoff_angstrom,
        )  # fmt: skip


@numba.njit(cache=True, fastmath=True)
def _density(offsets, slots, vectors, centres, rotations, attributes, columns, parts, reach, spacing, width, cutoff):
    n_species, n_channels = attributes.shape
    n_points = parts[-1]
    result = numpy.zeros((len(centres), n_channels * n_points), numpy.float32)
    axes = numpy.empty((3, 2, reach + 1), numpy.float32)  # even and odd part of the Gaussian along each axis
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
            for axis in range(3):
                place = rotations[frame, axis, 0] * x + rotations[frame, axis, 1] * y + rotations[frame, axis, 2] * z
                axes[axis, 0, 0] = numpy.exp(-place * place / (2 * width * width))
                axes[axis, 1, 0] = 0.0
                for step in range(1, reach + 1):
                    above = numpy.exp(-((place - spacing * step) ** 2) / (2 * width * width))
                    below = numpy.exp(-((place + spacing * step) ** 2) / (2 * width * width))
                    axes[axis, 0, step] = (above + below) * numpy.sqrt(0.5)
                    axes[axis, 1, step] = (above - below) * numpy.sqrt(0.5)
            smooth = numpy.float32(0.5 + 0.5 * numpy.cos(numpy.pi * length / cutoff))
            target = by_species[slot]
            for column in range(len(columns)):
                px, py, pz, a, b, low, high, place_in = columns[column]
                factor = smooth * axes[0, px, a] * axes[1, py, b]
                along = axes[2, pz]
                for step in range(low, high):
                    target[place_in + step - low] += factor * along[step]
        for slot in range(n_species):
            if present[slot]:
                for part in range(len(parts) - 1):
                    begin, size = parts[part], parts[part + 1] - parts[part]
                    for channel in range(n_channels):
                        weight = attributes[slot, channel]
                        shift = begin * n_channels + channel * size
                        for point in range(size):
                            result[frame, shift + point] += weight * by_species[slot, begin + point]
    return result
