"""How much memory a problem needs, known before anything is allocated."""

import math
from collections.abc import Iterable

from phonoscreen.audit.errors import StudyError

_POINT_BYTES = 1100  # one wave vector: its images under 48 operations, twice, and its coordinates


def check_size(
    n_atoms: int,
    mesh: Iterable[int],
    *,
    repetitions: Iterable[int] = (1, 1, 1),
    n_temperatures: int = 1,
    n_ticks: int = 0,
    memory_gib: float = 4.0,
    where: str = "transport",
) -> None:
    """Raise StudyError if a problem needs more memory than is allowed.

    Counted: eigenvectors and dynamical matrices of the mesh, its symmetry tables, the second-order force constants of
    the supercell, and the cumulative conductivities. The matrix of the full solution is left out: beyond the limit it
    is a file (``phonoscreen.transport.scattering``).

    Parameters
    ----------
    n_atoms : of the cell
    mesh : (3,) integers
    repetitions : (3,) integers of the supercell
    n_temperatures, n_ticks : of the output
    memory_gib : allowed
    where : the file, for messages
    """
    n_q, n_cells = (math.prod(int(n) for n in counts) for counts in (mesh, repetitions))
    parts = {
        f"a q mesh of {_product(mesh)} for {n_atoms} atoms": n_q * (48 * (3 * n_atoms) ** 2 + _POINT_BYTES),
        f"a supercell of {_product(repetitions)} cells of {n_atoms} atoms": n_cells * 400 * n_atoms**2,
        f"{n_ticks} ticks at {n_temperatures} temperatures": 200 * n_ticks * n_temperatures,
    }
    for what, size in parts.items():
        if size > memory_gib * 2**30:
            raise StudyError(
                f"{what}: about {_gib(size)} GiB of memory are needed, {memory_gib:g} GiB are allowed", where=where,
                fix="use fewer (ngrid or --grid, scell, nticks, temperatures), or allow more with --memory-gib",
            )  # fmt: skip


def _product(counts: Iterable[int]) -> str:
    return " x ".join(str(int(n)) for n in counts)


def _gib(size: float) -> str:
    number = size / 2**30
    return f"{number:.1f}" if number < 1e4 else f"{number:.1e}"
