"""COHP that was calculated before: packed records, and which of them stands for a crystal of a study.

A record is one HDF5 group: a crystal, one curve per type of bond, from which every pair is rebuilt, what decided its
numbers (``method``), what its crystal was relaxed with, and lobsterpy's description.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import h5py
import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding import gpaw_lcao
from phonoscreen.bonding.cohp import STEP_EV, Cohp, pairs_within
from phonoscreen.bonding.description import Description, describe
from phonoscreen.crystal.constants import Crystal
from phonoscreen.structures.formulas import composition

LATTICE_TOLERANCE = 0.01
"""Relative difference of lattice constants within which a record stands for a crystal: ICOHP changes by some 5 %."""
SITE_TOLERANCE = 0.005
"""The same for the positions of the atoms, in units of the cube root of the volume per atom."""
METHOD_VERSION = 1
"""Raised when an edit of the engine changes its numbers: what was kept before then counts no more."""
CUTOFF_ANGSTROM = 6.0
_DIGITS = 5  # of curves and strengths; half a digit of the last is far below what the engine resolves


def method() -> dict[str, Any]:
    """Return what decides the numbers of the engine ``gpaw`` besides the crystal: two records of one method compare."""
    return {
        "engine": "gpaw",
        "version": METHOD_VERSION,
        "functional": gpaw_lcao.FUNCTIONAL,
        "grid_spacing_angstrom": gpaw_lcao.GRID_SPACING_ANGSTROM,
        "fermi_width_ev": gpaw_lcao.FERMI_WIDTH_EV,
        "density_mesh_angstrom": gpaw_lcao.DENSITY_MESH_ANGSTROM,
        "bands_mesh_angstrom": gpaw_lcao.BANDS_MESH_ANGSTROM,
        "energy_step_ev": STEP_EV,
        "cutoff_angstrom": CUTOFF_ANGSTROM,
    }


def store_cohp(group: h5py.Group, crystal: Crystal, cohp: Cohp, cutoff_angstrom: float = CUTOFF_ANGSTROM) -> None:
    """Write a crystal and its COHP, all pairs of one type of bond equal.

    Parameters
    ----------
    group : empty group of an HDF5 file
    crystal : the crystal that the COHP is of
    cohp : of an engine of this project
    cutoff_angstrom : largest distance of its pairs
    """
    types = cohp.bond_types()
    for name in ("cell", "scaled_positions", "numbers"):
        group[name] = getattr(crystal, name)
    curves = numpy.array([cohp.curves[members].mean(axis=0) for _, _, members in types])
    group.create_dataset(
        "cohp", data=numpy.round(curves, _DIGITS).astype("f4"), compression="gzip", compression_opts=9, shuffle=True
    )
    group["icohp_ev"] = [round(float(cohp.icohp_ev[members].mean()), _DIGITS) for _, _, members in types]
    group["mulliken"], group["loewdin"] = cohp.mulliken, cohp.loewdin
    group.attrs.update(
        energy_first_ev=cohp.energies_ev[0], energy_step_ev=cohp.energies_ev[1] - cohp.energies_ev[0],
        spilling=cohp.spilling, basis=cohp.basis, warnings=json.dumps(cohp.warnings), cutoff_angstrom=cutoff_angstrom,
        empty_bands_compared=True,
    )  # fmt: skip


def read_cohp(group: h5py.Group) -> tuple[Crystal, Cohp]:
    """Return what ``store_cohp`` wrote.

    Raises
    ------
    ValueError, KeyError
        If the group is not what ``store_cohp`` writes.
    """
    numbers = group["numbers"][:]
    crystal = Crystal(group["cell"][:], group["scaled_positions"][:], numbers, numpy.ones(len(numbers)))
    atoms, translations, distances = pairs_within(
        crystal.cell, crystal.scaled_positions, numbers, float(group.attrs["cutoff_angstrom"])
    )
    from ase.data import chemical_symbols

    curves = group["cohp"][:].astype(float)
    energies = group.attrs["energy_first_ev"] + group.attrs["energy_step_ev"] * numpy.arange(curves.shape[1])
    cohp = Cohp(
        energies_ev=energies,
        symbols=numpy.array([[chemical_symbols[numbers[atom]] for atom in pair] for pair in atoms]),
        atoms=atoms,
        translations=translations,
        distances_angstrom=distances,
        curves=numpy.zeros((len(atoms), len(energies))),
        icohp_ev=numpy.zeros(len(atoms)),
        below_ev=numpy.zeros(len(atoms)),
        spilling=float(group.attrs["spilling"]),
        basis=str(group.attrs["basis"]),
        warnings=json.loads(group.attrs["warnings"]),
        mulliken=group["mulliken"][:],
        loewdin=group["loewdin"][:],
    )
    types = cohp.bond_types()
    for (_, _, members), curve, strength in zip(types, curves, group["icohp_ev"][:], strict=True):
        cohp.curves[members], cohp.icohp_ev[members] = curve, strength
    return crystal, cohp


def store_description(group: h5py.Group) -> None:
    """Add lobsterpy's description to a group of ``store_cohp``, or why there is none."""
    crystal, cohp = read_cohp(group)
    try:
        found = describe(cohp, crystal)
    except StudyError as error:
        group.attrs.update(description=error.what, lobsterpy="", which_bonds="")
    else:
        condensed = json.dumps(found.condensed, default=str)
        group.attrs.update(description=found.text, lobsterpy=condensed, which_bonds=found.which_bonds)


@dataclass
class KeptCohp:
    """A record that stands for a crystal.

    Parameters
    ----------
    crystal : the crystal that was solved
    cohp : its COHP
    description : lobsterpy's, or None where it has none; ``no_description`` says why
    cpu_seconds : what the calculation took
    origin : in words: record, what its crystal was relaxed with, difference of the lattice constants
    """

    crystal: Crystal
    cohp: Cohp
    description: Description | None
    no_description: str
    cpu_seconds: float
    origin: str


class KeptRecords:
    """The records of a packed file that the present method would make again.

    Parameters
    ----------
    path : file of ``phonoscreen.stages.bonding_product``

    Raises
    ------
    StudyError
        If the file is none, or none of its records is of the present method.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._names: dict[tuple[frozenset, str], list[str]] = {}
        try:
            with h5py.File(path) as store:
                self._packages = json.loads(store.attrs["packages"])
                for name, group in store.items():
                    if "reason" not in group.attrs and json.loads(group.attrs["method"]) == method():
                        key = _ratio(composition(group.attrs["formula"])), str(group.attrs["prototype"])
                        self._names.setdefault(key, []).append(name)
        except (OSError, KeyError, ValueError) as error:
            raise StudyError(
                f"no file of kept COHP: {type(error).__name__}: {error}", where=str(path), blame="settings",
                fix="name resources/bonding/cohp.h5 in bonding.records, or null",
            ) from error  # fmt: skip
        if not self._names:
            raise StudyError(
                f"no record was made by the present method {method()}", where=str(path), blame="settings",
                fix="set bonding.records to null, or make the records again: make bonding-records",
            )  # fmt: skip

    def covered(self, structures: Iterable[tuple[str, str, str]]) -> set[str]:
        """Return the ids of structures with a record of their composition and class.

        Parameters
        ----------
        structures : (id, formula, prototype) of each
        """
        return {
            structure_id
            for structure_id, formula, prototype in structures
            if (_ratio(composition(formula)), prototype) in self._names
        }

    def find(self, crystal: Crystal, prototype: str) -> tuple[KeptCohp | None, str]:
        """Return the record that stands for a crystal, or None and why there is none.

        Parameters
        ----------
        crystal : primitive cell
        prototype : its class, for example ``"225-AB"``
        """
        names = self._names.get((_ratio(Counter(_symbols(crystal))), prototype), [])
        reason = "" if names else f"{self._path.name} has no record of this composition and class"
        with h5py.File(self._path) as store:
            for name in names:
                group = store[name]
                solved, cohp = read_cohp(group)
                off, reason = difference_of(crystal, solved)
                if reason:
                    reason = f"the record {name} of {self._path.name} is of another crystal: {reason}"
                    continue
                attrs = group.attrs
                program = f"{method()['engine']} {self._packages['gpaw']}"
                found = None
                if attrs["lobsterpy"]:
                    found = Description(attrs["which_bonds"], attrs["description"], json.loads(attrs["lobsterpy"]))
                compared = "" if "empty_bands_compared" in attrs else ", other choices of empty bands not compared"
                origin = (
                    f"kept record {name} ({program}, crystal of {attrs['relaxed_with']}, "
                    f"lattice constant {100 * off:+.2f} %{compared})"
                )
                return KeptCohp(
                    solved, cohp, found, str(attrs["description"]), float(attrs["cpu_seconds"]), origin
                ), ""  # fmt: skip
        return None, reason


def difference_of(crystal: Crystal, solved: Crystal) -> tuple[float, str]:
    """Return by how much the lattice constant of a solved crystal differs, and why it cannot stand for a crystal.

    The two may be described by different cells, origins and orders of atoms: pymatgen's StructureMatcher compares them.

    Returns
    -------
    relative difference of the lattice constants, and the reason, "" if it can stand
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    ours, theirs = (Structure(one.cell, _symbols(one), one.scaled_positions) for one in (crystal, solved))
    volumes = [one.volume / len(one) for one in (ours, theirs)]
    off = float((volumes[1] / volumes[0]) ** (1 / 3) - 1)
    if abs(off) > LATTICE_TOLERANCE:
        return off, f"its lattice constant differs by {100 * off:+.2f} %"
    matcher = StructureMatcher(ltol=LATTICE_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=1.0)
    if not matcher.fit(ours, theirs):
        return off, "its atoms lie elsewhere"
    return off, ""


def _symbols(crystal):
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in crystal.numbers]


def _ratio(counts):
    """Return a composition whatever the number of formula units."""
    divisor = reduce(math.gcd, counts.values())
    return frozenset((symbol, count // divisor) for symbol, count in counts.items())
