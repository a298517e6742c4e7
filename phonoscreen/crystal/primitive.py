"""Any supercell as repetitions of a primitive cell along its own three vectors.

Every sublattice has a diagonal form: for the integer matrix S of a supercell there are unimodular P and Q with
P S Q = diag(n0, n1, n2) (H. J. S. Smith, Phil. Trans. R. Soc. 151, 293 (1861)), so the primitive vectors Q^-1 A,
repeated n0, n1 and n2 times, span the same supercell. Conventional cells and supercell matrices with off-diagonal
elements therefore need no code of their own.
"""

from itertools import combinations, permutations

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import reduced_lattice
from phonoscreen.crystal.symmetry import TOLERANCE_ANGSTROM, symmetrise
from phonoscreen.crystal.symmetry_search import find_dataset

OWN_VECTORS = numpy.eye(3, dtype=int)
CELLS_MAX = 100_000
"""Primitive cells of a supercell; calculations have some hundreds at most, a damaged file any number."""


def primitive_crystal(crystal: Crystal, tolerance_angstrom: float = TOLERANCE_ANGSTROM) -> Crystal:
    """Primitive cell of a crystal in its own orientation, symmetrised; a primitive crystal keeps its vectors.

    Parameters
    ----------
    crystal : ``Crystal``, perhaps a conventional cell or a perfect supercell
    tolerance_angstrom : largest distance between an atom and its image

    Returns
    -------
    Crystal

    Raises
    ------
    StudyError
        If spglib finds no space group.
    """
    found = find_dataset(crystal, tolerance_angstrom)
    same = found.mapping_to_primitive
    kept = numpy.sort(numpy.unique(same, return_index=True)[1])
    if len(kept) == len(crystal.numbers):
        return symmetrise(crystal, tolerance_angstrom)
    # the primitive vectors as exact fractions of the cell's, and the positions as means over all copies of an atom
    repeated = numpy.rint(numpy.asarray(crystal.cell) @ numpy.linalg.inv(found.primitive_lattice))
    cell = numpy.linalg.inv(repeated) @ crystal.cell
    scaled = crystal.scaled_positions @ repeated
    places = scaled[kept].copy()
    for place, atom in zip(places, kept):
        step = scaled[same == same[atom]] - place
        place += (step - numpy.rint(step)).mean(axis=0)
    primitive = Crystal(cell, places, crystal.numbers[kept], numpy.asarray(crystal.masses)[kept])
    return symmetrise(primitive, tolerance_angstrom)


def repeated_primitive(
    crystal: Crystal, supercell: ArrayLike, tolerance_angstrom: float = TOLERANCE_ANGSTROM
) -> tuple[Crystal, tuple[int, ...]]:
    """Primitive cell whose repetitions along its own vectors are a given supercell.

    Parameters
    ----------
    crystal : ``Crystal``, primitive or not
    supercell : (3, 3) lattice vectors as rows, angstrom
    tolerance_angstrom : of the crystal's symmetry

    Returns
    -------
    crystal : ``Crystal``, primitive and symmetrised; with the vectors given if the supercell repeats these
    repetitions : (3,) integers

    Raises
    ------
    StudyError
        If the supercell's vectors are not lattice vectors of the crystal, or it is larger than any calculation's.
    """
    primitive = primitive_crystal(crystal, tolerance_angstrom)
    supercell = numpy.asarray(supercell, float)
    exact = supercell @ numpy.linalg.inv(primitive.cell)
    matrix = numpy.rint(exact).astype(int)
    if numpy.abs((exact - matrix) @ primitive.cell).max() > 0.01 or round(numpy.linalg.det(matrix)) == 0:
        raise StudyError(
            f"the supercell's vectors {numpy.round(supercell, 4).tolist()} are not lattice vectors of the crystal",
            fix="give the crystal that was repeated, in the same orientation",
        )
    n_cells = abs(numpy.linalg.det(matrix))
    if n_cells > CELLS_MAX:
        raise StudyError(
            f"the supercell holds {n_cells:.3g} primitive cells, more than {CELLS_MAX}",
            fix="check the vectors of the supercell and of the crystal",
        )
    repetitions, basis = _along_own_vectors(matrix)
    if basis is None:
        repetitions, basis = _compact(matrix, primitive.cell)
    cell = basis @ primitive.cell
    scaled = primitive.scaled_positions @ numpy.linalg.inv(basis)
    if len(primitive.numbers) != len(crystal.numbers) or basis is not OWN_VECTORS:
        scaled -= numpy.floor(scaled + 1e-6)
    return Crystal(cell, scaled, primitive.numbers, primitive.masses), tuple(int(n) for n in repetitions)


def _along_own_vectors(matrix: NDArray) -> tuple[NDArray, NDArray | None]:
    """Repetitions along the primitive vectors themselves, if these span the supercell; else no basis."""
    inverse = numpy.linalg.inv(matrix)
    whole = numpy.arange(1, abs(round(numpy.linalg.det(matrix))) + 1)
    steps = whole[:, None, None] * inverse
    fits = (numpy.abs(steps - numpy.rint(steps)) < 1e-6).all(axis=2)
    repetitions = whole[fits.argmax(axis=0)]
    return repetitions, OWN_VECTORS if repetitions.prod() == whole[-1] else None


def _compact(matrix: NDArray, cell: NDArray) -> tuple[NDArray, NDArray]:
    """Repetitions and the integer basis (rows, in units of the primitive vectors) that they repeat.

    A basis fits when the numbers of steps along each of its vectors that lead into the supercell's lattice multiply to
    the number of primitive cells. Among short vectors the basis with the shortest ones is taken; the Smith normal form
    is the last resort, because its vectors are long.
    """
    reduced, change = reduced_lattice(cell)
    in_reduced = numpy.rint(matrix @ numpy.linalg.inv(change)).astype(int)
    n_cells = abs(round(numpy.linalg.det(matrix)))
    for reach in (1, 2, 3):
        found = _shortest_basis(in_reduced, reduced, n_cells, reach)
        if found is not None:
            break
    else:
        repetitions, basis = _smith(in_reduced)
        found = repetitions, _shorten(basis, repetitions, reduced)
    repetitions, basis = found
    return _along(repetitions, basis @ change, cell, matrix @ cell)


def _shortest_basis(matrix: NDArray, cell: NDArray, n_cells: int, reach: int) -> tuple[NDArray, NDArray] | None:
    """Shortest basis within a reach of the reduced vectors that, repeated, spans a supercell; None if there is none."""
    vectors = numpy.array(list(numpy.ndindex(*(3 * [2 * reach + 1])))) - reach
    vectors = vectors[[tuple(v) > (0, 0, 0) and numpy.gcd.reduce(v) == 1 for v in vectors]]
    lengths = numpy.linalg.norm(vectors @ cell, axis=1)
    order = numpy.lexsort((*vectors.T, numpy.round(lengths, 4)))
    vectors, lengths = vectors[order], lengths[order]
    steps = _steps_into(matrix, vectors, n_cells)
    triples = numpy.array(list(combinations(range(len(vectors)), 3)))
    triples = triples[steps[triples].prod(axis=1) == n_cells]
    triples = triples[numpy.abs(numpy.rint(numpy.linalg.det(vectors[triples]))) == 1]
    if not len(triples):
        return None
    chosen = triples[numpy.round((lengths[triples] ** 2).sum(axis=1), 4).argmin()]
    return steps[chosen], vectors[chosen]


def _steps_into(matrix: NDArray, vectors: NDArray, n_cells: int) -> NDArray:
    """Number of steps along each lattice vector that lead into the supercell's lattice."""
    inverse = numpy.linalg.inv(matrix)
    divisors = numpy.array([n for n in range(1, n_cells + 1) if n_cells % n == 0])
    reached = divisors[:, None, None] * (vectors @ inverse)
    inside = (numpy.abs(reached - numpy.rint(reached)) < 1e-6).all(axis=2)
    return divisors[inside.argmax(axis=0)]


def _smith(matrix: NDArray) -> tuple[NDArray, NDArray]:
    """Repetitions and the integer basis (rows, in units of the primitive vectors) that they repeat."""
    from phonopy.structure.snf import SNF3x3

    form = SNF3x3(matrix)
    return numpy.abs(form.D.diagonal()), numpy.rint(numpy.linalg.inv(form.Q)).astype(int)


def _shorten(basis: NDArray, repetitions: NDArray, cell: NDArray) -> NDArray:
    """Shorter vectors that span the same lattice and the same supercell when repeated as before."""
    basis = basis.copy()
    while True:
        before = basis.copy()
        for i, j in ((i, j) for i in range(3) for j in range(3) if i != j):
            step = repetitions[j] // numpy.gcd(repetitions[i], repetitions[j]) * basis[j]
            along = step @ cell
            basis[i] -= int(numpy.rint(basis[i] @ cell @ along / (along @ along))) * step
        if numpy.array_equal(before, basis):
            return basis


def _along(repetitions: NDArray, basis: NDArray, cell: NDArray, supercell: NDArray) -> tuple[NDArray, NDArray]:
    """Order and signs of basis vectors that make them right-handed and lie along the supercell's vectors."""
    wanted = supercell / numpy.linalg.norm(supercell, axis=1, keepdims=True)

    def agreement(order, signs):
        own = (1 - 2 * numpy.array(signs))[:, None] * basis[list(order)] @ cell
        right_handed = numpy.linalg.det(own) > 0
        return right_handed, round(float(((own / numpy.linalg.norm(own, axis=1, keepdims=True)) * wanted).sum()), 6)

    choices = [(order, signs) for order in permutations(range(3)) for signs in numpy.ndindex(2, 2, 2)]
    order, signs = max(choices, key=lambda choice: agreement(*choice))
    return repetitions[list(order)], (1 - 2 * numpy.array(signs))[:, None] * basis[list(order)]
