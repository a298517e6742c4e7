"""Where the COHP of a structure comes from: one function, several engines."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError, engine_blamed
from phonoscreen.audit.names import file_name
from phonoscreen.bonding.cohp import cohp_of_pairs
from phonoscreen.bonding.orbitals import orthonormal_hamiltonian

if TYPE_CHECKING:
    from phonoscreen.bonding.cohp import Cohp
    from phonoscreen.crystal.constants import Crystal

ENGINES = ("lobster", "gpaw", "tblite")


def what_is_missing(engine: str) -> str | None:
    """Return what keeps an engine from running on this machine at all, or None.

    Bonding stands at the end of a study and nothing is built on it: without its program the rest is worth having, so
    the stage skips every structure with this reason instead of stopping, and runs once the program is there.
    """
    package = {"gpaw": "gpaw", "tblite": "tblite"}.get(engine)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    remedy = "`make` builds it where there is a C compiler" if package == "gpaw" else "install envs/bonding.yaml"
    return f"bonding.engine {engine}: the package {package} is not installed ({remedy})"


def find_cohp(
    crystal: Crystal, structure_id: str, *, engine: str, outputs: str | Path | None = None, cutoff_angstrom: float = 6.0
) -> Cohp:
    """Return the COHP of a relaxed primitive cell.

    Parameters
    ----------
    crystal : ``cell`` (3, 3) angstrom, ``scaled_positions`` (n_atoms, 3), ``numbers`` (n_atoms,)
    structure_id : names the folder of the user's own LOBSTER outputs
    engine : one of ``ENGINES``
    outputs : folder of LOBSTER outputs, one folder per structure id (engine lobster)
    cutoff_angstrom : largest distance of a pair (LOBSTER's own pairs are those of its lobsterin)

    Returns
    -------
    Cohp

    Raises
    ------
    StudyError
        If the engine is unknown or cannot solve the crystal.
    """
    if not (numpy.isfinite(crystal.cell).all() and numpy.isfinite(crystal.scaled_positions).all()):
        raise StudyError("cell or positions are not finite", where=structure_id)
    if abs(numpy.linalg.det(crystal.cell)) < 1e-3 or not len(crystal.numbers):
        raise StudyError("a cell without volume or atoms", where=structure_id)
    if engine == "lobster":
        from phonoscreen.bonding.lobster import read_lobster

        if not outputs:
            raise StudyError("no folder of LOBSTER outputs", where=structure_id, fix="set bonding.outputs",
                             blame="settings")  # fmt: skip
        with engine_blamed():
            return read_lobster(Path(outputs) / file_name(structure_id))
    if engine == "tblite":
        from phonoscreen.bonding.xtb import solve_xtb as solve
    elif engine == "gpaw":
        from phonoscreen.bonding.gpaw_lcao import solve_lcao as solve
    else:
        raise StudyError(f"unknown engine {engine!r}", fix=f"bonding.engine: one of {', '.join(ENGINES)}")
    with engine_blamed():
        hamiltonian = orthonormal_hamiltonian(solve(crystal))
    return cohp_of_pairs(hamiltonian, cutoff_angstrom=cutoff_angstrom)
