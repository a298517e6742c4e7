"""Normal equations of the force-constant fit, kept apart for groups of supercells so that any group can be held out.

Matrices of the size (n_free, n_free) are held, and of the fit matrix no more than a fixed number of bytes.
"""

import numpy
from scipy import linalg
from scipy.linalg import blas

from phonoscreen.audit.errors import StudyError

SINGULAR = 1e-13
"""Reciprocal condition of the scaled normal matrix below which the parameters are not determined."""

KEPT_BYTES = 256e6
"""Blocks of the fit matrix up to this size together are kept for the misfits; others are built again."""


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

    def __init__(self, fit_matrix, displacements, forces, n_groups):
        n_free, n_sets = fit_matrix.basis.n_free, len(forces)
        self.gram = numpy.zeros((n_groups, n_free, n_free))
        self.moment = numpy.zeros((n_groups, n_free, n_sets))
        self.square = numpy.zeros((n_groups, n_sets))
        self.equations = numpy.zeros(n_groups, int)
        self._data = fit_matrix, displacements, forces[0]
        self._kept, kept_bytes = {}, 0
        for group, members in enumerate(split_groups(len(displacements), n_groups)):
            for chosen, matrix in fit_matrix.blocks(displacements, members):
                rows = fit_matrix.arrange(forces[:, chosen])
                self.gram[group] += blas.dsyrk(1.0, matrix.T, trans=1, lower=1)
                self.moment[group] += matrix @ rows.T
                self.square[group] += (rows**2).sum(axis=1)
                self.equations[group] += rows.shape[1]
                kept_bytes += matrix.nbytes
                if kept_bytes <= KEPT_BYTES:
                    self._kept[chosen.start] = matrix
        for gram in self.gram:
            gram += numpy.tril(gram, -1).T

    def misfits(self, parameters):
        """What parameters leave of the first set of forces.

        Parameters
        ----------
        parameters : (n_free,)

        Returns
        -------
        (n_supercells, n_supercell_atoms, 3), eV/angstrom
        """
        fit_matrix, displacements, forces = self._data
        misfits = numpy.empty(forces.shape)
        for members in split_groups(len(displacements), len(self.gram)):
            for chosen, matrix in fit_matrix.blocks(displacements, members, self._kept):
                misfits[chosen] = fit_matrix.supercells(fit_matrix.arrange(forces[chosen]) - parameters @ matrix)
        return misfits

    def without(self, group=None):
        """Sums over all groups but one (or over all)."""
        keep = numpy.arange(len(self.gram)) != (-1 if group is None else group % len(self.gram))
        return Sums(
            self.gram[keep].sum(axis=0), self.moment[keep].sum(axis=0), self.square[keep].sum(axis=0),
            int(self.equations[keep].sum()),
        )  # fmt: skip

    def only(self, group):
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

    def __init__(self, gram, moment, square, equations):
        self.gram, self.moment, self.square, self.equations = gram, moment, square, equations

    def block(self, columns, known):
        """Normal equations of some columns, for what known parameters of the others leave of the forces.

        Parameters
        ----------
        columns : (n,) indices
        known : (n_free, n_sets) parameters, zero in these columns, or None

        Returns
        -------
        Sums
        """
        gram, moment, square = self.gram[numpy.ix_(columns, columns)], self.moment[columns], self.square
        if known is not None:
            n_sets, applied = known.shape[1], self.gram @ known
            moment = moment[:, :n_sets] - applied[columns]
            square = square[:n_sets] + (known * (applied - 2 * self.moment[:, :n_sets])).sum(axis=0)
        return Sums(gram, moment, square, self.equations)

    def misfit(self, parameters, number=0):
        """Sum of the squared force errors of parameters on these supercells, (eV/angstrom)^2."""
        misfit = self.square[number] - 2 * parameters @ self.moment[:, number] + parameters @ self.gram @ parameters
        return max(float(misfit), 0.0)

    def error(self, parameters, number=0):
        """Root mean square force error of parameters on these supercells, absolute and relative to the forces.

        Returns
        -------
        absolute : eV/angstrom
        relative : error over the root mean square of the forces
        """
        misfit = self.misfit(parameters, number)
        return numpy.sqrt(misfit / self.equations), numpy.sqrt(misfit / self.square[number])

    def factorise(self, ridge=0.0):
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
                fix=f"give at least {factor} times as many displaced supercells, shorten "
                "force_constants.third_cutoff_angstrom, or use a sparse method (lasso, adaptive_lasso, ardr)",
            )
        diagonal = self.gram.diagonal()
        silent = int((diagonal <= 1e-14 * diagonal.max()).sum()) if n_free else 0
        if silent and not ridge:
            raise StudyError(
                f"{silent} of {n_free} force constants do not act on any force of these supercells",
                fix="give supercells in which every atom is displaced in a random direction",
            )
        scale = 1 / numpy.sqrt(numpy.maximum(diagonal, 1e-14 * diagonal.max()))
        scaled = self.gram * scale[:, None] * scale + ridge * numpy.eye(n_free)
        lower, info = linalg.lapack.dpotrf(scaled, lower=1)
        reciprocal = 0.0
        if info == 0:
            reciprocal, _ = linalg.lapack.dpocon(lower, numpy.abs(scaled).sum(axis=0).max(), uplo="L")
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

    def __init__(self, lower, scale, condition_number):
        self._lower, self._scale, self.condition_number = lower, scale, float(condition_number)

    def solve(self, moment):
        """Solution of the normal equations; ``moment`` (n_free,) or (n_free, n_sets)."""
        scale = self._scale if moment.ndim == 1 else self._scale[:, None]
        solution, _ = linalg.lapack.dpotrs(self._lower, moment * scale, lower=1)
        return solution.reshape(moment.shape) * scale


def split_groups(n_supercells, n_groups):
    """Supercells of each group: neighbouring ones together, the last group never larger than the others."""
    sizes = numpy.full(n_groups, n_supercells // n_groups)
    sizes[: n_supercells % n_groups] += 1
    if n_groups == 2:  # one fifth is held out
        held = max(1, n_supercells // 5)
        sizes = numpy.array([n_supercells - held, held])
    ends = numpy.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends)]
