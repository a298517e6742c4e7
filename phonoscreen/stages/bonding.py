"""What the bonding analysis leaves of one structure."""

import time

import h5py
import numpy

from phonoscreen.audit.shard import Outcome
from phonoscreen.bonding.cohp import bonding_and_antibonding
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
    Outcome with the integrals of the bonding and antibonding part below the Fermi level and, per type of bond, length,
    number of pairs, COHP and integrated COHP, eV
    """
    begin = time.process_time()
    cohp = find_cohp(crystal, structure_id, engine=engine, outputs=outputs)
    bonding, antibonding = bonding_and_antibonding(cohp)
    types = cohp.bond_types()
    return Outcome(
        values={
            "bonding_ev": bonding,
            "antibonding_ev": antibonding,
            "n_pairs": len(cohp.icohp_ev),
            "engine": engine,
            "icohp_strongest_ev": float(cohp.icohp_ev.min()),
            "seconds": time.process_time() - begin,
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
