"""Which solvers of the Boltzmann equation a study may choose."""

from collections.abc import Callable

from phonoscreen.audit.errors import StudyError
from phonoscreen.stages.transport import solve_structure


def choose_solver(transport: dict) -> Callable:
    """Return the function of (task, transport) that solves one structure and returns its Outcome.

    Parameters
    ----------
    transport : the study's ``transport`` settings

    Raises
    ------
    StudyError
        If the solver is none of native, shengbte, phono3py.
    """
    solver = transport["solver"]
    if solver == "native":
        return solve_structure
    if solver in ("shengbte", "phono3py"):
        from phonoscreen.stages.other_solvers import solve_structure_elsewhere

        return solve_structure_elsewhere
    raise StudyError(f"unknown solver {solver!r}", where="transport/solver", fix="use native, shengbte or phono3py")
