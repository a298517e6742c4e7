"""Candidates from the Open Quantum Materials Database, through its own interface and through OPTIMADE.

OQMD: Saal et al., JOM 65, 1501 (2013); Kirklin et al., npj Comput. Mater. 1, 15010 (2015). OPTIMADE: Andersen et al.,
Sci. Data 8, 217 (2021). One query per class of Table 1; the class itself is found again from the atoms afterwards.
"""

import re

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.candidate import NOT_GIVEN, Candidate
from phonoscreen.structures.snapshot import Pager, fetch_series, open_snapshot

SPACE_GROUPS = {"216": "F-43m", "221": "Pm-3m", "225": "Fm-3m", "227": "Fd-3m"}
PAGE_LIMIT = 50  # the most that the service sends at once
_FIELDS = "name,entry_id,duplicate_entry_id,spacegroup,composition_generic,natoms,delta_e,stability,unit_cell,sites"
_OPTIMADE_FIELDS = ("entry_id", "spacegroup", "delta_e", "stability", "unit_cell", "sites")


def collect_oqmd(url, snapshot, classes, formation_energy_max_ev_per_atom, hull_distance_max_ev_per_atom, pager=None):
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
    return [_candidate("oqmd", record) for record in drop_duplicates(records)]


def collect_optimade(
    url, snapshot, classes, formation_energy_max_ev_per_atom, hull_distance_max_ev_per_atom, pager=None
):
    """Collect candidates through an OPTIMADE service that gives OQMD's ``_oqmd_*`` properties.

    Parameters and result as in ``collect_oqmd``; ``url`` is the base, for example ``"https://oqmd.org/optimade/v1"``.
    """
    limits = f"_oqmd_delta_e<={formation_energy_max_ev_per_atom} AND _oqmd_stability<={hull_distance_max_ev_per_atom}"
    address = f"{url.rstrip('/')}/structures"
    fields = ",".join(f"_oqmd_{field}" for field in _OPTIMADE_FIELDS)
    folder = open_snapshot(snapshot, {"url": address, "classes": classes, "limits": limits, "fields": fields})
    records = []
    for name in classes:
        space_group, formula_type = name.split("-")
        query = (
            f'chemical_formula_anonymous="{anonymous_formula(formula_type)}" AND '
            f'_oqmd_spacegroup="{SPACE_GROUPS[space_group]}" AND {limits}'
        )
        parameters = {"filter": query, "response_fields": fields, "page_limit": PAGE_LIMIT}
        for entry in fetch_series(pager or Pager(), folder / name, address, parameters, "data_returned"):
            # The specification nests properties under "attributes"; the oldest answers do not.
            properties = entry.get("attributes", entry)
            records.append({field: properties.get(f"_oqmd_{field}") for field in _OPTIMADE_FIELDS})
    return [_candidate("optimade", record) for record in drop_duplicates(records)]


def anonymous_formula(formula_type):
    """Write a formula type as OPTIMADE does, letters by falling count: ``"ABC2D6"`` becomes ``"A6B2CD"``."""
    counts = sorted((int(n or 1) for n in re.findall(r"[A-Z](\d*)", formula_type)), reverse=True)
    return "".join(f"{letter}{n if n > 1 else ''}" for letter, n in zip("ABCDEFGH", counts, strict=False))


def drop_duplicates(records):
    """Keep one record per crystal: that of the preferred entry where it is among them, else the first.

    Parameters
    ----------
    records : dicts with ``entry_id`` and perhaps ``duplicate_entry_id``, the preferred entry of the same crystal
    """
    kept = {}
    for record in records:
        crystal = record.get("duplicate_entry_id") or record["entry_id"]
        if crystal not in kept or record["entry_id"] == crystal:
            kept[crystal] = record
    return list(kept.values())


def parse_sites(unit_cell, sites):
    """Return the atoms of a record.

    Parameters
    ----------
    unit_cell : (3, 3) lattice vectors as rows, angstrom
    sites : texts like ``"La @ 0.75 0.75 0.75"``, element and fractional coordinates rounded to three decimals

    Raises
    ------
    StudyError
        If cell or sites cannot be understood.
    """
    try:
        cell = numpy.array(unit_cell, dtype=float).reshape(3, 3)
        symbols, positions = [], []
        for site in sites:
            symbol, coordinates = site.split("@")
            symbols.append(symbol.strip())
            positions.append([float(x) for x in coordinates.split()])
        return Atoms(symbols=symbols, cell=cell, scaled_positions=numpy.array(positions).reshape(-1, 3), pbc=True)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StudyError(f"cell or sites cannot be read: {error}", fix="look at the record in the snapshot") from error


def _candidate(source, record):
    atoms, problem = None, ""
    try:
        atoms = parse_sites(record.get("unit_cell"), record.get("sites"))
    except StudyError as error:
        problem = error.what
    energy, hull = (record.get(key) for key in ("delta_e", "stability"))
    return Candidate(
        f"oqmd-{record['entry_id']}", source, str(record["entry_id"]),
        record.get("name") or (str(atoms.symbols) if atoms else ""), atoms,
        NOT_GIVEN if energy is None else energy, NOT_GIVEN if hull is None else hull, problem=problem,
    )  # fmt: skip
