"""The screening of the enumerated pool: its order, its plan, and its table as a data product."""

import subprocess
import sys

import numpy
import pandas
import pytest
import yaml

from phonoscreen.analysis.screening_page import BLOCKS
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.audit.records import write_records
from phonoscreen.audit.shard import Outcome
from phonoscreen.commands.screen import SCREENING
from phonoscreen.forcefield.models.model_json import networks_digest, read_model_json, write_model_json
from phonoscreen.stages.republishing import to_run_again
from phonoscreen.stages.screening_order import order_pool
from phonoscreen.stages.screening_product import (
    KEPT,
    calibrate,
    gather,
    named_by_networks,
    read_product,
    rounded,
    write_origin,
    write_product,
)
from phonoscreen.stages.screening_table import SPREAD, row_of
from phonoscreen.workflow.settings.screening import ScreeningStudy
from tests.conftest import ROOT

CLASSES = {"225-AB": 60, "225-ABC2": 300, "221-AB3": 37, "221-AB3-ReO3": 3}


@pytest.fixture
def pool():
    rows = [(f"{kind}-{n}".lower(), "NaCl", kind) for kind, size in CLASSES.items() for n in range(size)]
    return pandas.DataFrame(rows, columns=["structure_id", "formula", "prototype"])


def test_every_block_has_the_classes_in_the_proportion_of_the_pool(pool):
    ordered = order_pool(pool, {"225-ab-3": "test"}, 8, 61)
    assert sorted(ordered["structure_id"]) == sorted(pool["structure_id"])
    assert ordered.set_index("structure_id").loc["225-ab-3", "part"] == "test"
    assert (ordered["part"] == "unexplored").sum() == len(pool) - 1
    for _, block in ordered.groupby("block"):
        found = block["prototype"].str.split("-").str[:2].str.join("-").value_counts()
        assert len(block) == 50
        for kind, expected in {"225-AB": 7.5, "225-ABC2": 37.5, "221-AB3": 5.0}.items():
            assert abs(found[kind] - expected) <= 2


def test_the_order_does_not_depend_on_that_of_the_pool(pool):
    shuffled = order_pool(pool.sample(frac=1, random_state=1), {}, 8, 61)
    pandas.testing.assert_frame_equal(shuffled, order_pool(pool, {}, 8, 61))
    chosen = ["221-ab3-7", "225-abc2-299"]
    assert set(chosen) <= set(order_pool(pool, {}, 8, 61, chosen)["structure_id"].head(20))


def blocks(tmp_path, digests=("a", "a")):
    """Two blocks of two structures each, and the pool they are of."""
    names = ["one", "two", "three", "four"]
    pandas.DataFrame({"structure_id": names}).to_parquet(tmp_path / "pool.parquet")
    for number, digest in enumerate(digests):
        records = []
        for name in names[2 * number : 2 * number + 2]:
            outcome = Outcome(status="ok") if name != "two" else Outcome(status="unstable", reason="imaginary\n  fix")
            values = {"structure_id": name, "formula": "NaCl", "kappa_p_w_per_m_k": 1.23456789, "n_supercell_atoms": 54}
            records.append({**row_of(values, outcome, {}), "stage": "screen_block", "part": "unexplored"})
        write_records(records, tmp_path / f"{number:04d}.parquet")
        write_origin(tmp_path / f"{number:04d}.json", {"networks": digest, "settings": {"seed": 1}}, "code")
    return [sorted(tmp_path.glob("0*.parquet")), sorted(tmp_path.glob("0*.json")), tmp_path / "pool.parquet"]


def test_the_command_and_the_profile_screen_with_the_same_settings():
    profile = yaml.safe_load((ROOT / "profiles/screening/study.yaml").read_text())
    assert {name: profile[name] for name in SCREENING} == SCREENING
    assert ScreeningStudy().screening.blocks == BLOCKS, "the page says so"
    assert set(profile) - set(SCREENING) == {"force_model"}, "a section of the profile that the command does not know"


def test_the_product_holds_every_row_once_with_its_origin(tmp_path):
    table, origin = gather(*blocks(tmp_path))
    write_product(table, origin, tmp_path / "product.parquet")
    found, known = read_product(tmp_path / "product.parquet")
    assert list(found["structure_id"]) == ["one", "two", "three", "four"]
    assert set(found) <= set(KEPT) and found.loc[1, "why"] == "imaginary"
    assert found["kappa_p_w_per_m_k"].to_numpy() == pytest.approx([1.235] * 4, rel=1e-6)
    assert (known["networks"], known["structures"], known["pool_structures"]) == ("a", 4, 4)


def test_blocks_of_two_models_are_not_mixed(tmp_path):
    with pytest.raises(StudyError, match="another networks"):
        gather(*blocks(tmp_path, ("a", "b")))


PUBLISHED = {
    "kind": "equivariant", "settings": {"channels": 4}, "members": ["m0", "m1"],
    "members_sha256": {"m0": "0" * 64, "m1": "1" * 64}, "calibration": {SPREAD: 2.5},
}  # fmt: skip


def test_what_names_the_networks_are_settings_and_weights_in_their_order():
    name = networks_digest(PUBLISHED)
    assert networks_digest({**PUBLISHED, "calibration": {}, "licence": "MIT", "code": "0"}) == name
    assert networks_digest({**PUBLISHED, "members_sha256": {"m0": "0" * 64, "m1": "2" * 64}}) != name
    assert networks_digest({**PUBLISHED, "settings": {"channels": 5}}) != name
    assert networks_digest({**PUBLISHED, "members": ["m1", "m0"]}) != name


def test_spreads_become_error_bars_where_the_networks_are_those_that_were_calibrated():
    table = pandas.DataFrame({SPREAD: [0.1, None]})
    found, origin = calibrate(table, {"networks": networks_digest(PUBLISHED)}, PUBLISHED)
    assert found["kappa_p_error_decades"].to_numpy() == pytest.approx([0.25, numpy.nan], nan_ok=True)
    assert origin["calibration"] == {SPREAD: 2.5}
    again, _ = calibrate(found, origin, {**PUBLISHED, "calibration": {SPREAD: 3.0}})  # a product, calibrated anew
    assert again["kappa_p_error_decades"][0] == pytest.approx(0.3)
    for other in ({**PUBLISHED, "settings": {}}, {**PUBLISHED, "calibration": {}}):
        left, known = calibrate(found, origin, other)
        assert left["kappa_p_error_decades"][0] == pytest.approx(0.1) and known["calibration"] == {}


def test_older_blocks_are_named_by_their_networks_with_the_model_that_screened(tmp_path):
    write_model_json(PUBLISHED, tmp_path / "model.json")
    older = {"forces_digest": file_sha256(tmp_path / "model.json"), "settings": {}}
    assert named_by_networks(older, tmp_path) == {"networks": networks_digest(PUBLISHED), "settings": {}}
    for folder in (None, tmp_path / "missing"):
        with pytest.raises(StudyError, match="--screened-with"):
            named_by_networks(older, folder)
    write_model_json({**PUBLISHED, "calibration": {}}, tmp_path / "model.json")
    with pytest.raises(StudyError, match="--screened-with"):
        named_by_networks(older, tmp_path)


def test_products_of_other_networks_than_the_published_ones_are_named_with_what_renews_them():
    """A product keeps the calibration of the networks that made it."""
    published = networks_digest(read_model_json(ROOT / "resources/model/model.json"))
    table, origin = read_product(ROOT / "resources/screening/screening.parquet")
    factor = origin["calibration"][SPREAD]
    both = table.dropna(subset=[SPREAD, "kappa_p_error_decades"])
    assert len(both) > 100
    assert (both["kappa_p_error_decades"] / both[SPREAD]).to_numpy() == pytest.approx(factor, rel=2e-3)
    lines = to_run_again(ROOT / "resources/model", ROOT / "resources/labels/teacher_labels.h5")
    compared = yaml.safe_load((ROOT / "resources/dft_comparison.yaml").read_text())["about"]["published_networks"]
    expected = [origin["networks"] != published, compared != published]
    assert [any(name in line for line in lines) for name in ("screening.parquet", "dft_comparison")] == expected
    assert len(lines) == sum(expected)  # the published networks are judged and calibrated
    page = (ROOT / "docs/screening.md").read_text()
    assert ("not those that `resources/model` holds now" in page) == expected[0]


def test_no_blocks_and_other_files_are_refused(tmp_path):
    blocks(tmp_path)
    with pytest.raises(StudyError, match="no block"):
        gather([], [], tmp_path / "pool.parquet")
    with pytest.raises(StudyError, match="no table of a screening"):
        read_product(tmp_path / "pool.parquet")


def test_numbers_keep_four_digits():
    values = numpy.array([1.23456, -98765.4, 0.0, numpy.nan, numpy.inf, 3.00004e-7])
    assert rounded(values) == pytest.approx([1.235, -98770.0, 0.0, numpy.nan, numpy.inf, 3e-7], nan_ok=True)


def test_the_screening_is_planned_block_by_block(tmp_path):
    command = [sys.executable, "-m", "snakemake", "--profile", "screening", "-n", "--quiet", "rules", "--directory"]
    command += [str(tmp_path), "--config", "screening={blocks: 40, first: 3}"]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    counted = dict(line.split() for line in plan.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert {name: counted[name] for name in ("order_pool", "screen_block", "gather_screening")} == {
        "order_pool": "1", "screen_block": "3", "gather_screening": "1",
    }  # fmt: skip
