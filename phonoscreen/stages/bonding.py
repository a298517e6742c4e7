"""What the bonding analysis leaves of one structure."""

import json
import time

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard import Outcome
from phonoscreen.bonding.cohp import Cohp, bonding_and_antibonding, reconstructed_descriptors
from phonoscreen.bonding.description import describe
from phonoscreen.bonding.engines import find_cohp
from phonoscreen.crystal.constants import Crystal


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
    bonding, antibonding = bonding_and_antibonding(cohp)
    per_relevant_bond = reconstructed_descriptors(cohp)
    types = cohp.bond_types()
    return Outcome(
        values={
            "bonding_ev": bonding,
            "antibonding_ev": antibonding,
            "bonding_kj_per_mol": per_relevant_bond[0],
            "antibonding_kj_per_mol": per_relevant_bond[1],
            "spilling": cohp.spilling,
            "minimal_basis": cohp.basis,
            "uncertain": "; ".join(cohp.all_warnings()),
            **_analysis(cohp, crystal),
            "n_pairs": len(cohp.icohp_ev),
            "engine": engine,
            "icohp_strongest_ev": float(cohp.icohp_ev.min()),
            "cpu_seconds": time.process_time() - begin,
        },
        arrays={
            "energies_ev": cohp.energies_ev,
            "bond_types": numpy.array([name for name, _, _ in types], dtype=h5py.string_dtype()),
            "lengths_angstrom": [length for _, length, _ in types],
            "n_pairs": [len(members) for _, _, members in types],
            "cohp": [cohp.curves[members].mean(axis=0) for _, _, members in types],
            "icohp_ev": [cohp.icohp_ev[members].mean() for _, _, members in types],
        },
        attrs={"engine": engine},
    )


def _analysis(cohp: Cohp, crystal: Crystal) -> dict[str, str]:
    """Return lobsterpy's description and condensed analysis, or why there is none: the numbers stand without it."""
    try:
        found = describe(cohp, crystal)
    except StudyError as error:
        return {"description": error.what, "lobsterpy": ""}
    return {"description": found.text, "lobsterpy": json.dumps(found.condensed, default=str)}
