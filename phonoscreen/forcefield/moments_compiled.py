"""Compiled passes over the pairs for ``phonoscreen.forcefield.moments``: one for each derivative, for the CPU."""

import math
from typing import Any

import numba
import numpy
from numpy.typing import NDArray

_S3, _S15, _S58, _S38 = math.sqrt(3), math.sqrt(15), math.sqrt(5 / 8), math.sqrt(3 / 8)
COMPILED: dict[str, Any] = {"cache": True, "fastmath": True, "error_model": "numpy", "nogil": True}


@numba.njit(inline="always")
def harmonics(x: float, y: float, z: float, value: NDArray) -> None:
    """Solid harmonics of a direction, normalised to sum_m Y_lm^2 = 1."""
    value[0], value[1], value[2], value[3] = 1, x, y, z
    value[4], value[5], value[7], value[8] = _S3 * x * y, _S3 * y * z, _S3 * x * z, 0.5 * _S3 * (x * x - y * y)
    value[6] = 0.5 * (2 * z * z - x * x - y * y)
    value[9], value[15] = _S58 * y * (3 * x * x - y * y), _S58 * x * (x * x - 3 * y * y)
    value[10], value[14] = _S15 * x * y * z, 0.5 * _S15 * z * (x * x - y * y)
    value[11], value[13] = _S38 * y * (4 * z * z - x * x - y * y), _S38 * x * (4 * z * z - x * x - y * y)
    value[12] = 0.5 * z * (2 * z * z - 3 * x * x - 3 * y * y)


@numba.njit(inline="always")
def harmonic_slopes(x: float, y: float, z: float, value: NDArray, slope: NDArray) -> None:
    """Distance times the gradient of the solid harmonics of the direction of a vector."""
    slope[0, 0], slope[0, 1], slope[0, 2] = 0, 0, 0
    slope[1, 0], slope[1, 1], slope[1, 2] = 1, 0, 0
    slope[2, 0], slope[2, 1], slope[2, 2] = 0, 1, 0
    slope[3, 0], slope[3, 1], slope[3, 2] = 0, 0, 1
    slope[4, 0], slope[4, 1], slope[4, 2] = _S3 * y, _S3 * x, 0
    slope[5, 0], slope[5, 1], slope[5, 2] = 0, _S3 * z, _S3 * y
    slope[6, 0], slope[6, 1], slope[6, 2] = -x, -y, 2 * z
    slope[7, 0], slope[7, 1], slope[7, 2] = _S3 * z, 0, _S3 * x
    slope[8, 0], slope[8, 1], slope[8, 2] = _S3 * x, -_S3 * y, 0
    slope[9, 0], slope[9, 1], slope[9, 2] = 6 * _S58 * x * y, 3 * _S58 * (x * x - y * y), 0
    slope[10, 0], slope[10, 1], slope[10, 2] = _S15 * y * z, _S15 * x * z, _S15 * x * y
    slope[11, 0], slope[11, 1], slope[11, 2] = (
        -2 * _S38 * x * y,
        _S38 * (4 * z * z - x * x - 3 * y * y),
        8 * _S38 * y * z,
    )
    slope[12, 0], slope[12, 1], slope[12, 2] = -3 * x * z, -3 * y * z, 1.5 * (2 * z * z - x * x - y * y)
    slope[13, 0], slope[13, 1], slope[13, 2] = (
        _S38 * (4 * z * z - 3 * x * x - y * y),
        -2 * _S38 * x * y,
        8 * _S38 * x * z,
    )
    slope[14, 0], slope[14, 1], slope[14, 2] = _S15 * x * z, -_S15 * y * z, 0.5 * _S15 * (x * x - y * y)
    slope[15, 0], slope[15, 1], slope[15, 2] = 3 * _S58 * (x * x - y * y), -6 * _S58 * x * y, 0
    for m in range(1, 16):  # the gradient of Y(r/|r|) has no part along r
        degree = 1 if m < 4 else (2 if m < 9 else 3)
        slope[m, 0] -= degree * value[m] * x
        slope[m, 1] -= degree * value[m] * y
        slope[m, 2] -= degree * value[m] * z


@numba.njit(inline="always")
def radial_functions(distance: float, scale: float, cutoff: float, value: NDArray, slope: NDArray) -> None:
    """Write the radial functions of a distance (angstrom, as scale and cutoff) to value, their derivatives to slope."""
    square = (distance / scale) ** 2
    place, rate = (1 - square) / (1 + square), -4 * distance / (scale * (1 + square)) ** 2
    phase = math.pi * distance / cutoff
    cosine = 0.5 + 0.5 * math.cos(phase)
    smooth, fall = cosine * cosine, -cosine * math.sin(phase) * math.pi / cutoff
    before, now = place, 1.0  # Chebyshev polynomials of the first and ...
    second_before, second = 0.0, 0.0  # ... of the second kind, one order behind: T_n' = n U_(n-1)
    for n in range(len(value)):
        value[n] = smooth * now
        slope[n] = fall * now + smooth * n * second * rate
        before, now = now, 2 * place * now - before
        second_before, second = second, 2 * place * second - second_before if n > 0 else 1.0


@numba.njit(**COMPILED)
def project(
    offsets: NDArray,
    types: NDArray,
    scales: NDArray,
    cutoff: float,
    vectors: NDArray,
    weights: NDArray,
    moments: NDArray,
) -> None:
    """Add the moments of the neighbour density of every atom; arguments as in ``phonoscreen.forcefield.moments``."""
    n_radial, channels = weights.shape[1], weights.shape[3]
    rows = weights.reshape(len(weights), n_radial, 4 * channels)
    harmonic = numpy.empty(16, weights.dtype)
    basis, steep = numpy.empty(n_radial, weights.dtype), numpy.empty(n_radial, weights.dtype)
    radial = numpy.empty(4 * channels, weights.dtype)
    for atom in range(len(offsets) - 1):
        for pair in range(offsets[atom], offsets[atom + 1]):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            harmonics(x / distance, y / distance, z / distance, harmonic)
            radial_functions(distance, scales[types[pair]], cutoff, basis, steep)
            row = rows[types[pair]]
            radial[:] = 0
            for n in range(n_radial):
                for k in range(4 * channels):
                    radial[k] += basis[n] * row[n, k]
            for degree in range(4):
                shift = degree * channels
                for m in range(degree**2, (degree + 1) ** 2):
                    for k in range(channels):
                        moments[atom, m, k] += harmonic[m] * radial[shift + k]


@numba.njit(**COMPILED)
def pull_back(
    offsets: NDArray,
    types: NDArray,
    scales: NDArray,
    cutoff: float,
    vectors: NDArray,
    weights: NDArray,
    gradient: NDArray,
    of_vectors: NDArray,
) -> None:
    """Gradient with respect to the vectors from that with respect to the moments."""
    n_radial, channels = weights.shape[1], weights.shape[3]
    rows = weights.reshape(len(weights), n_radial, 4 * channels)
    harmonic, tilt = numpy.empty(16, weights.dtype), numpy.empty((16, 3), weights.dtype)
    basis, steep = numpy.empty(n_radial, weights.dtype), numpy.empty(n_radial, weights.dtype)
    radial, slope = numpy.empty(4 * channels, weights.dtype), numpy.empty(4 * channels, weights.dtype)
    angular = numpy.empty(4 * channels, weights.dtype)  # sum_m Y_lm dE/dA_lmk
    zero = weights.dtype.type(0)
    for atom in range(len(offsets) - 1):
        for pair in range(offsets[atom], offsets[atom + 1]):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            x, y, z = x / distance, y / distance, z / distance
            harmonics(x, y, z, harmonic)
            harmonic_slopes(x, y, z, harmonic, tilt)
            radial_functions(distance, scales[types[pair]], cutoff, basis, steep)
            row = rows[types[pair]]
            radial[:], slope[:], angular[:] = 0, 0, 0
            for n in range(n_radial):
                for k in range(4 * channels):
                    radial[k] += basis[n] * row[n, k]
                    slope[k] += steep[n] * row[n, k]
            along_x, along_y, along_z, along = zero, zero, zero, zero
            for degree in range(4):
                shift = degree * channels
                for m in range(degree**2, (degree + 1) ** 2):
                    total = zero
                    for k in range(channels):
                        angular[shift + k] += harmonic[m] * gradient[atom, m, k]
                        total += radial[shift + k] * gradient[atom, m, k]
                    along_x += total * tilt[m, 0]
                    along_y += total * tilt[m, 1]
                    along_z += total * tilt[m, 2]
            for k in range(4 * channels):
                along += slope[k] * angular[k]
            of_vectors[pair, 0] = along * x + along_x / distance
            of_vectors[pair, 1] = along * y + along_y / distance
            of_vectors[pair, 2] = along * z + along_z / distance


@numba.njit(**COMPILED)
def pull_back_to_weights(
    offsets: NDArray,
    types: NDArray,
    scales: NDArray,
    cutoff: float,
    vectors: NDArray,
    gradient: NDArray,
    of_weights: NDArray,
) -> None:
    """Gradient with respect to the weights from that with respect to the moments."""
    n_radial, channels = of_weights.shape[1], of_weights.shape[3]
    rows = of_weights.reshape(len(of_weights), n_radial, 4 * channels)
    harmonic, angular = numpy.empty(16, gradient.dtype), numpy.empty(4 * channels, gradient.dtype)
    basis, steep = numpy.empty(n_radial, gradient.dtype), numpy.empty(n_radial, gradient.dtype)
    for atom in range(len(offsets) - 1):
        for pair in range(offsets[atom], offsets[atom + 1]):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            harmonics(x / distance, y / distance, z / distance, harmonic)
            radial_functions(distance, scales[types[pair]], cutoff, basis, steep)
            angular[:] = 0
            for degree in range(4):
                shift = degree * channels
                for m in range(degree**2, (degree + 1) ** 2):
                    for k in range(channels):
                        angular[shift + k] += harmonic[m] * gradient[atom, m, k]
            row = rows[types[pair]]
            for n in range(n_radial):
                for k in range(4 * channels):
                    row[n, k] += basis[n] * angular[k]


@numba.njit(**COMPILED)
def push_along(
    offsets: NDArray,
    types: NDArray,
    scales: NDArray,
    cutoff: float,
    vectors: NDArray,
    weights: NDArray,
    gradient: NDArray,
    moves: NDArray,
    of_gradient: NDArray,
    of_weights: NDArray,
) -> None:
    """Derivative of ``sum moves . of_vectors`` of ``_pull_back`` with respect to its gradient and weights."""
    n_radial, channels = weights.shape[1], weights.shape[3]
    rows = weights.reshape(len(weights), n_radial, 4 * channels)
    target = of_weights.reshape(len(weights), n_radial, 4 * channels)
    harmonic, tilt = numpy.empty(16, weights.dtype), numpy.empty((16, 3), weights.dtype)
    basis, steep = numpy.empty(n_radial, weights.dtype), numpy.empty(n_radial, weights.dtype)
    radial, slope = numpy.empty(4 * channels, weights.dtype), numpy.empty(4 * channels, weights.dtype)
    angular, tilted = numpy.empty(4 * channels, weights.dtype), numpy.empty(4 * channels, weights.dtype)
    for atom in range(len(offsets) - 1):
        here, there = gradient[atom], of_gradient[atom]
        for pair in range(offsets[atom], offsets[atom + 1]):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            x, y, z = x / distance, y / distance, z / distance
            harmonics(x, y, z, harmonic)
            harmonic_slopes(x, y, z, harmonic, tilt)
            radial_functions(distance, scales[types[pair]], cutoff, basis, steep)
            row, of_row = rows[types[pair]], target[types[pair]]
            stretch = moves[pair, 0] * x + moves[pair, 1] * y + moves[pair, 2] * z
            radial[:], slope[:], angular[:], tilted[:] = 0, 0, 0, 0
            for n in range(n_radial):
                steep[n] *= stretch
                for k in range(4 * channels):
                    radial[k] += basis[n] * row[n, k]
                    slope[k] += steep[n] * row[n, k]
            for degree in range(4):
                shift = degree * channels
                for m in range(degree**2, (degree + 1) ** 2):
                    turn = moves[pair, 0] * tilt[m, 0] + moves[pair, 1] * tilt[m, 1] + moves[pair, 2] * tilt[m, 2]
                    turn /= distance
                    for k in range(channels):
                        there[m, k] += harmonic[m] * slope[shift + k] + turn * radial[shift + k]
                        angular[shift + k] += harmonic[m] * here[m, k]
                        tilted[shift + k] += turn * here[m, k]
            for n in range(n_radial):
                for k in range(4 * channels):
                    of_row[n, k] += steep[n] * angular[k] + basis[n] * tilted[k]
