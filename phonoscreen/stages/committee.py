"""What a committee leaves of one structure: predicted forces, disagreement, errors against labels."""

import json

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.shard import Outcome
from phonoscreen.forcefield.committee import Committee, uncertainty
from phonoscreen.forcefield.elements import SYMBOLS
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.validation import force_errors, squares_by_element
from phonoscreen.structures.labelled_supercells import LabelledSupercells


def validate_structure(
    committee: Committee, labelled: LabelledSupercells, prototype: str, round_number: int
) -> Outcome:
    """Compare the forces of a committee with the labels of a structure that no round trains on.

    Parameters
    ----------
    committee : ``Committee``
    labelled : ``LabelledSupercells`` of the structure
    prototype : its class
    round_number : round of the committee

    Returns
    -------
    Outcome with the values of ``phonoscreen.forcefield.validation.force_errors`` and the squares by element
    """
    data = Supercells.of(labelled)
    forces = committee.supercell_forces(data)
    errors = force_errors(forces, committee.perfect_crystal_forces(data), labelled.forces)
    numbers = numpy.tile(data.crystal.numbers, data.n_atoms // len(data.crystal.numbers))
    squares = squares_by_element(forces.mean(axis=0), labelled.forces, numbers)
    return Outcome(
        values={
            "round": round_number,
            "engine": labelled.engine,
            "prototype": prototype,
            "squares_by_element": json.dumps(squares),
            **errors,
        }
    )


def disagreement(forces: NDArray) -> Outcome:
    """Return how far a committee disagrees on each displaced supercell of a structure, Eq. (3).

    Parameters
    ----------
    forces : (n_members, n_supercells, n_atoms, 3), eV/angstrom

    Returns
    -------
    Outcome with the supercell of the largest epsilon, and the largest epsilon of each supercell, meV/angstrom
    """
    epsilon = uncertainty(forces).max(axis=1)
    return Outcome(
        values={
            "supercell_index": int(epsilon.argmax()),
            "epsilon_max_mev_per_angstrom": 1e3 * float(epsilon.max()),
            "epsilon_mev_per_angstrom": (1e3 * epsilon).tolist(),
        }
    )


def predicted_structure(
    committee: Committee, data: Supercells, forces: NDArray, content: dict, seconds: float
) -> Outcome:
    """Return what force constants are fitted to: the forces of a published model on every displaced supercell.

    Parameters
    ----------
    committee : ``Committee`` of the model
    data : ``Supercells`` of the structure
    forces : (n_members, n_supercells, n_atoms, 3) that it gave, eV/angstrom
    content : of the published model: ``elements, kind, code``
    seconds : that the forces took
    """
    perfect = committee.perfect_crystal_forces(data).mean(axis=0)
    unseen = sorted(set(data.crystal.numbers.tolist()) - set(content["elements"]))
    return Outcome(
        values={
            "force_rms_ev_per_angstrom": float(numpy.sqrt((forces.mean(axis=0) ** 2).mean())),
            "epsilon_max_mev_per_angstrom": 1e3 * float(uncertainty(forces).max()),
            "perfect_crystal_force_max_mev_per_angstrom": 1e3 * float(numpy.abs(perfect).max()),
            "seconds_per_supercell": seconds / len(data.displacements),
            "elements_not_trained": " ".join(SYMBOLS[number] for number in unseen),
        },
        arrays={
            "forces": forces.mean(axis=0),
            "committee_forces": forces.astype(numpy.float32),
            "residual_forces": committee.residual_forces(data).mean(axis=0),
        },
        attrs={"engine": content["kind"], "model": content["code"]},
    )
