"""The Open Quantum Materials Database through its own interface, ``/oqmdapi/formationenergy``.

Saal et al., JOM 65, 1501 (2013); Kirklin et al., npj Comput. Mater. 1, 15010 (2015). One query per class; the class
itself is found again from the atoms afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
from ase import Atoms

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.structure_files import admit_crystal
from phonoscreen.structures.pages import Pager, Series, fetch_series
from phonoscreen.structures.service_records import Request, ServiceRecord, text_id
from phonoscreen.structures.space_groups import space_group_number, symbol_of

SITES_MAX = 500
FIELDS = "name,entry_id,duplicate_entry_id,spacegroup,composition_generic,natoms,delta_e,stability,unit_cell,sites"


def fetch_oqmd(request: Request, folder: Path, pager: Pager) -> tuple[dict[str, Series], dict[str, Any]]:
    """Fetch the pages of all classes.

    Parameters
    ----------
    request : ``Request``; ``url`` is the address of the service, for example ``"https://oqmd.org"``
    folder : where the pages are kept
    pager : Pager

    Returns
    -------
    series : by the name of the class
    about : ``queries`` and ``server``

    Raises
    ------
    StudyError
        See ``fetch_series``; or if every class is asked for, which this interface cannot answer.
    """
    if request.classes is None:
        raise StudyError("the OQMD is asked class by class", where="filter.classes",
                         fix="set filter.classes to table1 or a list")  # fmt: skip
    address = f"{request.url.rstrip('/')}/oqmdapi/formationenergy"
    limits = (f"delta_e<={request.formation_energy_max_ev_per_atom} AND "
              f"stability<={request.hull_distance_max_ev_per_atom}")  # fmt: skip
    series, queries = {}, {}
    for name in request.classes:
        space_group, generic = name.split("-")
        queries[name] = f'spacegroup="{symbol_of(int(space_group))}" AND generic={generic} AND {limits}'
        parameters = {"fields": FIELDS, "filter": queries[name], "limit": request.page_limit, "offset": 0}
        series[name] = fetch_series(pager, folder / name, address, parameters, "data_available", oqmd_ids_first)
    return series, {"address": address, "queries": queries, "fields": FIELDS, "server": {}}


def oqmd_ids(record: Any) -> tuple[str, str]:
    """Return the id of a record and the preferred entry of the same crystal, "" for what is none."""
    if not isinstance(record, dict):
        return "", ""
    return text_id(record.get("entry_id")), text_id(record.get("duplicate_entry_id"))


def oqmd_ids_first(record: Any) -> str:
    """Return the id of a record, "" where it has none."""
    return oqmd_ids(record)[0]


def oqmd_record(record: Any) -> ServiceRecord:
    """Return what a record says; problems of its geometry are raised by ``ServiceRecord.atoms``."""
    if not isinstance(record, dict):
        return ServiceRecord("", "oqmd")
    return ServiceRecord(
        text_id(record.get("entry_id")), "oqmd", name=str(record.get("name") or "")[:100],
        formation_energy=record.get("delta_e"), hull_distance=record.get("stability"),
        space_group_number=space_group_number(record.get("spacegroup")),
        atoms=lambda: parse_sites(record.get("unit_cell"), record.get("sites")),
    )  # fmt: skip


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
