"""Where the COHP of a structure comes from: one function, several engines."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError, engine_blamed
from phonoscreen.audit.names import file_name
from phonoscreen.bonding.cohp import SPILLING_MENTIONED, cohp_of_pairs, relevant_bonds
from phonoscreen.bonding.orbitals import MissingSymmetry, orthonormal_hamiltonian

if TYPE_CHECKING:
    from phonoscreen.bonding.cohp import Cohp
    from phonoscreen.bonding.orbitals import Bands
    from phonoscreen.crystal.constants import Crystal

SPILLING_TOO_HIGH = 0.05  # above, the minimal basis is extended
OVERLAP_MENTIONED = 3e-4  # smallest eigenvalue of the overlap of the minimal basis below which the record says so
EMPTY_BANDS_MENTIONED = 0.15  # change of a relevant bond's ICOHP with the choice of empty bands, above which the same
COMPARISON_MESH_ANGSTROM = 40.0  # of the curves for that comparison
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
    cells_away = numpy.floor(crystal.scaled_positions + 1e-9).astype(int)
    with engine_blamed():
        bands = solve(replace(crystal, scaled_positions=crystal.scaled_positions - cells_away))
        cohp = cohp_of_bands(bands, cutoff_angstrom=cutoff_angstrom)
    first, second = cohp.atoms.T
    cohp.translations = cohp.translations + cells_away[first] - cells_away[second]
    return cohp


def cohp_of_bands(bands: Bands, *, cutoff_angstrom: float = 6.0) -> Cohp:
    """Return the COHP of solved bands in the minimal basis, in the extended one where the minimal basis does not do.

    The minimal basis is extended once: where occupied bands have no function of their symmetry in it, or more than
    ``SPILLING_TOO_HIGH`` of the occupied bands lies outside.

    Raises
    ------
    StudyError
        If the occupied bands do not fit into the extended basis either, or its orbitals depend on each other.
    """
    basis, reason, hamiltonian = "minimal", "", None
    try:
        hamiltonian = orthonormal_hamiltonian(bands)
        if hamiltonian.spilling > SPILLING_TOO_HIGH:
            reason = f"{hamiltonian.spilling:.1%} of the occupied bands lie outside the minimal basis"
    except MissingSymmetry as error:
        reason = error.what
    if reason and (bands.extended != bands.minimal).any():
        hamiltonian, basis = orthonormal_hamiltonian(bands, extended=True), "extended"
    if hamiltonian is None:
        raise StudyError(reason, fix="take another engine (bonding.engine) for this structure")
    cohp = cohp_of_pairs(hamiltonian, cutoff_angstrom=cutoff_angstrom)
    cohp.basis = basis
    if basis == "extended":
        cohp.warnings.append(f"the minimal basis was extended by the next shell of each element: {reason}")
    if hamiltonian.spilling > SPILLING_MENTIONED:
        cohp.warnings.append(
            f"{hamiltonian.spilling:.1%} of the occupied bands lie outside the {basis} basis: "
            "ICOHP may be a quarter off"
        )
    if hamiltonian.smallest_overlap < OVERLAP_MENTIONED:
        cohp.warnings.append(
            "the diffuse orbitals of the minimal basis nearly depend on each other (smallest eigenvalue of the overlap "
            f"{hamiltonian.smallest_overlap:.0e}): ICOHP of bonds with them differs between programs"
        )
    cohp.warnings += _choice_of_empty_bands(bands, cohp, basis == "extended", cutoff_angstrom)
    return cohp


def _choice_of_empty_bands(bands, cohp, extended, cutoff_angstrom):
    """Say it where the ICOHP of a relevant bond depends on which empty bands are counted to the minimal basis.

    A minimal basis has room for few of the empty bands, and programs choose differently. The choice does not matter
    where each antibonding orbital is one band; it does where other empty states (d, or of free electrons) lie among
    them.
    """
    strengths = []
    for choice in ("weighted", "lowest", "alike"):
        hamiltonian = orthonormal_hamiltonian(bands, extended=extended, empty_bands=choice)
        coarse = cohp_of_pairs(
            hamiltonian, cutoff_angstrom=cutoff_angstrom, mesh_density_angstrom=COMPARISON_MESH_ANGSTROM
        )
        strengths.append(coarse.icohp_ev)
    found = []
    for name, length, members in cohp.bond_types():
        ours, lowest, alike = (strength[members].mean() for strength in strengths)
        change = max(abs(lowest - ours), abs(alike - ours))
        if ours < 0 and relevant_bonds(cohp)[members].all() and change > EMPTY_BANDS_MENTIONED * abs(ours):
            words = f"{name} {length:.2f} A {ours:.3f} eV, {lowest:.3f} with the lowest, {alike:.3f} with all alike"
            found.append((change / abs(ours), words))
    if not found:
        return []
    listed = "; ".join(words for _, words in sorted(found, reverse=True)[:3])
    return [
        f"ICOHP depends on which empty bands are counted to the minimal basis ({listed}): other empty states lie among "
        "its antibonding orbitals. LOBSTER takes the lowest bands"
    ]
