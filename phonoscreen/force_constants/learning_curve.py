"""What more displaced supercells would bring: the fit repeated with fewer of them, judged on the same unseen ones."""

from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal


def learning_curve(
    fitter: Any,
    crystal: Crystal,
    displacements: NDArray,
    forces: NDArray,
    residual_forces: NDArray | None = None,
    charges: tuple[NDArray, NDArray] | None = None,
    n_points: int = 6,
) -> dict[str, list]:
    """Force error on unseen supercells as a function of the number of supercells fitted.

    The last fifth of the supercells (at least one) is never fitted.

    Parameters
    ----------
    fitter : ``ForceConstantFitter``
    crystal, displacements, forces, residual_forces, charges : as for ``ForceConstantFitter.fit``
    n_points : largest number of fits, at numbers of supercells that grow by equal factors

    Returns
    -------
    dict of equally long lists: ``n_supercells``; ``force_error_relative`` on the unseen supercells, NaN where so few
    supercells do not determine the force constants; ``change_relative``, the change of the predicted forces to the fit
    of all but the unseen, over their size

    Raises
    ------
    StudyError
        If there are fewer than two supercells.
    """
    n_all = len(displacements)
    if n_all < 2:
        raise StudyError("a learning curve needs at least two supercells", fix="give more displaced supercells")
    n_held = max(1, n_all // 5)
    numbers = numpy.unique(numpy.rint(numpy.geomspace(1, n_all - n_held, n_points)).astype(int))
    unseen, wanted = displacements[-n_held:], forces[-n_held:]
    predictions = []
    for number in numbers:
        try:
            fitted = fitter.fit(crystal, displacements[:number], forces[:number], None, residual_forces, charges)
            predictions.append(fitter.predict(crystal, fitted.parameters, unseen, residual_forces, charges))
        except StudyError:
            predictions.append(numpy.full(wanted.shape, numpy.nan))
    size = numpy.sqrt((wanted**2).mean())
    return {
        "n_supercells": [int(n) for n in numbers],
        "force_error_relative": [float(numpy.sqrt(((own - wanted) ** 2).mean()) / size) for own in predictions],
        "change_relative": [float(numpy.sqrt(((own - predictions[-1]) ** 2).mean()) / size) for own in predictions],
    }
