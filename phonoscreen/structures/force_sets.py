"""Force sets of a study: collected into one file, from which structures and labels come.

Labels keep the supercells that they were calculated in. The structure of the study is the primitive cell whose
repetitions along its own vectors are that supercell (``phonoscreen.crystal.primitive``).
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy
import pandas
from ase import Atoms
from ase.data import chemical_symbols

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.kept import digest_of_arrays
from phonoscreen.audit.names import harmless_id
from phonoscreen.audit.records import write_table
from phonoscreen.crystal.constants import Crystal
from phonoscreen.formats.force_sets import ForceSet, find_force_sets, force_set_name, read_force_set
from phonoscreen.formats.hidden_content import own_masses
from phonoscreen.formats.structure_files import admit_crystal
from phonoscreen.structures.candidate import Candidate
from phonoscreen.structures.formulas import formula_of
from phonoscreen.structures.store import read_atoms, structure_arrays

log = logging.getLogger("phonoscreen")

OF_THE_STUDY = ("GGA", "METAGGA", "LHFCALC", "LDAU", "functional", "ENCUT", "kinetic-energy cutoff (Ry)",
                "plane-wave cutoff (eV)")  # fmt: skip
"""Settings that all crystals of a study must share; potentials are compared element by element."""


@dataclass
class _Collected:
    """One force set with its place among the others."""

    structure_id: str
    name: str
    found: ForceSet | None
    problem: str = ""


def collect_force_sets(
    folder: str | Path, store: str | Path, table: str | Path, digests: str | Path, workspace: Path,
    allowed: Collection[str] = (),
) -> None:  # fmt: skip
    """Read all force sets of a folder.

    Parameters
    ----------
    folder : see ``phonoscreen.formats.force_sets.find_force_sets``
    store : HDF5 file to write, a group per crystal: ``cell, scaled_positions, numbers, repetitions, displacements,
        forces`` and, where known, ``residual_forces, born_charges, dielectric``; attributes ``program, settings``
    table : Parquet file to write, one row per calculation: ``structure_id, source, where, status, reason,
        displacement_max_angstrom, program, settings``; a force set that cannot be used has one row
    digests : JSON file to write: a digest of each crystal's arrays
    workspace : folder for the content of archives
    allowed : names of settings that may differ

    Raises
    ------
    StudyError
        If there are no force sets, or their functionals, cutoffs or potentials differ and may not.
    """
    folder = Path(folder)
    places = find_force_sets(folder)
    if not places:
        raise StudyError("no force sets", where=str(folder), fix="see docs/your_data.md for what is read")
    rows: list[dict[str, Any]] = []
    stated: list[tuple[str, Mapping[str, str]]] = []
    known: dict[str, str] = {}
    with written_whole(store) as partial, h5py.File(partial, "w") as output:
        for one in _read(places, folder, workspace, tuple(allowed)):
            rows += _rows(one)
            if one.found is not None:
                stated.append((one.name, one.found.settings))
                known[one.structure_id] = _write(output.create_group(one.structure_id), one)
        check_settings(stated, allowed)
    write_table(pandas.DataFrame(rows), table)
    with written_whole(digests) as partial:
        partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    log.info("%d force sets, %d can be used", len(places), len(known))


def _read(places: list[Path], folder: Path, workspace: Path, allowed: tuple[str, ...]) -> Iterator[_Collected]:
    used: set[str] = set()
    for path in places:
        name = force_set_name(path, folder)
        structure_id = harmless_id(name.lower().replace("/", "-"))
        if structure_id in used:
            structure_id = harmless_id(f"{structure_id} of {path.name}")
        used.add(structure_id)
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True)
        try:
            yield _Collected(structure_id, name, read_force_set(path, workspace, allowed))
        except StudyError as error:
            log.warning("%s: %s", name, error)
            yield _Collected(structure_id, name, None, str(error))
    shutil.rmtree(workspace, ignore_errors=True)


def _rows(one):
    about = {"structure_id": one.structure_id, "source": one.name}
    if one.found is None:
        return [{**about, "where": "", "status": "failed", "reason": one.problem,
                 "displacement_max_angstrom": numpy.nan, "program": "", "settings": ""}]  # fmt: skip
    largest = iter(numpy.linalg.norm(one.found.data.displacements, axis=2).max(axis=1))
    about |= {"program": one.found.program, "settings": json.dumps(one.found.settings, sort_keys=True)}
    rows = []
    for calculation in one.found.calculations:
        known = calculation.displacement_max_angstrom
        if calculation.status == "ok" and not known < 1e-4:  # undisplaced ones are not among the displacements
            known = next(largest, numpy.nan)
        rows.append({**about, "where": calculation.where, "status": calculation.status, "reason": calculation.reason,
                     "displacement_max_angstrom": known})  # fmt: skip
    return rows


def _write(group, one):
    """Write one crystal and return the digest of its arrays."""
    data = one.found.data
    arrays = {
        **structure_arrays(atoms_of_crystal(data.crystal)), "repetitions": numpy.array(data.repetitions),
        "displacements": data.displacements, "forces": data.forces,
    }  # fmt: skip
    if data.residual_forces is not None:
        arrays["residual_forces"] = data.residual_forces
    if data.born is not None and data.dielectric is not None:
        arrays |= {"born_charges": data.born, "dielectric": data.dielectric}
    for name, array in arrays.items():
        group[name] = array
    group.attrs.update({"source": one.name, "program": one.found.program, "settings": json.dumps(one.found.settings)})
    return digest_of_arrays(*arrays.values())


def atoms_of_crystal(crystal: Crystal) -> Atoms:
    """Return a ``Crystal`` as ase.Atoms, with the masses that are not the natural ones."""
    atoms = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    atoms.set_masses(crystal.masses)
    if not own_masses(atoms):
        atoms.set_masses("defaults")
    return atoms


def check_settings(stated: Iterable[tuple[str, Mapping[str, str]]], allowed: Collection[str] = ()) -> None:
    """Refuse a mixture of functionals, cutoffs or potentials.

    Parameters
    ----------
    stated : pairs of a crystal's name and the settings that its files state; what is not stated is not compared
    allowed : names of settings that may differ

    Raises
    ------
    StudyError
        Naming the setting, its values with an example of each, and how it is allowed.
    """
    values: dict[str, dict[str, list[str]]] = {}
    for name, settings in stated:
        compared = {key: settings[key] for key in OF_THE_STUDY if key in settings}
        for potential in filter(None, settings.get("potentials", "").split(" + ")):
            compared[f"potentials of {_element_of(potential)}"] = potential
        for key, value in compared.items():
            values.setdefault(key, {}).setdefault(value, []).append(name)
    for key, found in values.items():
        allowed_name = "potentials" if key.startswith("potentials") else key
        if len(found) > 1 and allowed_name not in allowed:
            examples = [f"{value} ({len(names)}, such as {names[0]})" for value, names in sorted(found.items())[:5]]
            shown = ", ".join(examples)
            raise StudyError(
                f"the force sets differ in {key}: {shown}", where="source.path",
                fix=f"remove those that do not belong, or allow it by name: source.allow_mixed: [{allowed_name}]",
            )  # fmt: skip


def _element_of(potential):
    """Return the element that the name of a potential means, such as ``"PAW_PBE Na_pv 19Sep2006"``."""
    words = [re.split(r"[_.]", word)[0] for word in potential.split()]
    return next((word for word in words if word in chemical_symbols[1:]), potential)


def candidates_of_force_sets(store: str | Path, table: str | Path) -> Iterator[Candidate]:
    """Yield the candidates of ``collect_force_sets``; a force set that cannot be used has its problem in words.

    Parameters
    ----------
    store, table : files of ``collect_force_sets``
    """
    rows = pandas.read_parquet(table).drop_duplicates("structure_id")
    with h5py.File(store) as groups:
        for structure_id, source, problem in zip(rows["structure_id"], rows["source"], rows["reason"]):
            atoms = None
            if structure_id in groups:
                problem = ""
                try:
                    atoms = admit_crystal(read_atoms(groups[structure_id]))
                except StudyError as error:
                    problem = error.what
            formula = formula_of(atoms.numbers, own_masses(atoms)) if atoms is not None else ""
            yield Candidate(structure_id, "force_sets", source, formula, atoms, problem=problem)
