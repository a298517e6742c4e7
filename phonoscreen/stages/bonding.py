"""What the bonding analysis leaves of one structure."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import file_name
from phonoscreen.audit.shard import Outcome
from phonoscreen.bonding.cohp import bonding_and_antibonding, reconstructed_descriptors
from phonoscreen.bonding.description import Description, describe
from phonoscreen.bonding.engines import find_cohp, what_is_missing
from phonoscreen.bonding.kept import KeptCohp, KeptRecords, difference_of, method
from phonoscreen.bonding.lobster import crystal_of_outputs
from phonoscreen.bonding.selection import left_out
from phonoscreen.bonding.stored import cohp_arrays, cohp_attributes
from phonoscreen.crystal.constants import Crystal

if TYPE_CHECKING:
    import pandas


class Analyst:
    """Decides for each structure of a study where its COHP comes from: a kept record, a calculation, or none.

    Parameters
    ----------
    manifest : table of the whole study
    settings : with ``engine, outputs, structures_max, budget_cpu_minutes, seed``
    records : file of kept records, or none
    """

    def __init__(self, manifest: "pandas.DataFrame", settings: Any, records: str | None) -> None:
        self._settings = settings
        self._kept = KeptRecords(records) if records else None
        rows = manifest[["structure_id", "formula", "prototype"]]
        covered = self._kept.covered(rows.itertuples(index=False, name=None)) if self._kept else set()
        self._prototypes = manifest.set_index("structure_id")["prototype"]
        self._left_out = left_out(
            manifest, settings.seed, structures_max=settings.structures_max,
            budget_cpu_minutes=settings.budget_cpu_minutes, kept=covered,
        )  # fmt: skip
        self._covered, self._missing = covered, what_is_missing(settings.engine)

    def analyse(self, crystal: Crystal, structure_id: str, has_conductivity: bool) -> Outcome:
        """Return the outcome of one structure; only a calculation asks for its thermal conductivity.

        Parameters
        ----------
        crystal : relaxed primitive cell
        structure_id : str
        has_conductivity : whether the predicted forces gave one
        """
        if structure_id in self._left_out:
            return Outcome(status="skipped", reason=self._left_out[structure_id])
        if self._kept and structure_id in self._covered:
            kept, reason = self._kept.find(crystal, self._prototypes[structure_id])
            if kept:
                return outcome_of_record(kept)
            if self._settings.budget_cpu_minutes is not None:
                return Outcome(
                    status="skipped",
                    reason=f"{reason}; bonding.budget_cpu_minutes does not foresee its calculation (null: no limit)",
                )
        if not has_conductivity:
            return Outcome(status="skipped", reason="no thermal conductivity from the predicted forces")
        if self._missing:
            return Outcome(status="skipped", reason=self._missing)
        return analyse_structure(crystal, structure_id, self._settings.engine, self._settings.outputs)


def analyse_structure(crystal: Crystal, structure_id: str, engine: str, outputs: str | None) -> Outcome:
    """Return the COHP of a relaxed primitive cell, its curves averaged over each type of bond.

    Parameters
    ----------
    crystal : ``Crystal``
    structure_id : str
    engine, outputs : see ``phonoscreen.bonding.engines.find_cohp``

    Returns
    -------
    Outcome with the integrals of the bonding and antibonding part below the Fermi level in both definitions, the
    spilling, what makes them uncertain, lobsterpy's analysis and, per type of bond, length, number of pairs, COHP
    and integrated COHP, eV
    """
    begin = time.process_time()
    cohp = find_cohp(crystal, structure_id, engine=engine, outputs=outputs)
    solved, origin = crystal, "calculated"
    if engine == "lobster" and outputs:
        solved, origin = _solved_by_lobster(crystal, cohp, Path(outputs) / file_name(structure_id))
    try:
        analysis = _words(describe(cohp, solved))
    except StudyError as error:  # the numbers stand without it
        analysis = {"description": error.what, "lobsterpy": ""}
    return _outcome(solved, cohp, analysis, engine, origin, time.process_time() - begin)


def _solved_by_lobster(crystal, cohp, folder):
    """Return the crystal that the user's outputs are of, and where they come from in words.

    The atoms of LOBSTER are counted in the order of the crystal in its folder. Without one they have to be those of
    the relaxed crystal.

    Raises
    ------
    StudyError
        If the outputs are of another compound, or count other atoms.
    """
    own = crystal_of_outputs(folder)
    solved = own if own is not None else crystal
    symbols = numpy.array(chemical_symbols)[solved.numbers]
    if cohp.atoms.max() >= len(symbols) or (symbols[cohp.atoms] != cohp.symbols).any():
        raise StudyError(
            "the atoms of LOBSTER's outputs are not counted as those of the crystal", where=str(folder),
            fix="put the CONTCAR of that calculation beside them",
        )  # fmt: skip
    off, reason = difference_of(crystal, solved)
    if reason and {*crystal.numbers} != {*solved.numbers}:
        raise StudyError(
            "LOBSTER's outputs are of another compound", where=str(folder), fix="name the folder by the id"
        )
    difference = f"; {reason}" if reason else ""
    return solved, f"calculated by LOBSTER (lattice constant {100 * off:+.2f} %{difference})"


def outcome_of_record(kept: KeptCohp) -> Outcome:
    """Return a COHP that was calculated before, with the same values and arrays and its origin."""
    found = kept.description
    analysis = _words(found) if found else {"description": kept.no_description, "lobsterpy": ""}
    return _outcome(kept.crystal, kept.cohp, analysis, method()["engine"], kept.origin, kept.cpu_seconds)


def _outcome(crystal, cohp, analysis, engine, origin, cpu_seconds):
    bonding, antibonding = bonding_and_antibonding(cohp)
    per_relevant_bond = reconstructed_descriptors(cohp)
    return Outcome(
        values={
            "bonding_ev": bonding,
            "antibonding_ev": antibonding,
            "bonding_kj_per_mol": per_relevant_bond[0],
            "antibonding_kj_per_mol": per_relevant_bond[1],
            "spilling": cohp.spilling,
            "minimal_basis": cohp.basis,
            "uncertain": "; ".join(cohp.all_warnings()),
            **analysis,
            "n_pairs": len(cohp.icohp_ev),
            "engine": engine,
            "origin": origin,
            "icohp_strongest_ev": float(cohp.icohp_ev.min()),
            "cpu_seconds": cpu_seconds,
        },
        arrays=cohp_arrays(crystal, cohp),
        attrs=cohp_attributes(cohp, engine),
    )


def _words(found: Description) -> dict[str, str]:
    return {"description": found.text, "lobsterpy": json.dumps(found.condensed, default=str)}
