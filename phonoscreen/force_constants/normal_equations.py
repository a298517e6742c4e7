"""Normal equations of the force-constant fit, kept apart for groups of supercells so that any group can be held out.

Only matrices of the size (n_free, n_free) are held, whatever the number of supercells.
"""

from typing import Any

import numpy
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas

from phonoscreen.audit.errors import StudyError

SINGULAR = 1e-13
"""Reciprocal condition of the scaled normal matrix below which the parameters are not determined."""


class NormalEquations:
    """Sums A^T A, A^T F and F^T F of groups of supercells.

    Parameters
    ----------
    fit_matrix : ``FitMatrix``
    displacements : (n_supercells, n_supercell_atoms, 3), angstrom
    forces : (n_sets, n_supercells, n_supercell_atoms, 3), eV/angstrom; several sets share one matrix
    n_groups : number of groups; the last one is the one held out

    Attributes
    ----------
    gram : (n_groups, n_free, n_free)
    moment : (n_groups, n_free, n_sets)
    square : (n_groups, n_sets)
    equations : (n_groups,) number of force components
    """

    def __init__(self, fit_matrix: Any, displacements: NDArray, forces: NDArray, n_groups: int) -> None:
        n_free, n_sets = fit_matrix.basis.n_free, len(forces)
        self.gram = numpy.zeros((n_groups, n_free, n_free))
        self.moment = numpy.zeros((n_groups, n_free, n_sets))
        self.square = numpy.zeros((n_groups, n_sets))
        self.equations = numpy.zeros(n_groups, int)
        for group, members in enumerate(split_groups(len(displacements), n_groups)):
            rows = fit_matrix.arrange(forces[:, members])
            self.square[group] = (rows**2).sum(axis=(1, 2))
            self.equations[group] = rows[0].size
            grams = {}
            for chosen, atom, columns, matrix in fit_matrix.blocks(displacements, members):
                if atom not in grams:
                    grams[atom] = columns, numpy.zeros((len(columns), len(columns)), order="F")
                blas.dsyrk(1.0, matrix.T, 1.0, grams[atom][1], trans=1, lower=1, overwrite_c=1)
                self.moment[group][columns] += matrix @ fit_matrix.arrange(forces[:, chosen])[:, atom].T
            for columns, gram in grams.values():
                self.gram[group][numpy.ix_(columns, columns)] += gram
        for gram in self.gram:
            gram += numpy.tril(gram, -1).T

    def without(self, group: int | None = None) -> "Sums":
        """Sums over all groups but one (or over all)."""
        keep = numpy.arange(len(self.gram)) != (-1 if group is None else group % len(self.gram))
        return Sums(
            self.gram[keep].sum(axis=0), self.moment[keep].sum(axis=0), self.square[keep].sum(axis=0),
            int(self.equations[keep].sum()),
        )  # fmt: skip

    def only(self, group: int) -> "Sums":
        """Sums of one group."""
        return Sums(self.gram[group], self.moment[group], self.square[group], int(self.equations[group]))


class Sums:
    """Normal equations of one selection of supercells.

    Parameters
    ----------
    gram : (n_free, n_free)
    moment : (n_free, n_sets)
    square : (n_sets,)
    equations : number of force components
    """

    def __init__(self, gram: NDArray, moment: NDArray, square: NDArray, equations: int) -> None:
        self.gram, self.moment, self.square, self.equations = gram, moment, square, equations

    def block(self, columns: NDArray, known: NDArray | None) -> "Sums":
        """Normal equations of some columns, for what known parameters of the others leave of the forces.

        Parameters
        ----------
        columns : (n,) indices
        known : (n_free, n_sets) parameters, zero in these columns, or None

        Returns
        -------
        Sums
        """
        gram, moment, square = self.gram, self.moment, self.square
        if len(columns) < len(gram):
            gram, moment = gram[numpy.ix_(columns, columns)], moment[columns]
        if known is not None:
            n_sets, applied = known.shape[1], self.gram @ known
            moment = moment[:, :n_sets] - applied[columns]
            square = square[:n_sets] + (known * (applied - 2 * self.moment[:, :n_sets])).sum(axis=0)
        return Sums(gram, moment, square, self.equations)

    def misfit(self, parameters: NDArray, number: int = 0) -> float:
        """Sum of the squared force errors of parameters on these supercells, (eV/angstrom)^2."""
        misfit = self.square[number] - 2 * parameters @ self.moment[:, number] + parameters @ self.gram @ parameters
        return max(float(misfit), 0.0)

    def error(self, parameters: NDArray, number: int = 0) -> tuple[float, float]:
        """Root mean square force error of parameters on these supercells, absolute and relative to the forces.

        Returns
        -------
        absolute : eV/angstrom
        relative : error over the root mean square of the forces
        """
        misfit = self.misfit(parameters, number)
        return numpy.sqrt(misfit / self.equations), numpy.sqrt(misfit / self.square[number])

    def factorise(self, ridge: float = 0.0) -> "Factor":
        """Cholesky factor of the normal matrix with its columns scaled to unit length.

        Parameters
        ----------
        ridge : added to the scaled diagonal; above zero, too few equations are allowed

        Returns
        -------
        Factor

        Raises
        ------
        StudyError
            If the displacements do not determine all force constants.
        """
        n_free = len(self.gram)
        if self.equations < max(n_free, 1) and not ridge:
            factor = -(-2 * n_free // max(self.equations, 1))
            raise StudyError(
                f"{self.equations} force components for {n_free} free force constants",
                fix=f"give at least {factor} times as many displaced supercells, a shorter --third-cutoff "
                "(force_constants.third_cutoff_angstrom in a study), or a sparse method: --method lasso, "
                "adaptive_lasso or ardr (force_constants.method)",
                blame="settings",
            )
        diagonal = self.gram.diagonal()
        silent = int((diagonal <= 1e-14 * diagonal.max()).sum()) if n_free else 0
        if silent and not ridge:
            raise StudyError(
                f"{silent} of {n_free} force constants do not act on any force of these supercells",
                fix="give supercells in which every atom is displaced in a random direction",
            )
        scale = 1 / numpy.sqrt(numpy.maximum(diagonal, 1e-14 * diagonal.max()))
        scaled = self.gram * scale[:, None] * scale
        scaled.flat[:: n_free + 1] += ridge
        size = numpy.abs(scaled).sum(axis=0).max()
        lower, info = linalg.lapack.dpotrf(scaled.T, lower=1, overwrite_a=1, clean=0)
        reciprocal = linalg.lapack.dpocon(lower, size, uplo="L")[0] if info == 0 else 0.0
        if reciprocal < SINGULAR:
            raise StudyError(
                f"the displacements determine fewer than the {n_free} free force constants "
                f"({self.equations} force components, reciprocal condition {reciprocal:.1e})",
                fix="give more supercells with independent random displacements of all atoms",
            )
        return Factor(lower, scale, 1 / numpy.sqrt(reciprocal))


class Factor:
    """Solves one normal matrix for any number of right-hand sides.

    Attributes
    ----------
    condition_number : of the fit matrix with columns of unit length (square root of the normal matrix's, 1-norm)
    """

    def __init__(self, lower: NDArray, scale: NDArray, condition_number: float) -> None:
        self._lower, self._scale, self.condition_number = lower, scale, float(condition_number)

    def solve(self, moment: NDArray) -> NDArray:
        """Solution of the normal equations; ``moment`` (n_free,) or (n_free, n_sets)."""
        scale = self._scale if moment.ndim == 1 else self._scale[:, None]
        solution, _ = linalg.lapack.dpotrs(self._lower, moment * scale, lower=1)
        return solution.reshape(moment.shape) * scale


def split_groups(n_supercells: int, n_groups: int) -> list[slice]:
    """Supercells of each group: neighbouring ones together, the last group never larger than the others."""
    sizes = numpy.full(n_groups, n_supercells // n_groups)
    sizes[: n_supercells % n_groups] += 1
    if n_groups == 2:  # one fifth is held out
        held = max(1, n_supercells // 5)
        sizes = numpy.array([n_supercells - held, held])
    ends = numpy.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends)]
