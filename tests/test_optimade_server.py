"""The client of OPTIMADE against the reference server of optimade-python-tools, filled with the pool."""

import json
import os
import socket
import threading
import time
from collections import Counter

import numpy
import pytest

from phonoscreen.structures.prototypes import classify, read_prototypes
from phonoscreen.structures.service_records import Request
from phonoscreen.structures.snapshot import read_snapshot
from phonoscreen.structures.sources import read_pool
from tests.conftest import ROOT
from tests.replaying_service import collected

for package in ("optimade.server", "mongomock", "uvicorn"):
    pytest.importorskip(package, reason="the reference server is not installed: pip install 'phonoscreen[optimade]'")

PROPERTIES = {"space_group": "_exmpl_group_number", "formation_energy": None, "hull_distance": "_exmpl_hull",
              "duplicate_of": "_exmpl_same_as"}  # fmt: skip
CLASSES = ["216-ABC", "225-AB", "225-ABC2D6"]


def document(candidate, number):
    """A structure as the server's database holds it; every third one is 0.3 eV above the hull."""
    atoms, counts = candidate.atoms, Counter(candidate.atoms.get_chemical_symbols())
    symbols = sorted(counts)
    anonymous = "".join(f"{letter}{n if n > 1 else ''}" for letter, n in zip("ABCD", sorted(counts.values())[::-1]))
    return {
        "id": candidate.structure_id, "last_modified": "2026-01-01T00:00:00Z", "elements": symbols,
        "nelements": len(symbols), "nsites": len(atoms), "nperiodic_dimensions": 3, "dimension_types": [1, 1, 1],
        "elements_ratios": [counts[one] / len(atoms) for one in symbols], "chemical_formula_anonymous": anonymous,
        "chemical_formula_reduced": "".join(f"{one}{n if n > 1 else ''}" for one, n in sorted(counts.items())),
        "lattice_vectors": atoms.cell.tolist(), "cartesian_site_positions": atoms.positions.tolist(),
        "species_at_sites": atoms.get_chemical_symbols(), "structure_features": [],
        "species": [{"name": one, "chemical_symbols": [one], "concentration": [1.0]} for one in symbols],
        "group_number": classify(atoms, 0.01).space_group_number, "hull": 0.3 if number % 3 == 0 else 0.0,
        "same_as": candidate.structure_id, "relationships": {},
    }  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    types = read_prototypes(ROOT / "resources/prototypes.yaml")["structure_types"]
    return [one for one in read_pool(ROOT / "resources/pool.csv", types) if one.atoms is not None]


@pytest.fixture(scope="module")
def server(pool, tmp_path_factory):
    settings = tmp_path_factory.mktemp("server") / "config.json"
    fields = [{"name": name, "type": kind, "description": name}
              for name, kind in (("group_number", "integer"), ("hull", "float"), ("same_as", "string"))]  # fmt: skip
    settings.write_text(json.dumps({
        "debug": False, "insert_test_data": False, "database_backend": "mongomock", "page_limit": 4,
        "page_limit_max": 50, "provider": {"prefix": "exmpl", "name": "Example", "description": "Example"},
        "provider_fields": {"structures": fields}, "length_aliases": {"structures": {}},
    }))  # fmt: skip
    os.environ["OPTIMADE_CONFIG_FILE"] = str(settings)
    import uvicorn
    from optimade.server.config import ServerConfig
    from optimade.server.create_app import create_app

    app = create_app(ServerConfig())
    app.state.entry_collections["structures"].insert([document(one, number) for number, one in enumerate(pool)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    threading.Thread(target=running.run, daemon=True).start()
    while not running.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/v1"
    running.should_exit = True


def wanted(pool, classes):
    return {one.structure_id: one for one in pool if classify(one.atoms, 0.01).prototype in classes}


def test_the_server_filters_and_every_page_arrives(server, pool, tmp_path):
    request = Request(server, CLASSES, 0.0, 0.2, page_limit=4, properties=PROPERTIES)
    found = {one.source_id: one for one in collected("optimade", request, tmp_path)}
    low = {one.structure_id for number, one in enumerate(pool) if number % 3}
    expected = {name: one for name, one in wanted(pool, CLASSES).items() if name in low}
    assert set(found) == set(expected) and len(found) > 8
    for name, one in found.items():
        assert one.hull_distance_ev_per_atom == 0.0 and numpy.isnan(one.formation_energy_ev_per_atom)
        assert one.source_space_group_number == classify(one.atoms, 0.01).space_group_number
        assert numpy.allclose(one.atoms.positions, expected[name].atoms.positions)
        assert one.formula == expected[name].formula
    about = read_snapshot(tmp_path / "snapshot.parquet").about
    assert (
        about["queries"]["225-AB"] == 'chemical_formula_anonymous="AB" AND _exmpl_group_number=225 AND _exmpl_hull<=0.2'
    )
    assert about["server"]["implementation"]["name"] and about["server"]["api_version"]


def test_standard_properties_alone_bring_the_same_classes_after_the_symmetry_search(server, pool, tmp_path):
    request = Request(server, CLASSES, 0.0, 0.2, page_limit=50, properties={})
    found = {one.source_id: one for one in collected("optimade", request, tmp_path)}
    assert set(found) >= set(wanted(pool, CLASSES))
    assert {one.source_space_group_number for one in found.values()} == {0}
    cubic = {name for name, one in found.items() if classify(one.atoms, 0.01).prototype in CLASSES}
    assert cubic == set(wanted(pool, CLASSES))


def test_all_structures_can_be_asked_for(server, pool, tmp_path):
    request = Request(server, None, 0.0, 1.0, page_limit=50, properties=PROPERTIES)
    assert {one.source_id for one in collected("optimade", request, tmp_path)} == {one.structure_id for one in pool}
