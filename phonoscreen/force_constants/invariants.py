"""Force constants that the crystal's symmetry, permutation and translation allow, as a linear space.

Every tensor of an orbit of clusters follows from one; that one lies in the space left unchanged by the operations
that keep its cluster. The acoustic sum rule removes the rest. Compare F. Zhou, W. Nielson, Y. Xia, V. Ozolins,
Phys. Rev. Lett. 113, 185501 (2014); F. Eriksson, E. Fransson, P. Erhart, Adv. Theory Simul. 2, 1800184 (2019);
A. Seko, A. Togo, Phys. Rev. B 110, 214302 (2024).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy
from numpy.typing import NDArray
from scipy import sparse

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.ranks import UnclearRank, clear_rank
from phonoscreen.crystal.symmetry import CrystalSymmetry
from phonoscreen.force_constants.clusters import Clusters, image_table

MAX_SYMMETRIC = 10_000
"""Tensors allowed by symmetry beyond which a crystal has lost its symmetry or the cutoff is far too long; the fit of
8,626 of second order takes 7 to 9 GB and 50 CPU s."""


@dataclass
class OrderBasis:
    """Basis of the allowed force constants of one order.

    Parameters
    ----------
    clusters : ``Clusters`` of this order
    tensors : sparse (n_clusters * 3^order, n_free), the tensors of all clusters for each free force constant
    symmetry_residual : largest violation of space group and permutation by random parameters, relative to the largest
        tensor element; measured when the basis is built
    """

    clusters: Clusters
    tensors: sparse.csr_array
    symmetry_residual: float = float("nan")

    @property
    def n_free(self) -> int:
        """Number of free force constants."""
        return self.tensors.shape[1]

    def expand(self, parameters: NDArray) -> NDArray:
        """Tensors of all clusters.

        Parameters
        ----------
        parameters : (n_free,) eV/angstrom^order

        Returns
        -------
        (n_clusters, 3, 3, ...) eV/angstrom^order
        """
        values = self.tensors @ parameters
        return values.reshape(len(self.clusters.atoms), *(3,) * self.clusters.order)

    def acoustic_residual(self, parameters: NDArray) -> float:
        """Largest sum over the last site, relative to the largest force constant."""
        values = (self.tensors @ parameters).reshape(len(self.clusters.atoms), -1)
        return float(numpy.abs(self._sum_over_last @ values).max() / max(numpy.abs(values).max(), 1e-300))

    @cached_property
    def _sum_over_last(self):
        rest = _without_last_site(self.clusters)
        ones = numpy.ones(len(rest))
        return sparse.csr_array((ones, (rest, numpy.arange(len(rest)))))


def build_order(clusters: Clusters, symmetry: CrystalSymmetry) -> OrderBasis:
    """Basis of the allowed force constants of a set of clusters.

    Parameters
    ----------
    clusters : ``Clusters``
    symmetry : ``CrystalSymmetry``

    Returns
    -------
    OrderBasis

    Raises
    ------
    StudyError
        If symmetry leaves more tensors than any fit could determine.
    """
    table, orders = image_table(clusters, symmetry)
    tensors = _symmetric_tensors(clusters.order, table, orders, symmetry.cartesian)
    constraints = _translation_constraints(clusters, table, orders, tensors)
    acoustic = _null_space(constraints, _distinct_sites(clusters, tensors))
    tensors = sparse.csr_array(tensors @ sparse.csr_array(acoustic))
    return OrderBasis(clusters, tensors, _symmetry_residual(tensors, table, orders, symmetry.cartesian))


def _symmetry_residual(tensors, table, orders, cartesian):
    """Largest difference between a tensor's image under an operation and the tensor there, for some of the clusters."""
    n, size = len(orders[0]), 3 ** len(orders[0])
    values = tensors @ numpy.random.default_rng(0).normal(size=tensors.shape[1])
    values = values.reshape(-1, *(3,) * n)
    some = numpy.arange(0, len(values), max(1, len(values) // 300))
    rotations = _products(cartesian, n)
    worst = 0.0
    for row, images in enumerate(table):
        moved = values[some].transpose(0, *(1 + p for p in orders[row % len(orders)])).reshape(-1, size)
        moved = moved @ rotations[row // len(orders)].T
        worst = max(worst, float(numpy.abs(moved - values[images[some]].reshape(-1, size)).max()))
    return worst / max(float(numpy.abs(values).max()), 1e-300)


def _symmetric_tensors(order, table, orders, cartesian):
    """Sparse orthonormal basis of the tensors that symmetry and permutation allow."""
    size = 3**order
    rotations = _products(cartesian, order)
    axes = numpy.arange(size).reshape((3,) * order)
    shuffles = numpy.array([axes.transpose(permuted).ravel() for permuted in orders])
    rows, columns, values, n_columns = [], [], [], 0
    for head in numpy.unique(table.min(axis=0)):
        images = table[:, head]
        keep = numpy.flatnonzero(images == head)
        g, p = numpy.divmod(keep, len(orders))
        projector = rotations[g[:, None], shuffles[p]].mean(axis=0)
        invariant = _orthonormal_columns(projector)
        if not invariant.shape[1]:
            continue
        members, first = numpy.unique(images, return_index=True)
        g, p = numpy.divmod(first, len(orders))
        orbit = rotations[g[:, None], shuffles[p]] @ invariant / numpy.sqrt(len(members))
        member, component, column = numpy.nonzero(numpy.abs(orbit) > 1e-12)
        rows.append(members[member].astype(numpy.int64) * size + component)
        columns.append(column + n_columns)
        values.append(orbit[member, component, column])
        n_columns += invariant.shape[1]
        if n_columns > MAX_SYMMETRIC:
            raise StudyError(
                f"symmetry leaves more than {MAX_SYMMETRIC} free force constants of order {order}",
                fix="check that the crystal is the perfect, symmetric one, or use a shorter cutoff",
            )
    row, column, value = (numpy.concatenate(x) if x else numpy.zeros(0, int) for x in (rows, columns, values))
    return sparse.csr_array((value.astype(float), (row, column)), shape=(table.shape[1] * size, n_columns))


def _products(cartesian, order):
    """Rotations of tensors of an order: (n_operations, 3^order, 3^order)."""
    rotations = cartesian
    for _ in range(order - 1):
        n = rotations.shape[1]
        rotations = numpy.einsum("gab,gcd->gacbd", rotations, cartesian).reshape(-1, 3 * n, 3 * n)
    return rotations


def _orthonormal_columns(projector):
    """Orthonormal basis of a projector's range from its own columns, which keeps it sparse."""
    trace = float(numpy.trace(projector))
    rank = int(round(trace))
    if abs(trace - rank) > 1e-6:
        raise UnclearRank(
            f"the tensors that symmetry allows number {trace:.6f}: the operations form no group",
            fix="symmetrise the crystal, or raise --symmetry-tolerance (filter.symmetry_tolerance_angstrom in a study)",
        )
    basis = numpy.zeros((len(projector), rank))
    found = 0
    for column in projector.T:
        if found == rank:
            break
        rest = column - basis[:, :found] @ (basis[:, :found].T @ column)
        rest -= basis[:, :found] @ (basis[:, :found].T @ rest)
        length = numpy.linalg.norm(rest)
        if clear_rank([length], 1.0, "tensors that symmetry allows"):
            basis[:, found] = rest / length
            found += 1
    return basis


def _translation_constraints(clusters, table, orders, tensors):
    """Rows of the acoustic sum rule: the sum over the last site vanishes, one row per inequivalent rest."""
    lead = _without_last_site(clusters)
    last_stays = [p for p, permuted in enumerate(orders) if permuted[-1] == clusters.order - 1]
    images = lead[table.reshape(-1, len(orders), table.shape[1])[:, last_stays]].min(axis=(0, 1))
    heads = numpy.unique(images)
    size = 3**clusters.order
    chosen = numpy.flatnonzero(numpy.isin(lead, heads))
    row = numpy.searchsorted(heads, lead[chosen])
    gather = sparse.csr_array(
        (
            numpy.ones(len(chosen) * size),
            (
                (row[:, None] * size + numpy.arange(size)).ravel(),
                (chosen[:, None].astype(numpy.int64) * size + numpy.arange(size)).ravel(),
            ),
        ),
        shape=(len(heads) * size, tensors.shape[0]),
    )
    return gather @ tensors


def _without_last_site(clusters):
    """Number that clusters share when they differ in the last site only."""
    sites = numpy.concatenate([clusters.atoms[:, :-1], clusters.cells[:, :-1].reshape(len(clusters.atoms), -1)], axis=1)
    return numpy.unique(sites, axis=0, return_inverse=True)[1].ravel()


def _distinct_sites(clusters, tensors):
    """Number of different sites in the clusters of each column's orbit."""
    cells = clusters.cells if clusters.repetitions is None else clusters.cells % numpy.array(clusters.repetitions)
    sites = numpy.concatenate([clusters.atoms[:, :, None], cells], axis=2)
    same = (sites[:, :, None] == sites[:, None]).all(axis=-1)
    first_of_its_kind = same.argmax(axis=2) == numpy.arange(clusters.order)
    columns = tensors.tocsc()
    clusters_of_columns = columns.indices[columns.indptr[:-1]] // 3**clusters.order
    return first_of_its_kind.sum(axis=1)[clusters_of_columns]


def _null_space(constraints, sites):
    """Basis of the vectors that fulfil all constraints, each led by one column.

    Columns of clusters with few different sites are eliminated first: an atom's force constants with itself follow
    from those with its neighbours, and the free ones stay local, as sparse regression needs them.

    Parameters
    ----------
    constraints : sparse (n_rows, n_columns)
    sites : (n_columns,) number of different sites

    Returns
    -------
    (n_columns, n_free)
    """
    rows = constraints.toarray()
    n_columns = rows.shape[1]
    pivots: list[int] = []
    for column in numpy.argsort(sites, kind="stable"):
        if len(pivots) == len(rows):
            break
        below = numpy.abs(rows[len(pivots) :, column])
        best = len(pivots) + int(below.argmax())
        if not clear_rank([below[best - len(pivots)]], 1.0, "acoustic sum rule"):
            continue
        rows[[len(pivots), best]] = rows[[best, len(pivots)]]
        rows[len(pivots)] /= rows[len(pivots), column]
        others = numpy.flatnonzero(numpy.abs(rows[:, column]) > 0)
        others = others[others != len(pivots)]
        rows[others] -= rows[others, column, None] * rows[len(pivots)]
        rows[numpy.abs(rows) < 1e-13] = 0.0
        pivots.append(column)
    free = numpy.setdiff1d(numpy.arange(n_columns), pivots)
    basis = numpy.zeros((n_columns, len(free)))
    basis[free, numpy.arange(len(free))] = 1.0
    basis[pivots] = -rows[: len(pivots)][:, free]
    return basis
