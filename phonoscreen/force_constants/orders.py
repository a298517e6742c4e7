"""Solution for the orders of the force constants, together or one after the other, each by its own method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.force_constants.normal_equations import Factor, NormalEquations, Sums
from phonoscreen.force_constants.sparse_regression import PENALTIES, sparse_path

ORDERS = ("second", "third", "fourth")

METHODS = ("least_squares", *PENALTIES)


@dataclass
class Block:
    """Force constants that are determined together.

    Parameters
    ----------
    columns : (n,) indices of their parameters
    sparse : (n,) whether the sparse method acts on a parameter; least squares on the others
    method : the sparse method, or None
    """

    columns: numpy.ndarray
    sparse: numpy.ndarray
    method: str | None


@dataclass
class Solution:
    """Parameters of all sets of forces and how they were found.

    Parameters
    ----------
    parameters : (n_free, n_sets), eV/angstrom^order
    penalties : the value chosen for each block, NaN for least squares
    left_out : dict from a group of supercells to the parameters (n_free,) of the first set of forces fitted to the
        other groups; groups whose absence leaves force constants undetermined are missing
    factor : ``Factor`` of the whole normal matrix where it had to be made, else None
    """

    parameters: numpy.ndarray
    penalties: list
    left_out: dict
    factor: Factor | None


def methods_of_orders(method: str | dict[str, str], n_orders: int) -> list[str]:
    """Method of each order.

    Parameters
    ----------
    method : one name for all orders, or a mapping from ``second``, ``third``, ``fourth``
    n_orders : number of orders in the fit

    Returns
    -------
    list of names

    Raises
    ------
    StudyError
        For a name that is none of ``METHODS`` or an order without a method. Methods of orders that are not fitted are
        allowed: the settings of a study name all three.
    """
    names = ORDERS[:n_orders]
    chosen = dict.fromkeys(names, method) if isinstance(method, str) else dict(method)
    for name in names:
        if name not in chosen:
            raise StudyError(
                f"the {name} order has no method",
                fix="give one method for all orders, or one for each: --method "
                f"(force_constants.method.{name} in a study)",
            )
        if chosen.get(name) not in METHODS:
            raise StudyError(
                f"unknown method {chosen.get(name)!r} of the {name} order",
                fix=f"use one of {', '.join(METHODS)} for each order: --method "
                f"(force_constants.method.{name} in a study)",
            )
    return [chosen[name] for name in names]


def plan_blocks(sizes: Sequence[int], methods: Sequence[str], in_sequence: bool) -> list[Block]:
    """Blocks of the solution, in the order in which they are solved.

    Parameters
    ----------
    sizes : number of free force constants of each order
    methods : method of each order
    in_sequence : each order is fitted to what the lower ones leave; otherwise all together

    Returns
    -------
    list of ``Block``

    Raises
    ------
    StudyError
        If two different sparse methods would have to act together.
    """
    columns = numpy.split(numpy.arange(sum(sizes)), numpy.cumsum(sizes)[:-1])
    sparse = [numpy.full(size, method != "least_squares") for size, method in zip(sizes, methods)]
    if in_sequence:
        return [Block(own, mask, None if method == "least_squares" else method)
                for own, mask, method in zip(columns, sparse, methods)]  # fmt: skip
    different = sorted(set(methods) - {"least_squares"})
    if len(different) > 1:
        raise StudyError(
            f"{' and '.join(different)} cannot choose their penalties in one fit",
            fix="give --in-sequence (force_constants.in_sequence: true in a study), or use one sparse method",
        )
    return [Block(numpy.concatenate(columns), numpy.concatenate(sparse), different[0] if different else None)]


def n_groups_wanted(blocks: Sequence[Block], n_supercells: int) -> int:
    """Groups of supercells for validation: five with a sparse method, else only the last fifth is held out.

    Raises
    ------
    StudyError
        If a sparse method has a single supercell, which leaves nothing to choose its penalty with.
    """
    if all(block.method is None for block in blocks):
        return min(n_supercells, 2)
    if n_supercells < 2:
        raise StudyError(
            "cross-validation needs at least two supercells",
            fix="give more, or use least_squares: --method (force_constants.method in a study)",
        )
    return min(n_supercells, 5)


def solve_blocks(blocks: Sequence[Block], equations: NormalEquations) -> Solution:
    """Solve block after block, and again without each held-out group.

    Parameters
    ----------
    blocks : list of ``Block``
    equations : ``NormalEquations``

    Returns
    -------
    Solution

    Raises
    ------
    StudyError
        If the displacements do not determine the force constants of a least-squares block.
    """
    every, n_groups = equations.without(), len(equations.gram)
    parameters, penalties = numpy.zeros_like(every.moment), []
    validated = range(n_groups) if any(block.method for block in blocks) else [n_groups - 1]
    left_out = {g: numpy.zeros((len(parameters), 1)) for g in validated} if n_groups > 1 else {}
    factor = None
    for block in blocks:
        if block.method is None:
            penalties.append(float("nan"))
            parameters[block.columns], factor = _least_squares(block, every, parameters)
            for g in list(left_out):
                try:
                    left_out[g][block.columns] = _least_squares(block, equations.without(g), left_out[g])[0]
                except StudyError:  # the others alone do not determine the force constants
                    del left_out[g]
            continue
        tried = PENALTIES[block.method]
        paths = {g: _Sparse(block, equations.without(g), known).path(0, tried) for g, known in left_out.items()}
        errors = [sum(equations.only(g).misfit(_joined(block, left_out[g], path[k])) for g, path in paths.items())
                  for k in range(len(tried))]  # fmt: skip
        best = int(numpy.argmin(errors))
        penalties.append(float(tried[best]))
        for g, path in paths.items():
            left_out[g] = _joined(block, left_out[g], path[best])[:, None]
        sparse = _Sparse(block, every, parameters)
        for number in range(parameters.shape[1]):
            parameters[block.columns, number] = sparse.path(number, tried[: best + 1])[-1]
    left_out = {g: own[:, 0] for g, own in left_out.items()}
    return Solution(parameters, penalties, left_out, factor if len(blocks) == 1 else None)


def held_out_error(equations: NormalEquations, left_out: dict[int, NDArray]) -> float:
    """Root mean square force error on supercells left out of the fit, eV/angstrom; NaN where none could be.

    Parameters
    ----------
    equations : ``NormalEquations``
    left_out : parameters by group of supercells, see ``Solution``
    """
    misfit = sum(equations.only(g).misfit(own) for g, own in left_out.items())
    n_held = sum(int(equations.equations[g]) for g in left_out)
    return float(numpy.sqrt(misfit / n_held)) if n_held else float("nan")


def _least_squares(block, sums, known):
    """Parameters of a block without penalty, (n_columns, n_sets), and the factor of its normal matrix."""
    rest = sums.block(block.columns, known)
    factor = rest.factorise()
    return factor.solve(rest.moment), factor


class _Sparse:
    """A block with a sparse method, its least-squares part eliminated.

    For given sparse parameters those of least squares follow from the normal equations.
    """

    def __init__(self, block, sums, known):
        rest = sums.block(block.columns, known)
        self._method, self._free, self._sparse = block.method, ~block.sparse, block.sparse
        self._reduced = rest
        if self._free.any():
            free, sparse = numpy.flatnonzero(self._free), numpy.flatnonzero(self._sparse)
            factor, coupling = rest.block(free, None).factorise(), rest.gram[numpy.ix_(free, sparse)]
            self._response, self._own = factor.solve(coupling), factor.solve(rest.moment[free])
            self._reduced = Sums(
                rest.gram[numpy.ix_(sparse, sparse)] - coupling.T @ self._response,
                rest.moment[sparse] - coupling.T @ self._own,
                rest.square - (rest.moment[free] * self._own).sum(axis=0),
                rest.equations,
            )

    def path(self, number, penalties):
        """Parameters of the block for each penalty, (n_penalties, n_columns)."""
        path = numpy.zeros((len(penalties), len(self._sparse)))
        path[:, self._sparse] = sparse_path(self._method, self._reduced, number, penalties)
        if self._free.any():
            path[:, self._free] = self._own[:, number] - path[:, self._sparse] @ self._response.T
        return path


def _joined(block, known, own):
    """All parameters of the first set, those of one block replaced."""
    joined = known[:, 0].copy()
    joined[block.columns] = own
    return joined
