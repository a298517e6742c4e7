"""COHP in the products of a study, complete enough to be drawn, described and written as LOBSTER's files again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy
from ase.data import chemical_symbols

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.shard_files import ShardFiles
from phonoscreen.bonding.cohp import Cohp
from phonoscreen.bonding.kept import read_cohp
from phonoscreen.crystal.constants import Crystal

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cohp_arrays(crystal: Crystal, cohp: Cohp) -> dict[str, NDArray | list]:
    """Return what the stage stores of a COHP: one curve for each kind of bond, and the kind of each pair.

    Parameters
    ----------
    crystal : the crystal that was solved
    cohp : of any engine
    """
    types = cohp.bond_types()
    kinds = numpy.zeros(len(cohp.icohp_ev), int)
    for number, (_, _, members) in enumerate(types):
        kinds[members] = number
    charges: dict[str, Any] = {} if cohp.mulliken is None else {"mulliken": cohp.mulliken, "loewdin": cohp.loewdin}
    return {
        "energies_ev": cohp.energies_ev,
        "bond_types": numpy.array([name for name, _, _ in types], dtype=h5py.string_dtype()),
        "lengths_angstrom": [length for _, length, _ in types],
        "n_pairs": [len(members) for _, _, members in types],
        "cohp": [cohp.curves[members].mean(axis=0) for _, _, members in types],
        "icohp_ev": [cohp.icohp_ev[members].mean() for _, _, members in types],
        "below_ev": [cohp.below_ev[members].mean() for _, _, members in types],
        "pair_atoms": cohp.atoms,
        "pair_translations": cohp.translations,
        "pair_bond": kinds,
        "cell": crystal.cell,
        "scaled_positions": crystal.scaled_positions,
        "numbers": crystal.numbers,
        **charges,
    }


def cohp_attributes(cohp: Cohp, engine: str) -> dict[str, Any]:
    """Return what ``cohp_arrays`` leaves out: engine, spilling, basis, warnings."""
    return {
        "engine": engine, "spilling": cohp.spilling, "minimal_basis": cohp.basis, "warnings": json.dumps(cohp.warnings)
    }  # fmt: skip


def read_stored(group: h5py.Group) -> tuple[Crystal, Cohp, str]:
    """Return crystal, COHP and engine of a structure in a file of the stage, or of a kept record.

    Raises
    ------
    KeyError, ValueError
        If the group is neither.
    """
    if "pair_bond" not in group:
        crystal, cohp = read_cohp(group)
        return crystal, cohp, str(json.loads(group.attrs["method"])["engine"])
    numbers, kinds = group["numbers"][:], group["pair_bond"][:]
    crystal = Crystal(group["cell"][:], group["scaled_positions"][:], numbers, numpy.ones(len(numbers)))
    atoms, translations = group["pair_atoms"][:], group["pair_translations"][:]
    between = crystal.scaled_positions[atoms[:, 1]] + translations - crystal.scaled_positions[atoms[:, 0]]
    charges = [group[name][:] if name in group else None for name in ("mulliken", "loewdin")]
    cohp = Cohp(
        group["energies_ev"][:], numpy.array(chemical_symbols)[numbers[atoms]], atoms, translations,
        numpy.linalg.norm(between @ crystal.cell, axis=1), group["cohp"][:][kinds], group["icohp_ev"][:][kinds],
        group["below_ev"][:][kinds], float(group.attrs["spilling"]), str(group.attrs["minimal_basis"]),
        json.loads(group.attrs["warnings"]), *charges,
    )  # fmt: skip
    finite = (crystal.cell, between, cohp.energies_ev, cohp.curves, cohp.icohp_ev, cohp.below_ev)
    if not all(numpy.isfinite(values).all() for values in finite) or not (numpy.diff(cohp.energies_ev) > 0).all():
        raise ValueError("numbers that are not finite, or energies that do not ascend")
    if min(atoms.min(), kinds.min()) < 0 or len({len(atoms), len(translations), len(kinds)}) != 1:
        raise ValueError("pairs that do not belong together")
    return crystal, cohp, str(group.attrs["engine"])


def find_stored(path: str | Path, structure_id: str | None) -> tuple[Crystal, Cohp, str]:
    """Return crystal, COHP and engine of a structure from a file of the stage, a folder of them, or kept records.

    Parameters
    ----------
    path : ``results/bonding``, one of its files, or ``resources/bonding/cohp.h5``
    structure_id : its name there

    Raises
    ------
    StudyError
        If it is not there, or the file is no such product.
    """
    path = Path(path)
    try:
        with ShardFiles(sorted(path.glob("*.h5")) if path.is_dir() else [path]) as files:
            if structure_id is None or structure_id not in files:
                asked = "no structure is named" if structure_id is None else f"{structure_id} is not there"
                some = ", ".join(list(files)[:5])
                raise StudyError(
                    f"{asked}; it has the COHP of {len(files)} structures ({some} ...)", where=str(path),
                    fix="name one of them with --structure; the records say why others have none",
                )  # fmt: skip
            return read_stored(files.group(structure_id))
    except StudyError:
        raise
    except (OSError, KeyError, ValueError, IndexError, TypeError, RuntimeError, AttributeError) as error:
        raise StudyError(
            f"no COHP can be read: {type(error).__name__}: {error}", where=str(path),
            fix="name results/bonding of a study made by this version, or resources/bonding/cohp.h5",
        ) from error  # fmt: skip
