"""Candidates from the Open Quantum Materials Database, through its own interface and through OPTIMADE.

OQMD: Saal et al., JOM 65, 1501 (2013); Kirklin et al., npj Comput. Mater. 1, 15010 (2015). OPTIMADE: Andersen et al.,
Sci. Data 8, 217 (2021). One query per class of Table 1; the class itself is found again from the atoms afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy
from ase import Atoms
from ase.formula import Formula

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import harmless_id
from phonoscreen.formats.structure_files import admit_crystal
from phonoscreen.structures.candidate import NOT_GIVEN, Candidate
from phonoscreen.structures.formulas import formula_of
from phonoscreen.structures.snapshot import Pager, fetch_series, open_snapshot

if TYPE_CHECKING:
    from pathlib import Path

SPACE_GROUPS = {"216": "F-43m", "221": "Pm-3m", "225": "Fm-3m", "227": "Fd-3m"}
PAGE_LIMIT = 50  # the most that the service sends at once
SITES_MAX = 500
_FIELDS = "name,entry_id,duplicate_entry_id,spacegroup,composition_generic,natoms,delta_e,stability,unit_cell,sites"
_OPTIMADE_FIELDS = ("entry_id", "spacegroup", "delta_e", "stability", "unit_cell", "sites")
_OPTIMADE_STANDARD = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species", "dimension_types")


def collect_oqmd(
    url: str,
    snapshot: str | Path,
    classes: Sequence[str],
    formation_energy_max_ev_per_atom: float,
    hull_distance_max_ev_per_atom: float,
    pager: Pager | None = None,
) -> list[Candidate]:
    """Collect candidates through ``/oqmdapi/formationenergy``.

    Parameters
    ----------
    url : address of the service, for example ``"https://oqmd.org"``
    snapshot : folder of the snapshots
    classes : names like ``"225-ABC2"``
    formation_energy_max_ev_per_atom, hull_distance_max_ev_per_atom : limits of the query, eV/atom
    pager : Pager

    Returns
    -------
    list of Candidate, one per distinct crystal (``duplicate_entry_id``)
    """
    limits = f"delta_e<={formation_energy_max_ev_per_atom} AND stability<={hull_distance_max_ev_per_atom}"
    address = f"{url.rstrip('/')}/oqmdapi/formationenergy"
    folder = open_snapshot(snapshot, {"url": address, "classes": classes, "limits": limits, "fields": _FIELDS})
    records = []
    for name in classes:
        space_group, generic = name.split("-")
        query = f'spacegroup="{SPACE_GROUPS[space_group]}" AND generic={generic} AND {limits}'
        parameters = {"fields": _FIELDS, "filter": query, "limit": PAGE_LIMIT, "offset": 0}
        records += fetch_series(pager or Pager(), folder / name, address, parameters, "data_available")
    return candidates_of("oqmd", drop_duplicates(records))


def collect_optimade(
    url: str,
    snapshot: str | Path,
    classes: Sequence[str],
    formation_energy_max_ev_per_atom: float,
    hull_distance_max_ev_per_atom: float,
    pager: Pager | None = None,
) -> list[Candidate]:
    """Collect candidates through an OPTIMADE service that gives OQMD's ``_oqmd_*`` properties.

    Parameters and result as in ``collect_oqmd``; ``url`` is the base, for example ``"https://oqmd.org/optimade/v1"``.
    """
    limits = f"_oqmd_delta_e<={formation_energy_max_ev_per_atom} AND _oqmd_stability<={hull_distance_max_ev_per_atom}"
    address = f"{url.rstrip('/')}/structures"
    fields = ",".join([*(f"_oqmd_{field}" for field in _OPTIMADE_FIELDS), *_OPTIMADE_STANDARD])
    folder = open_snapshot(snapshot, {"url": address, "classes": classes, "limits": limits, "fields": fields})
    records = []
    for name in classes:
        space_group, formula_type = name.split("-")
        query = (
            f'chemical_formula_anonymous="{anonymous_formula(formula_type)}" AND '
            f'_oqmd_spacegroup="{SPACE_GROUPS[space_group]}" AND {limits}'
        )
        parameters = {"filter": query, "response_fields": fields, "page_limit": PAGE_LIMIT}
        entries = fetch_series(pager or Pager(), folder / name, address, parameters, "data_returned")
        records += [optimade_record(entry, urlsplit(address).hostname) for entry in entries]
    return candidates_of("optimade", drop_duplicates(records))


def anonymous_formula(formula_type: str) -> str:
    """Write a formula type as OPTIMADE does, letters by falling count: ``"ABC2D6"`` becomes ``"A6B2CD"``."""
    counts = sorted((int(n or 1) for n in re.findall(r"[A-Z](\d*)", formula_type)), reverse=True)
    return str(Formula.from_dict(dict(zip("ABCDEFGH", counts, strict=False))))


def optimade_record(entry: Any, host: str | None) -> dict[str, Any]:
    """Return an entry of OPTIMADE as a record like the OQMD's own, whoever provides it.

    Parameters
    ----------
    entry : of ``data``; anything
    host : of the service, which names entries that are not the OQMD's

    Returns
    -------
    dict with ``entry_id, provider`` and what the entry gives of ``delta_e, stability, unit_cell, sites``
    """
    if not isinstance(entry, dict):
        return {"entry": entry}
    # The specification nests properties under "attributes"; the oldest answers do not.
    properties = entry["attributes"] if isinstance(entry.get("attributes"), dict) else entry
    record = {field: properties.get(f"_oqmd_{field}") for field in _OPTIMADE_FIELDS}
    if record["entry_id"] is None:
        record |= {"entry_id": entry.get("id"), "provider": host or "optimade"}
    if record["unit_cell"] is None and properties.get("lattice_vectors") is not None:
        record |= _standard_geometry(properties)
    return record


def _standard_geometry(properties):
    """Return cell and sites of the properties that every provider of OPTIMADE knows, or the problem with them."""
    try:
        cell = numpy.array(properties["lattice_vectors"], dtype=float).reshape(3, 3)
        positions = numpy.array(properties["cartesian_site_positions"], dtype=float).reshape(-1, 3)
        elements = {}
        for one in properties.get("species") or []:
            symbols, shares = one["chemical_symbols"], one.get("concentration") or [1.0]
            if len(symbols) != 1 or abs(shares[0] - 1) > 1e-3 or one.get("attached"):
                return {"problem": "sites that are partly occupied, or by several elements"}
            elements[one["name"]] = symbols[0]
        names = properties["species_at_sites"]
        if any(value != 1 for value in properties.get("dimension_types") or [1]):
            return {"problem": "not periodic in three directions"}
        scaled = positions @ numpy.linalg.inv(cell)
        sites = [f"{elements.get(n, n)} @ {x} {y} {z}" for n, (x, y, z) in zip(names, scaled, strict=True)]
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, numpy.linalg.LinAlgError) as error:
        return {"problem": f"cell or sites cannot be read: {error}"}
    return {"unit_cell": cell.tolist(), "sites": sites}


def drop_duplicates(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one record per crystal: that of the preferred entry where it is among them, else the first.

    Parameters
    ----------
    records : dicts with ``entry_id`` and perhaps ``duplicate_entry_id``, the preferred entry of the same crystal; what
        is none, or names no entry, is kept
    """
    kept = {}
    for number, record in enumerate(records):
        entry = _entry_id(record)
        crystal = _text_id(record.get("duplicate_entry_id")) or entry if entry else None
        key = (record.get("provider"), crystal) if crystal else ("no id", number)
        if key not in kept or entry == crystal:
            kept[key] = record
    return list(kept.values())


def _entry_id(record):
    return _text_id(record.get("entry_id")) if isinstance(record, dict) else ""


def _text_id(value):
    """Return the id of an entry as text, "" for what is none."""
    is_id = isinstance(value, (int, str)) and not isinstance(value, bool)
    return str(value).strip() if is_id else ""


def parse_sites(unit_cell: Any, sites: Any) -> Atoms:
    """Return the atoms of a record.

    Parameters
    ----------
    unit_cell : (3, 3) lattice vectors as rows, angstrom
    sites : texts like ``"La @ 0.75 0.75 0.75"``, element and fractional coordinates rounded to three decimals

    Raises
    ------
    StudyError
        If cell or sites cannot be understood, or ``admit_crystal`` refuses them.
    """
    try:
        cell = numpy.array(unit_cell, dtype=float).reshape(3, 3)
        if not isinstance(sites, list) or not 0 < len(sites) <= SITES_MAX:
            raise ValueError(f"no list of 1 to {SITES_MAX} sites")
        symbols, positions = [], []
        for site in sites:
            symbol, coordinates = site.split("@")
            x, y, z = (float(word) for word in coordinates.split())
            symbols.append(symbol.strip())
            positions.append([x, y, z])
        atoms = Atoms(symbols=symbols, cell=cell, scaled_positions=numpy.array(positions), pbc=True)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise StudyError(f"cell or sites cannot be read: {error}", fix="look at the record in the snapshot") from error
    return admit_crystal(atoms)


def candidates_of(source: str, records: Iterable[dict[str, Any]]) -> list[Candidate]:
    """Return a Candidate for every record of a service; what a record lacks, or has odd, is its problem in words.

    Parameters
    ----------
    source : "oqmd" or "optimade"
    records : list of dicts with ``entry_id`` and, as far as known, ``name, delta_e, stability, unit_cell, sites``
    """
    candidates, used = [], set()
    for number, record in enumerate(records):
        candidate = _candidate(source, record, number)
        if candidate.structure_id in used:
            candidate.structure_id = harmless_id(f"{candidate.structure_id} record {number}")
            candidate.atoms, candidate.problem = None, f"the service gives the id {candidate.source_id} twice"
        used.add(candidate.structure_id)
        candidates.append(candidate)
    return candidates


def _candidate(source, record, number):
    entry = _entry_id(record)
    record = record if isinstance(record, dict) else {}
    if not entry:
        return Candidate(f"{source}-record-{number}", source, "", "", None, problem="a record without an entry id")
    structure_id = harmless_id(f"{record.get('provider') or 'oqmd'}-{entry}")
    atoms, problem, energies = None, record.get("problem") or "", {}
    try:
        for name, key in (("formation energy", "delta_e"), ("hull distance", "stability")):
            energies[key] = _energy(name, record.get(key))
        if not problem:
            atoms = parse_sites(record.get("unit_cell"), record.get("sites"))
    except StudyError as error:
        problem = error.what
    formula = formula_of(atoms.numbers) if atoms is not None else str(record.get("name") or "")[:100]
    return Candidate(structure_id, source, entry, formula, atoms, energies.get("delta_e", NOT_GIVEN),
                     energies.get("stability", NOT_GIVEN), problem=problem)  # fmt: skip


def _energy(name, value):
    """Return an energy in eV/atom, also where it is given as text; NaN for none."""
    if value is None:
        return NOT_GIVEN
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(f"the {name} {str(value)[:40]!r} is no number", fix="look at the record in the snapshot")
    return number
