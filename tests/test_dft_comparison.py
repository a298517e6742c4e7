"""What the study on true DFT found: kept with its provenance, shown by other studies, and as the page says."""

from dataclasses import replace

import numpy
import pytest

from phonoscreen.analysis.dft_comparison import KNOWN, add_dft, read_comparison, write_comparison
from phonoscreen.analysis.document import Document
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.stages.label_product import read_product
from tests.conftest import ROOT

KEPT, LABELS = ROOT / "resources/dft_comparison.yaml", ROOT / "resources/labels/dft_labels.h5"


@pytest.fixture(scope="module")
def comparison():
    return read_comparison(KEPT)


def shown(comparison):
    page = Document("x")
    add_dft(page, comparison)
    return page.markdown(".")


def test_the_comparison_is_of_the_kept_labels(comparison):
    assert comparison.about["labels_sha256"] == file_sha256(LABELS), "run python -m phonoscreen.analysis.dft_gathering"
    labelled = {record["structure_id"]: arrays for record, arrays in read_product(LABELS)[1] if arrays}
    compounds = comparison.compounds.set_index("structure_id")
    assert set(compounds.index) == set(labelled)
    for structure_id, arrays in labelled.items():
        rms = 1e3 * numpy.sqrt((arrays["forces"] ** 2).mean())
        assert compounds.loc[structure_id, "force_rms_mev_per_angstrom"] == pytest.approx(rms, rel=1e-4)
        assert compounds.loc[structure_id, "n_components"] == arrays["forces"].size


def test_ten_compounds_of_six_classes_and_some_never_seen(comparison):
    compounds = comparison.compounds
    assert len(compounds) >= 10 and compounds["prototype"].nunique() >= 6
    counts = compounds["known"].value_counts()
    assert set(counts.index) == set(KNOWN) and counts["never seen"] >= 3 and counts["fine-tuned on"] >= 4
    # Fine-tuning serves what it was not given, and the paper's three orders of magnitude are there.
    unseen = compounds[compounds["known"] == "never seen"]
    weights = unseen["n_components"]
    tuned, before = (
        numpy.sqrt((unseen[f"{name}_mev_per_angstrom"] ** 2 * weights).sum() / weights.sum())
        for name in ("force_rmse", "force_rmse_published")
    )
    assert tuned < before
    assert (compounds["seconds_reference"] / compounds["seconds_predicted"]).median() > 1e3


def test_a_page_shows_what_is_known_and_calls_it_dft_by_its_name(comparison):
    text = shown(comparison)
    assert "GPAW" in text and all(f"| {name} |" in text for name in KNOWN)
    unseen = comparison.compounds[comparison.compounds["known"] == "never seen"]
    assert "| fine-tuned on |" not in shown(replace(comparison, compounds=unseen))


def test_the_page_on_dft_says_these_numbers(comparison):
    page = (ROOT / "docs/dft.md").read_text()
    networks = comparison.about["published_networks"][:16]
    assert networks in page and networks in shown(
        comparison
    )  # which model is meant, also when another one is published
    for line in shown(comparison).splitlines():
        if line.startswith(tuple(f"| {name}" for name in KNOWN)):
            assert line in page, "copy the lines of the summary's table to docs/dft.md"


def test_the_kept_file_is_read_as_it_was_written(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "kept.yaml")
    assert (tmp_path / "kept.yaml").read_text() == KEPT.read_text()
