"""The contracts between the stages: the page is in step, every rule is there, and a finished study keeps them."""

import re

import h5py
import pyarrow.parquet
import pytest

from phonoscreen.audit.records import FAILURE, REQUIRED
from phonoscreen.workflow.contracts import PAGE, page, products, tables
from tests.conftest import ROOT
from tests.small_study import write_small_study

RULE = r"(?ms)^rule (\w+):(.*?)(?=^rule |\Z)"
ON_REQUEST = {"experiment.smk", "ablation.smk", "convergence.smk", "download.smk", "screening.smk"}
"""Rules of the experiment, of the convergence study and of the screening, which no other rule reads from, and of the
snapshot of a service, which lies where the settings say."""


def departures(results):
    """Return how the files of a study differ from the contracts, in words."""
    found = []
    for product in products():
        for path in sorted(results.glob(re.sub(r"\{\w+\}", "*", product.path))):
            if product.text:
                continue
            have, stated = _names(path), product.arrays if path.suffix == ".h5" else product.columns
            allowed = [*stated, *REQUIRED, FAILURE]
            found += [f"{path}: {name} is not in the contract" for name in have if not _stated(name, allowed)]
            if path.suffix == ".h5" or _has_values(path):
                needed = [name for name in stated if not name.endswith("?")]
                found += [f"{path}: {name} is missing" for name in needed if have and name not in have]
    return found


def _names(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_schema(path).names
    with h5py.File(path) as store:
        names = set()
        for group in store.values():
            group.visititems(lambda name, item: names.add(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def _has_values(path):
    """Whether a record of the file is ok: others may lack their values."""
    table = pyarrow.parquet.read_table(path)
    return len(table) > 0 and ("status" not in table.column_names or "ok" in table["status"].to_pylist())


def _stated(name, stated):
    patterns = (key.rstrip("?") for key in stated)
    return any(name == key or (key.endswith("*") and name.startswith(key[:-1])) for key in patterns)


def test_the_page_is_in_step_with_the_schemas():
    assert (ROOT / PAGE).read_text() == page(), "run python -m phonoscreen.workflow.contracts"


def test_every_rule_that_writes_products_is_in_the_contracts():
    stated = {product.rule for product in products()}
    for path in (ROOT / "rules").glob("*.smk"):
        for rule, body in re.findall(RULE, path.read_text()):
            if path.name not in ON_REQUEST and "script:" in body and not rule.startswith("tabulate_"):
                assert rule in stated, f"{rule} of {path.name} is missing in schemas/products.yaml"
                stated.discard(rule)
    assert not stated, f"no rule makes {stated}"


def test_every_product_is_an_output_of_its_rule():
    rules = dict(found for path in (ROOT / "rules").glob("*.smk") for found in re.findall(RULE, path.read_text()))
    for product in products():
        path = re.sub(r"\{\w+\}", "*", f"results/{product.path}")
        body = rules[product.rule]
        outputs = [re.sub(r"\{+\w+\}+", "*", text) for text in re.findall(r'"(results/[^"]+)"', body)]
        assert path in outputs, f"{product.path} is no output of {product.rule}"


def test_every_column_has_a_meaning():
    for product in products():
        for name, text in {**product.columns, **{name: about[2] for name, about in product.arrays.items()}}.items():
            assert text and text[-1] != ".", f"{product.path}: {name}"
    for name, schema in tables().items():
        assert all(column["description"] for column in schema["items"]["properties"].values()), name


@pytest.fixture
def drawn(tmp_path):
    return write_small_study(tmp_path)


def test_a_departure_is_seen(drawn):
    texts = "\n".join(departures(drawn))
    assert "7net-0 is not in the contract" not in texts  # what is only described in words is not compared
    assert "predicted/0000.h5: committee_forces is missing" in texts
