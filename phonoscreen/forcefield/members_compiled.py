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
    moments : (n_models, 16, n_atoms, channels), added to
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
                        moments[model, m, atom, k] += found[model * channels + k]


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
    gradient : (n_models, 16, n_atoms, channels) with respect to the moments
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
        _project_back(turned[first // n_elements], gradient[:, :, atom], found, of_density)
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


TOGETHER = 256
"""Columns that the contractions take together: those of one factor and all components stay in the fastest cache."""


@numba.njit(**COMPILED)
def contract(mixed: NDArray, n_products: int, places: NDArray, couplings: NDArray, invariants: NDArray) -> None:
    """Contract mixed moments to the products and triple products of ``EquivariantPotential``.

    A column is an atom as one of the models sees it. The loops over columns are innermost: a small crystal has many
    components and few atoms.

    Parameters
    ----------
    mixed : (16, 2 n_products + 2 n_triples, n_columns) left and right factors of the products, then of the triple
        products
    places : (n_couplings, 4) number of the triple, and the three components that couple
    couplings : (n_couplings,)
    invariants : (4 n_products + n n_triples, n_columns) to be filled
    """
    n_triples, n_columns = mixed.shape[1] // 2 - n_products, mixed.shape[2]
    left, right = 2 * n_products, 2 * n_products + n_triples
    invariants[:] = 0
    for begin in range(0, n_columns, TOGETHER):
        some = slice(begin, min(begin + TOGETHER, n_columns))
        for k in range(n_products):
            for degree in range(4):
                found = invariants[degree * n_products + k, some]
                share = mixed.dtype.type((2 * degree + 1) ** -0.5)
                for m in range(degree**2, (degree + 1) ** 2):
                    one, two = mixed[m, k, some], mixed[m, n_products + k, some]
                    for n in range(len(found)):
                        found[n] += share * one[n] * two[n]
        for k in range(n_triples):
            for entry in range(len(places)):
                triple, a, b, c = places[entry]
                found = invariants[4 * n_products + triple * n_triples + k, some]
                one, two, three = mixed[a, left + k, some], mixed[b, right + k, some], mixed[c, left + k, some]
                coupling = couplings[entry]
                for n in range(len(found)):
                    found[n] += coupling * one[n] * two[n] * three[n]


@numba.njit(**COMPILED)
def contract_back(
    mixed: NDArray, n_products: int, places: NDArray, couplings: NDArray, gradient: NDArray, of_mixed: NDArray
) -> None:
    """Gradient with respect to mixed moments from that with respect to the invariants.

    Parameters
    ----------
    mixed, n_products, places, couplings : of ``contract``
    gradient : (n_invariants, n_columns) with respect to what ``contract`` fills
    of_mixed : of the shape of ``mixed``, to be filled
    """
    n_triples, n_columns = mixed.shape[1] // 2 - n_products, mixed.shape[2]
    left, right = 2 * n_products, 2 * n_products + n_triples
    of_mixed[:, left:] = 0
    for begin in range(0, n_columns, TOGETHER):
        some = slice(begin, min(begin + TOGETHER, n_columns))
        for k in range(n_products):
            for degree in range(4):
                slope = gradient[degree * n_products + k, some]
                share = mixed.dtype.type((2 * degree + 1) ** -0.5)
                for m in range(degree**2, (degree + 1) ** 2):
                    one, two = mixed[m, k, some], mixed[m, n_products + k, some]
                    of_one, of_two = of_mixed[m, k, some], of_mixed[m, n_products + k, some]
                    for n in range(len(slope)):
                        of_one[n] = share * slope[n] * two[n]
                        of_two[n] = share * slope[n] * one[n]
        for k in range(n_triples):
            for entry in range(len(places)):
                triple, a, b, c = places[entry]
                slope = gradient[4 * n_products + triple * n_triples + k, some]
                one, two, three = mixed[a, left + k, some], mixed[b, right + k, some], mixed[c, left + k, some]
                of_one, of_two = of_mixed[a, left + k, some], of_mixed[b, right + k, some]
                of_three, coupling = of_mixed[c, left + k, some], couplings[entry]
                for n in range(len(slope)):  # a loop for each: the first and the third row may be the same
                    of_one[n] += coupling * slope[n] * two[n] * three[n]
                for n in range(len(slope)):
                    of_two[n] += coupling * slope[n] * one[n] * three[n]
                for n in range(len(slope)):
                    of_three[n] += coupling * slope[n] * one[n] * two[n]


@numba.njit(**COMPILED)
def standardise(
    scalars: NDArray,
    contracted: NDArray,
    mean: NDArray,
    scale: NDArray,
    largest: float,
    centred: NDArray,
    scaled: NDArray,
    slopes: NDArray,
) -> None:
    """Subtract the mean of each invariant, divide by its scale, and bend what is far from the mean.

    Parameters
    ----------
    scalars : (n_models, n_atoms, channels) the first invariants
    contracted : (n_others, n_models, n_atoms) the others, of ``contract``
    mean, scale : (n_models, n_invariants)
    largest : what a scaled invariant tends to, see ``SCALED_MAX``
    centred : (n_models, n_atoms, n_invariants) to be filled with the difference from the mean
    scaled : (n_models, n_atoms, at least n_invariants) to be filled with the bent one
    slopes : (n_models, n_atoms, n_invariants) to be filled with the derivative of the bent one
    """
    n_models, n_atoms, n_invariants = centred.shape
    channels = scalars.shape[2]
    for model in range(n_models):
        for atom in range(n_atoms):
            own, bent, slope = centred[model, atom], scaled[model, atom], slopes[model, atom]
            own[:channels] = scalars[model, atom]
            own[channels:] = contracted[:, model, atom]
            for k in range(n_invariants):
                own[k] -= mean[model, k]
                value = own[k] / scale[model, k]
                shrink = 1 / math.sqrt(1 + (value / largest) ** 2)
                bent[k], slope[k] = value * shrink, shrink**3 / scale[model, k]


@numba.njit(**COMPILED)
def interact(
    charges: NDArray,
    cosine: NDArray,
    sine: NDArray,
    waves: NDArray,
    weights: NDArray,
    sigma: float,
    energy: NDArray,
    of_charges: NDArray,
    of_positions: NDArray,
    virials: NDArray,
) -> None:
    """Interaction of the charges of equal structures (``phonoscreen.forcefield.long_range``), with its derivatives.

    Parameters
    ----------
    charges : (n_models, copies, n_atoms); the mean charge of each structure is subtracted
    cosine, sine : (copies, n_atoms, n_waves) of the phases
    waves, weights : of ``wave_vectors``
    sigma : width of the charges, angstrom
    energy : (n_models,) eV, double precision, added to
    of_charges : (n_models, copies, n_atoms) derivative of the energy, to be filled
    of_positions : (n_models, copies, n_atoms, 3) the same, eV/angstrom, to be filled
    virials : (n_models, copies, 3, 3) derivative with respect to strain at constant charges, eV, to be filled
    """
    n_models, copies, n_atoms = charges.shape
    along, across = numpy.empty(len(waves), charges.dtype), numpy.empty(len(waves), charges.dtype)
    own = numpy.empty(n_atoms, charges.dtype)
    for model in range(n_models):
        for copy in range(copies):
            own[:] = charges[model, copy] - charges[model, copy].mean()
            along[:], across[:] = 0, 0
            for atom in range(n_atoms):
                for k in range(len(waves)):
                    along[k] += own[atom] * cosine[copy, atom, k]
                    across[k] += own[atom] * sine[copy, atom, k]
            strain = virials[model, copy]
            strain[:] = 0
            for k in range(len(waves)):
                term = (along[k] ** 2 + across[k] ** 2) * weights[k]
                slope = 2 * (sigma**2 + 1 / (waves[k, 0] ** 2 + waves[k, 1] ** 2 + waves[k, 2] ** 2))
                energy[model] += term
                for a in range(3):
                    strain[a, a] -= term
                    for b in range(3):
                        strain[a, b] += term * slope * waves[k, a] * waves[k, b]
                along[k] *= 2 * weights[k]
                across[k] *= 2 * weights[k]
            for atom in range(n_atoms):
                potential = x = y = z = charges.dtype.type(0)
                for k in range(len(waves)):
                    potential += along[k] * cosine[copy, atom, k] + across[k] * sine[copy, atom, k]
                    field = own[atom] * (across[k] * cosine[copy, atom, k] - along[k] * sine[copy, atom, k])
                    x += field * waves[k, 0]
                    y += field * waves[k, 1]
                    z += field * waves[k, 2]
                of_charges[model, copy, atom] = potential
                place = of_positions[model, copy, atom]
                place[0], place[1], place[2] = x, y, z
            of_charges[model, copy] -= of_charges[model, copy].mean()
