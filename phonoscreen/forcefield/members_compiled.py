"""Compiled passes over the pairs for several models at once (``phonoscreen.forcefield.stacked_members``), for the CPU.

What depends on positions alone, the radial functions and harmonics of a pair, serves all models. The moments of an atom
are sums over neighbours first, in the basis that all models share, and only then multiplied with the weights of each.
"""

import math

import numba
import numpy
from numpy.typing import NDArray

from phonoscreen.forcefield.moments_compiled import COMPILED, harmonic_slopes, harmonics, radial_functions


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
    """Add the moments of the neighbour density of every atom.

    Parameters
    ----------
    offsets : (n_atoms + 1,)
    types : (n_pairs,) row of the weights: place of the centre's element times n_elements plus that of the neighbour's
    scales : (n_elements^2,) angstrom
    cutoff : angstrom
    vectors : (n_pairs, 3) angstrom
    weights : (n_elements^2, n_radial, 4, n_models, channels)
    moments : (n_models, n_atoms, 16, channels), added to
    """
    n_kinds, n_radial, _, n_models, channels = weights.shape
    n_elements = int(round(math.sqrt(n_kinds)))
    harmonic = numpy.empty(16, weights.dtype)
    basis, steep = numpy.empty(n_radial, weights.dtype), numpy.empty(n_radial, weights.dtype)
    density = numpy.empty((n_elements, n_radial, 16), weights.dtype)
    rows = weights.reshape(n_kinds, n_radial, 4, n_models * channels)
    found = numpy.empty(n_models * channels, weights.dtype)
    for atom in range(len(offsets) - 1):
        if offsets[atom] == offsets[atom + 1]:
            continue
        first = types[offsets[atom]] // n_elements * n_elements
        density[:] = 0
        for pair in range(offsets[atom], offsets[atom + 1]):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            harmonics(x / distance, y / distance, z / distance, harmonic)
            radial_functions(distance, scales[types[pair]], cutoff, basis, steep)
            own = density[types[pair] - first]
            for n in range(n_radial):
                for m in range(16):
                    own[n, m] += basis[n] * harmonic[m]
        for degree in range(4):
            for m in range(degree**2, (degree + 1) ** 2):
                found[:] = 0
                for element in range(n_elements):
                    for n in range(n_radial):
                        value, row = density[element, n, m], rows[first + element, n, degree]
                        for k in range(n_models * channels):
                            found[k] += value * row[k]
                for model in range(n_models):
                    for k in range(channels):
                        moments[model, atom, m, k] += found[model * channels + k]


@numba.njit(**COMPILED)
def pull_back(
    offsets: NDArray,
    neighbours: NDArray,
    types: NDArray,
    scales: NDArray,
    cutoff: float,
    vectors: NDArray,
    turned: NDArray,
    gradient: NDArray,
    owner: NDArray,
    forces: NDArray,
    virials: NDArray,
) -> None:
    """Subtract the gradient with respect to the positions from forces, and add that with respect to strain to virials.

    Parameters
    ----------
    offsets, types, scales, cutoff, vectors : of ``project``
    neighbours : (n_pairs,) the neighbouring atom
    turned : (n_elements, 4, n_models, channels, n_elements * n_radial) the weights of ``project``, the element of the
        centre first, the radial function last
    gradient : (n_models, n_atoms, 16, channels) with respect to the moments
    owner : (n_atoms,) structure of each atom
    forces : (n_models, n_atoms, 3)
    virials : (n_models, n_structures, 3, 3)
    """
    n_elements, _, n_models, _, n_rows = turned.shape
    n_radial = n_rows // n_elements
    largest = 0
    for atom in range(len(offsets) - 1):
        largest = max(largest, offsets[atom + 1] - offsets[atom])
    harmonic, tilt = numpy.empty((largest, 16), vectors.dtype), numpy.empty((16, 3), vectors.dtype)
    tilts = numpy.empty((largest, 3, 16), vectors.dtype)
    basis, steep = numpy.empty((largest, n_radial), vectors.dtype), numpy.empty((largest, n_radial), vectors.dtype)
    of_density = numpy.empty((n_elements, n_radial, 16 * n_models), vectors.dtype)
    found = numpy.empty(n_elements * n_radial, vectors.dtype)
    across, along = numpy.empty(16 * n_models, vectors.dtype), numpy.empty(16 * n_models, vectors.dtype)
    pull = numpy.empty((n_models, 3), vectors.dtype)
    for atom in range(len(offsets) - 1):
        begin, end = offsets[atom], offsets[atom + 1]
        if begin == end:
            continue
        first = types[begin] // n_elements * n_elements
        for pair in range(begin, end):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            place = pair - begin
            harmonics(x / distance, y / distance, z / distance, harmonic[place])
            harmonic_slopes(x / distance, y / distance, z / distance, harmonic[place], tilt)
            for m in range(16):
                for c in range(3):
                    tilts[place, c, m] = tilt[m, c] / distance
            radial_functions(distance, scales[types[pair]], cutoff, basis[place], steep[place])
        _project_back(turned[first // n_elements], gradient[:, atom], found, of_density)
        for pair in range(begin, end):
            x, y, z = vectors[pair]
            distance = math.sqrt(x * x + y * y + z * z)
            if distance >= cutoff:
                continue
            place = pair - begin
            _combine(basis[place], steep[place], of_density[types[pair] - first], across, along)
            _pull(across, along, harmonic[place], tilts[place], vectors[pair], distance, pull)
            structure, other = owner[atom], neighbours[pair]
            for model in range(n_models):
                for a in range(3):
                    forces[model, atom, a] += pull[model, a]
                    forces[model, other, a] -= pull[model, a]
                    for b in range(3):
                        virials[model, structure, a, b] += vectors[pair, a] * pull[model, b]


@numba.njit(**COMPILED)
def _project_back(turned, gradient, found, of_density):
    """Gradient with respect to the density of one atom from that with respect to its moments, models side by side."""
    _, n_models, channels, n_rows = turned.shape
    rows = of_density.reshape(n_rows, 16 * n_models)
    for model in range(n_models):
        for degree in range(4):
            for m in range(degree**2, (degree + 1) ** 2):
                found[:] = 0
                for k in range(channels):
                    value, row = gradient[model, m, k], turned[degree, model, k]
                    for n in range(n_rows):
                        found[n] += value * row[n]
                for n in range(n_rows):
                    rows[n, 16 * model + m] = found[n]


@numba.njit(**COMPILED)
def _combine(basis, steep, of_density, across, along):
    """Sums over the radial functions, and over their slopes, of the gradient with respect to the density."""
    across[:], along[:] = 0, 0
    for n in range(len(basis)):
        value, slope, own = basis[n], steep[n], of_density[n]
        for k in range(len(across)):
            across[k] += value * own[k]
            along[k] += slope * own[k]


@numba.njit(**COMPILED)
def _pull(across, along, harmonic, tilts, vector, distance, pull):
    """Gradient with respect to the vector of a pair, for each model."""
    for model in range(len(pull)):
        stretch = pull_x = pull_y = pull_z = harmonic.dtype.type(0)
        for m in range(16):
            stretch += along[16 * model + m] * harmonic[m]
            pull_x += across[16 * model + m] * tilts[0, m]
            pull_y += across[16 * model + m] * tilts[1, m]
            pull_z += across[16 * model + m] * tilts[2, m]
        stretch /= distance
        pull[model, 0] = pull_x + stretch * vector[0]
        pull[model, 1] = pull_y + stretch * vector[1]
        pull[model, 2] = pull_z + stretch * vector[2]


@numba.njit(**COMPILED)
def contract(mixed: NDArray, n_products: int, places: NDArray, couplings: NDArray, invariants: NDArray) -> None:
    """Contract mixed moments to the products and triple products of ``EquivariantPotential``; atoms count fastest.

    Parameters
    ----------
    mixed : (n_models, 2 n_products + 2 n_triples, 16, n_atoms) left and right factors of the products, then of the
        triple products
    places : (n_couplings, 4) number of the triple, and the three components that couple
    couplings : (n_couplings,)
    invariants : (n_models, 4 n_products + n n_triples, n_atoms) zeros to be filled
    """
    n_triples, n_atoms = mixed.shape[1] // 2 - n_products, mixed.shape[3]
    left, right = 2 * n_products, 2 * n_products + n_triples
    for model in range(len(mixed)):
        for k in range(n_products):
            for degree in range(4):
                found = invariants[model, degree * n_products + k]
                share = mixed.dtype.type((2 * degree + 1) ** -0.5)
                for m in range(degree**2, (degree + 1) ** 2):
                    one, two = mixed[model, k, m], mixed[model, n_products + k, m]
                    for atom in range(n_atoms):
                        found[atom] += share * one[atom] * two[atom]
        for k in range(n_triples):
            for entry in range(len(places)):
                triple, a, b, c = places[entry]
                found = invariants[model, 4 * n_products + triple * n_triples + k]
                one, two, three = mixed[model, left + k, a], mixed[model, right + k, b], mixed[model, left + k, c]
                coupling = couplings[entry]
                for atom in range(n_atoms):
                    found[atom] += coupling * one[atom] * two[atom] * three[atom]


@numba.njit(**COMPILED)
def contract_back(
    mixed: NDArray, n_products: int, places: NDArray, couplings: NDArray, gradient: NDArray, of_mixed: NDArray
) -> None:
    """Gradient with respect to mixed moments from that with respect to the invariants.

    Parameters
    ----------
    mixed, n_products, places, couplings : of ``contract``
    gradient : (n_models, n_invariants, n_atoms) with respect to what ``contract`` fills
    of_mixed : of the shape of ``mixed``, zeros to be filled
    """
    n_triples, n_atoms = mixed.shape[1] // 2 - n_products, mixed.shape[3]
    left, right = 2 * n_products, 2 * n_products + n_triples
    for model in range(len(mixed)):
        for k in range(n_products):
            for degree in range(4):
                slope = gradient[model, degree * n_products + k]
                share = mixed.dtype.type((2 * degree + 1) ** -0.5)
                for m in range(degree**2, (degree + 1) ** 2):
                    one, two = mixed[model, k, m], mixed[model, n_products + k, m]
                    of_one, of_two = of_mixed[model, k, m], of_mixed[model, n_products + k, m]
                    for atom in range(n_atoms):
                        of_one[atom] = share * slope[atom] * two[atom]
                        of_two[atom] = share * slope[atom] * one[atom]
        for k in range(n_triples):
            for entry in range(len(places)):
                triple, a, b, c = places[entry]
                slope, coupling = gradient[model, 4 * n_products + triple * n_triples + k], couplings[entry]
                one, two, three = mixed[model, left + k, a], mixed[model, right + k, b], mixed[model, left + k, c]
                of_one, of_two = of_mixed[model, left + k, a], of_mixed[model, right + k, b]
                of_three = of_mixed[model, left + k, c]
                for atom in range(n_atoms):
                    value = coupling * slope[atom]
                    of_one[atom] += value * two[atom] * three[atom]
                    of_two[atom] += value * one[atom] * three[atom]
                for atom in range(n_atoms):  # may be the same row as that of the first factor
                    of_three[atom] += coupling * slope[atom] * one[atom] * two[atom]
