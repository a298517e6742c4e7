"""Any database that speaks OPTIMADE: Materials Project, Alexandria, NOMAD, OQMD, a private server.

OPTIMADE: Andersen et al., Sci. Data 8, 217 (2021); specification 1.2. Structures are asked for by standard properties,
``chemical_formula_anonymous`` first. What a provider calls its space group, energies and duplicates is no standard: the
settings ``source.optimade`` name these properties. A condition on one of them is sent to the service where its grammar
and the service allow that, and every limit is applied again to the candidates.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy
from ase import Atoms
from ase.formula import Formula

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.structure_files import admit_crystal
from phonoscreen.structures.pages import Pager, RequestRefused, Series, fetch_series, parse_page
from phonoscreen.structures.service_records import Request, ServiceRecord, text_id
from phonoscreen.structures.space_groups import space_group_number, symbol_of

log = logging.getLogger("phonoscreen")

STANDARD = ("chemical_formula_reduced", "lattice_vectors", "cartesian_site_positions", "species_at_sites", "species",
            "dimension_types")  # fmt: skip
PROPERTIES = ("space_group", "formation_energy", "hull_distance", "duplicate_of")
"""What a provider may give beyond the standard; energies in eV/atom."""
_IDENTIFIER = re.compile(r"[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*")
_CANNOT_FILTER = (400, 403, 422, 500, 501)


def fetch_optimade(request: Request, folder: Path, pager: Pager) -> tuple[dict[str, Series], dict[str, Any]]:
    """Fetch the pages of all classes, or of all structures where every class is asked for.

    Parameters
    ----------
    request : ``Request``; ``url`` is the base of the service with its version, such as
        ``"https://optimade.materialsproject.org/v1"``
    folder : where the pages are kept
    pager : Pager

    Returns
    -------
    series : by the name of the class, ``"any"`` for all structures
    about : ``queries`` and ``server``

    Raises
    ------
    StudyError
        See ``fetch_series``; or if a property of the settings is unknown to the service.
    """
    base = request.url.rstrip("/")
    server = _server(base, request, pager)
    roots = dict.fromkeys(path.split(".")[0] for path in request.properties.values() if path)
    fields = ",".join([*STANDARD, *(name for name in roots if name not in STANDARD)])
    series, queries = {}, {}
    for name in request.classes or ["any"]:
        always, besides = conditions(request, None if name == "any" else name)
        series[name], queries[name] = _fetch(f"{base}/structures", folder / name, always, besides, fields, request,
                                             pager)  # fmt: skip
    return series, {"address": f"{base}/structures", "queries": queries, "fields": fields, "server": server}


def _server(base, request, pager):
    """Return who answers, after a look at the properties that it knows."""
    page = parse_page(pager.fetch(f"{base}/info/structures"))
    said: Any = page.get("meta")
    meta = said if isinstance(said, dict) else {}
    known = page["data"].get("properties") if isinstance(page["data"], dict) else None
    if isinstance(known, dict) and known:
        own = sorted(name for name in known if name.startswith("_"))
        for key, path in request.properties.items():
            if path and path.split(".")[0] not in known:
                raise StudyError(
                    f"the service has no property {path}", where=f"source.optimade.{key}",
                    fix=f"name one of its own: {', '.join(own) or 'it has none'}, or null",
                )  # fmt: skip
    return {key: meta[key] for key in ("api_version", "implementation", "provider") if key in meta}


def conditions(request: Request, name: str | None) -> tuple[list[str], list[str]]:
    """Return the conditions of a query that every service understands, and those that this one may understand.

    Parameters
    ----------
    request : ``Request``
    name : class, such as ``"225-AB"``, None for all
    """
    always, besides = [], []
    properties = {key: path for key, path in request.properties.items() if path and _IDENTIFIER.fullmatch(path)}
    if name is not None:
        number, formula_type = name.split("-")
        always.append(f'chemical_formula_anonymous="{anonymous_formula(formula_type)}"')
        if path := properties.get("space_group"):
            besides.append(f"{path}={number}" if path.endswith("number") else f'{path}="{symbol_of(int(number))}"')
    for key in ("formation_energy", "hull_distance"):
        if path := properties.get(key):
            besides.append(f"{path}<={getattr(request, f'{key}_max_ev_per_atom')}")
    return always, besides


def _fetch(address, folder, always, besides, fields, request, pager):
    """Fetch a series with all conditions, or with the standard ones alone where the service refuses the others."""
    query = " AND ".join([*always, *besides])
    parameters = {"response_fields": fields, "page_limit": request.page_limit} | ({"filter": query} if query else {})
    try:
        return fetch_series(pager, folder, address, parameters, "data_returned", optimade_id), query
    except RequestRefused as error:
        if error.http_status not in _CANNOT_FILTER or not besides:
            raise
        log.warning("%s; asked again without %s, which is applied here", error.what, " AND ".join(besides))
    return _fetch(address, folder, always, [], fields, request, pager)


def anonymous_formula(formula_type: str) -> str:
    """Write a formula type as OPTIMADE does, letters by falling count: ``"ABC2D6"`` becomes ``"A6B2CD"``."""
    counts = sorted((int(n or 1) for n in re.findall(r"[A-Z](\d*)", formula_type)), reverse=True)
    return str(Formula.from_dict(dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", counts, strict=False))))


def optimade_id(entry: Any) -> str:
    """Return the id of an entry, "" where it has none."""
    return text_id(entry.get("id")) if isinstance(entry, dict) else ""


def optimade_ids(entry: Any, request: Request) -> tuple[str, str]:
    """Return the id of an entry and that of the entry it repeats, "" for what is none."""
    return optimade_id(entry), text_id(_value(entry, request.properties.get("duplicate_of")))


def optimade_record(entry: Any, request: Request) -> ServiceRecord:
    """Return what an entry says; problems of its geometry are raised by ``ServiceRecord.atoms``."""
    provider = urlsplit(request.url).hostname or "optimade"
    if not isinstance(entry, dict):
        return ServiceRecord("", provider)
    names = request.properties
    return ServiceRecord(
        optimade_id(entry), provider, name=str(_value(entry, "chemical_formula_reduced") or "")[:100],
        formation_energy=_value(entry, names.get("formation_energy")),
        hull_distance=_value(entry, names.get("hull_distance")),
        space_group_number=space_group_number(_value(entry, names.get("space_group"))),
        atoms=lambda: atoms_of(entry.get("attributes")),
    )  # fmt: skip


def _value(entry, path):
    """Return a property, or what a path with points leads to inside of one; None where there is nothing."""
    value = entry.get("attributes") if isinstance(entry, dict) else None
    if not path:
        return None
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def atoms_of(properties: Any) -> Atoms:
    """Return the crystal of the standard properties of an entry.

    Raises
    ------
    StudyError
        If they are missing or odd, sites are partly occupied, or ``admit_crystal`` refuses the crystal.
    """
    fix = "look at the record in the snapshot"
    try:
        cell = numpy.array(properties["lattice_vectors"], dtype=float).reshape(3, 3)
        positions = numpy.array(properties["cartesian_site_positions"], dtype=float).reshape(-1, 3)
        elements = {}
        for one in properties.get("species") or []:
            symbols, shares = one["chemical_symbols"], one.get("concentration") or [1.0]
            if len(symbols) != 1 or abs(shares[0] - 1) > 1e-3 or one.get("attached"):
                raise StudyError("sites that are partly occupied, or by several elements", fix=fix)
            elements[one["name"]] = symbols[0]
        symbols = [elements.get(name, name) for name in properties["species_at_sites"]]
        if any(value != 1 for value in properties.get("dimension_types") or [1]):
            raise StudyError("not periodic in three directions", fix=fix)
        if len(symbols) != len(positions):
            raise ValueError(f"{len(symbols)} species for {len(positions)} positions")
        atoms = Atoms(symbols=symbols, cell=cell, positions=positions, pbc=True)
    except StudyError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise StudyError(f"cell or sites cannot be read: {error}", fix=fix) from error
    return admit_crystal(atoms)
