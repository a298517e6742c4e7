"""Inputs of LOBSTER: the static VASP calculation that it reads, and its own lobsterin, by pymatgen's classes.

The window of the curves begins far below the deepest band that VASP's potentials treat as valence, so that no band is
cut off and both descriptors are those of the whole occupied spectrum.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ase.data import chemical_symbols

from phonoscreen.audit.atomic import written_together
from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal

FIRST_ENERGY_EV, LAST_ENERGY_EV, STEP_EV = -100.0, 5.0, 0.02


def write_lobster_inputs(crystal: Crystal, folder: str | Path, structure_id: str) -> None:
    """Write what VASP and LOBSTER need for one crystal; the user's POTCAR of the names in POTCAR.spec is added by hand.

    ``LobsterSet`` gives a static calculation without symmetry whose bands fill the basis, ``Lobsterin`` the basis that
    LOBSTER recommends for these potentials and all pairs up to 6 A.

    Parameters
    ----------
    crystal : relaxed primitive cell
    folder : made if it does not exist
    structure_id : name of the crystal in messages

    Raises
    ------
    StudyError
        If pymatgen has no potential or no basis for an element.
    """
    from pymatgen.core import Structure
    from pymatgen.io.lobster import Lobsterin
    from pymatgen.io.lobster.sets import LobsterSet

    symbols = [chemical_symbols[number] for number in crystal.numbers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = Structure(crystal.cell, symbols, crystal.scaled_positions)
            calculation = LobsterSet(structure)
            basis = Lobsterin.get_basis(structure, calculation.potcar_symbols)
            with written_together(folder) as partial:
                calculation.write_input(str(partial), potcar_spec=True)
                lobsterin = Lobsterin.standard_calculations_from_vasp_files(
                    str(partial / "POSCAR"),
                    str(partial / "INCAR"),
                    dict_for_basis=dict(map(_element_and_shells, basis)),
                )
                lobsterin["COHPstartEnergy"], lobsterin["COHPendEnergy"] = FIRST_ENERGY_EV, LAST_ENERGY_EV
                lobsterin["COHPSteps"] = round((LAST_ENERGY_EV - FIRST_ENERGY_EV) / STEP_EV)
                lobsterin.write_lobsterin(str(partial / "lobsterin"))
        except (ValueError, KeyError) as error:
            raise StudyError(
                f"pymatgen has no inputs of LOBSTER: {error}", where=structure_id,
                fix="take bonding.engine gpaw for this structure",
            ) from error  # fmt: skip


def _element_and_shells(basis):
    element, *shells = basis.split()
    return element, " ".join(shells)
