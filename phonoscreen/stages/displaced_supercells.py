"""The displaced supercells of one structure: those that others calculated, then those that the study draws."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shard import Outcome
from phonoscreen.structures.store import read_atoms, structure_arrays
from phonoscreen.structures.supercells import build_supercell, random_displacements

if TYPE_CHECKING:
    import h5py


def displace_structure(
    structure_id: str, group: "h5py.Group", assigned: Mapping[str, Any], displacement_angstrom: float, seed: int
) -> Outcome:
    """Displace every atom of every supercell by a fixed length in a random direction.

    Parameters
    ----------
    structure_id : str
    group : the structure's group of ``relax_structures``; with ``displacements`` (n, n_supercell_atoms, 3) where labels
        exist already, which come first and as they are
    assigned : row of the assignment: ``repetitions, n_supercell_atoms, n_network``
    displacement_angstrom : length of every displacement that is drawn
    seed : the study's seed

    Raises
    ------
    StudyError
        If the supercell has another number of atoms than was assigned.
    """
    atoms = read_atoms(group)
    repetitions = tuple(int(n) for n in assigned["repetitions"].split())
    n_atoms = len(build_supercell(atoms, repetitions))
    if n_atoms != assigned["n_supercell_atoms"]:
        raise StudyError(f"supercell of {n_atoms} atoms, {assigned['n_supercell_atoms']} assigned", where=structure_id)
    rng = numpy.random.default_rng(derive_seed(seed, structure_id, "displacements"))
    moves = random_displacements(int(assigned["n_network"]), n_atoms, displacement_angstrom, rng)
    own = len(group["displacements"]) if "displacements" in group else 0
    if own:
        moves = numpy.concatenate([group["displacements"][:], moves])
    return Outcome(
        values={
            "n_supercells": len(moves),
            "n_supercell_atoms": n_atoms,
            "displacement_angstrom": displacement_angstrom,
        },
        arrays={**structure_arrays(atoms), "repetitions": numpy.array(repetitions), "displacements": moves},
        attrs={"n_of_others": own},
    )
