"""Inputs of LOBSTER: the static calculation of VASP or Quantum ESPRESSO that it reads, and its own lobsterin.

All by pymatgen's classes. The window of the curves begins far below the deepest band that the potentials treat as
valence, so that no band is cut off and both descriptors are those of the whole occupied spectrum.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from phonoscreen.audit.atomic import written_together
from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.gpaw_lcao import MAGNETIC
from phonoscreen.bonding.lobster import write_contcar

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal

PROGRAMS = ("vasp", "espresso")
FIRST_ENERGY_EV, LAST_ENERGY_EV, STEP_EV = -100.0, 5.0, 0.02
SMEARING_EV = 0.05  # of LOBSTER's curves where it cannot integrate with tetrahedra; its own 0.2 eV hides antibonding
CUTOFF_RY, DENSITY_CUTOFF_RY = 60.0, 480.0  # of the PAW data sets of pslibrary
OCCUPATION_WIDTH_RY = 0.004  # 0.05 eV
_ORBITALS = {"s": 1, "p": 3, "d": 5, "f": 7}


def write_lobster_inputs(crystal: Crystal, folder: str | Path, structure_id: str, program: str = "vasp") -> None:
    """Write what LOBSTER and the program before it need for one crystal.

    VASP: ``LobsterSet`` gives a static calculation without symmetry whose bands fill the basis, ``Lobsterin`` the basis
    that LOBSTER recommends for these potentials; the user's POTCAR of the names in POTCAR.spec is added by hand.

    Quantum ESPRESSO: ``PWInput`` gives a self-consistent calculation on the same mesh of k-points, without the
    symmetries that LOBSTER cannot undo (``nosym``, ``noinv``), with collected wave functions and more bands than any
    basis of LOBSTER has functions; LOBSTER takes the functions that it recommends for the PAW data sets
    ``ELEMENT.UPF``, which the user adds.

    All pairs up to 6 A are analysed.

    Parameters
    ----------
    crystal : relaxed primitive cell
    folder : made if it does not exist
    structure_id : name of the crystal in messages
    program : one of ``PROGRAMS``

    Raises
    ------
    StudyError
        If pymatgen has no potential or no basis for an element.
    """
    from pymatgen.core import Structure

    write = {"vasp": _write_vasp, "espresso": _write_espresso}[program]
    symbols = [chemical_symbols[number] for number in crystal.numbers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structure = Structure(crystal.cell, symbols, crystal.scaled_positions)
            with written_together(folder) as partial:
                write(structure, crystal, partial)
        except (ValueError, KeyError) as error:
            raise StudyError(
                f"pymatgen has no inputs of LOBSTER: {error}", where=structure_id,
                fix="take bonding.engine gpaw for this structure",
            ) from error  # fmt: skip


def _write_vasp(structure, crystal, folder):
    from pymatgen.io.lobster import Lobsterin
    from pymatgen.io.lobster.sets import LobsterSet

    calculation = LobsterSet(structure, sort_structure=False)
    basis = Lobsterin.get_basis(structure, calculation.potcar_symbols)
    calculation.write_input(str(folder), potcar_spec=True)
    lobsterin = Lobsterin.standard_calculations_from_vasp_files(
        str(folder / "POSCAR"), str(folder / "INCAR"), dict_for_basis=dict(map(_element_and_shells, basis))
    )
    _widen(lobsterin)
    lobsterin.write_lobsterin(str(folder / "lobsterin"))


def _write_espresso(structure, crystal, folder):
    from pymatgen.io.lobster import Lobsterin
    from pymatgen.io.lobster.sets import LobsterSet
    from pymatgen.io.pwscf import PWInput

    elements = sorted(structure.symbol_set)
    system: dict[str, Any] = {
        "ecutwfc": CUTOFF_RY, "ecutrho": DENSITY_CUTOFF_RY, "nosym": True, "noinv": True,
        "nbnd": sum(_functions_at_most(symbol) for symbol in map(str, structure.species)),
        "occupations": "smearing", "smearing": "gaussian", "degauss": OCCUPATION_WIDTH_RY,
    }  # fmt: skip
    if not set(elements).isdisjoint(MAGNETIC):
        system |= {"nspin": 2, "starting_magnetization": [0.5 if one in MAGNETIC else 0.0 for one in elements]}
    mesh = LobsterSet(structure).kpoints
    if mesh is None:
        raise ValueError("pymatgen gave no mesh of wave vectors")
    PWInput(
        structure,
        pseudo={symbol: f"{symbol}.UPF" for symbol in elements},
        control={
            "calculation": "scf", "prefix": "lobster", "outdir": "./", "pseudo_dir": "./", "wf_collect": True,
        },
        system=system,
        electrons={"conv_thr": 1e-9, "diago_full_acc": True},
        kpoints_grid=mesh.kpts[0],
        format_options={"coord_decimals": 12},
    ).write_file(str(folder / "lobster.scf.in"))  # fmt: skip
    write_contcar(crystal, folder / "CONTCAR")
    lobsterin = Lobsterin({
        "basisSet": "pbeVaspFit2015", "userecommendedbasisfunctions": True, "saveProjectionToFile": True,
        "cohpGenerator": "from 0.1 to 6.0 orbitalwise", "gaussianSmearingWidth": SMEARING_EV,
    })  # fmt: skip
    _widen(lobsterin)
    lobsterin.write_lobsterin(str(folder / "lobsterin"))


def _widen(lobsterin):
    """Set the energies of the curves so that they begin below all valence bands."""
    lobsterin["COHPstartEnergy"], lobsterin["COHPendEnergy"] = FIRST_ENERGY_EV, LAST_ENERGY_EV
    lobsterin["COHPSteps"] = round((LAST_ENERGY_EV - FIRST_ENERGY_EV) / STEP_EV)


def _functions_at_most(symbol):
    """Return the functions of the largest basis that LOBSTER has for an element, over all potentials of it.

    LOBSTER leaves out bands beyond its basis, and cannot fill a basis of more functions than there are bands.
    """
    from monty.serialization import loadfn
    from pymatgen.io.lobster import inputs

    path = Path(inputs.__file__).parent / "lobster_basis" / "BASIS_PBE_54_max.yaml"
    found = [shells.split() for name, shells in loadfn(path)["BASIS"].items() if name.split("_")[0] == symbol]
    if not found:
        raise KeyError(f"no basis for {symbol}")
    return max(sum(_ORBITALS[shell[-1]] for shell in shells) for shells in found)


def _element_and_shells(basis):
    element, *shells = basis.split()
    return element, " ".join(shells)
