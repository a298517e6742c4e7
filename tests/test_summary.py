"""The summary beside the published numbers."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest
import yaml

from phonoscreen.analysis.dft_comparison import read_comparison
from phonoscreen.analysis.document import Document
from phonoscreen.analysis.headline import headline, headline_table
from phonoscreen.analysis.ledger import read_contradictions, read_numbers
from phonoscreen.analysis.wording import column_heading, number
from phonoscreen.audit.errors import StudyError
from phonoscreen.stages.screening_product import read_product
from tests.small_study import ROOT, draw_figure, summarise, tabulate, write_small_study
from tests.test_analysis_tables import check_schema

FIGURES = ["figure6", "figureS1"]
NUMBERS = ROOT / "resources/published/numbers.yaml"
SETTINGS = {"displacement_angstrom": 0.03, "threshold_mev_per_angstrom": 50, "reference": "universal potential X"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    results = write_small_study(tmp_path_factory.mktemp("summary"))
    tables = tabulate(results)
    for name in FIGURES:
        draw_figure(results, name)
    return tables, summarise(results, FIGURES)


def test_every_published_number_has_a_finding_and_no_finding_is_unpublished(written):
    assert set(headline(written[0], SETTINGS)) == {entry["key"] for entry in read_numbers(NUMBERS)}


def test_headline_table_keeps_its_schema(written):
    check_schema("headline", pandas.read_parquet(written[1]["headline"]))


def test_findings_agree_with_the_tables(written):
    tables, _ = written
    findings = headline(tables, SETTINGS)
    solved = tables["transport"].query("source == 'predicted' and part != 'training' and status == 'ok'")
    assert findings["n_kappa"].value == len(solved)
    assert findings["n_ultralow"].value == (solved["kappa_p_w_per_m_k"] < 1).sum()
    assert findings["filter_above"].value + findings["filter_below"].value == len(solved)
    assert findings["kappa_factor"].value == pytest.approx(10 ** findings["kappa_mae"].value)
    assert findings["speed"].value == pytest.approx(5)


def test_a_study_without_structures_attempts_nothing_that_needs_them(tmp_path):
    tables = tabulate(write_small_study(tmp_path, 1))
    findings = headline(tables, SETTINGS)
    for key in ("kappa_r2", "force_rmse_untrained", "filter_msd", "coherence_ratio_high"):
        assert findings[key].value is None and findings[key].basis, key
    table = headline_table(read_numbers(NUMBERS), findings)
    assert table.set_index("key").loc["kappa_r2"].isna()["this_study"]


def test_the_kept_screening_stands_beside_the_paper(written):
    rows, _ = read_product(ROOT / "resources/screening/screening.parquet")
    text = Path(written[1]["markdown"]).read_text()
    assert "## The screening of the pool" in text and f"| structures screened | {len(rows):,} | 77,091 |" in text
    stable = (rows["verdict"] == "stable").sum()
    assert f"{stable:,} of {len(rows):,}" in text and "36 of 67 (53.7 %)" in text


def test_markdown_names_the_reference_and_never_calls_it_dft(written):
    text = Path(written[1]["markdown"]).read_text()
    assert "universal potential SevenNet 7net-0" in text
    before, _, after = text.partition("## Against true DFT")
    section, _, rest = after.partition("\n## ")
    assert "Not of this study" in section and "GPAW" in section
    for line in (before + rest).splitlines():
        if "DFT" in line:
            assert "paper" in line, line
    for entry in read_numbers(NUMBERS):
        assert entry["quantity"] in text


def test_checks_are_shown_with_their_failures(written):
    text = Path(written[1]["markdown"]).read_text()
    assert "| 12.5 | 13.5 | +10.0 % |" in text and "not relaxed" in text
    assert "phono3py kappa p rta (W/m/K)" in text


def test_markdown_links_exist(written):
    folder = Path(written[1]["markdown"]).parent
    links = re.findall(r"\]\((.+?)\)", Path(written[1]["markdown"]).read_text())
    assert len(links) == len(FIGURES) and all((folder / link).is_file() for link in links)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.external = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes["src"])
        if tag in ("script", "link") or attributes.get("href", "").startswith("http"):
            self.external.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_complete_and_needs_no_other_file(written):
    page = Tags()
    page.feed(Path(written[1]["html"]).read_text())
    assert not page.open and not page.external
    assert len(page.images) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.images)


def test_summary_is_the_same_in_every_run(written):
    results = Path(written[1]["markdown"]).parent
    before = [Path(written[1][name]).read_bytes() for name in ("markdown", "html")]
    assert [Path(summarise(results, FIGURES)[name]).read_bytes() for name in ("markdown", "html")] == before


def test_text_of_tables_cannot_break_the_page():
    page = Document("a < b")
    page.table(["a|b"], [["<script>x|y</script>"]])
    assert "<script>" not in page.html() and "x\\|y" in page.markdown(".")


FOREIGN = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[here](http://evil.example)", "![x](y.png)",
    "`code`", "https://evil.example", "www.evil.example", "&lt;b&gt;", "one\n# heading", "<!-- hidden", "javascript:x",
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_text_is_shown_as_it_is_written(text):
    """HTML, links, pictures and code of an id or a reason are text, in Markdown and in HTML."""
    page = Document("page")
    page.table(["reason"], [[text]])
    row = page.markdown(".").splitlines()[-1]
    assert not re.search(r"<[a-zA-Z/!?]|(?<!\\)[`\[\]]|(https?|javascript):|www\.", row)
    assert html.unescape(re.sub(r"\\(.)", r"\1", row)) == f"| {re.sub(chr(10), ' ', text)} |"
    tags = Tags()
    tags.feed(page.html())
    assert not tags.open and not tags.external and not tags.images


def test_numbers_are_written_for_readers():
    assert [number(value) for value in (27059, 0.076, 1234.56, None, float("nan"), 100.0)] == [
        "27,059", "0.076", "1,235", "—", "—", "100",
    ]  # fmt: skip
    assert column_heading("kappa_p_rta_w_per_m_k") == "kappa p rta (W/m/K)"


def test_ledger_refuses_a_number_given_twice(tmp_path):
    entries = read_numbers(NUMBERS)
    path = tmp_path / "numbers.yaml"
    path.write_text(yaml.safe_dump([entries[0], entries[0]]))
    with pytest.raises(StudyError, match="twice"):
        read_numbers(path)


def test_published_contradictions_are_arithmetic():
    known = {entry["key"]: entry["value"] for entry in read_numbers(NUMBERS)}
    assert known["filter_above"] + known["filter_below"] == known["n_kappa"] + 1
    assert known["filter_above_ultralow"] + known["filter_below_ultralow"] == known["n_ultralow"] + 2
    assert 10 ** known["kappa_mae"] == pytest.approx(known["kappa_factor"], rel=1e-3)
    assert len(read_contradictions(ROOT / "resources/published/contradictions.yaml")) == 9


def test_the_summary_begins_with_what_is_out_of_date(tmp_path, written):
    from phonoscreen.analysis.summary import summarise as page_of

    tables, published = dict(written[0]), ROOT / "resources/published"
    tables["headline"] = pandas.read_parquet(written[1]["headline"])
    tables["filter_records"] = pandas.read_parquet(
        Path(written[1]["markdown"]).parent / "structures/filter_records.parquet"
    )
    checks = dict.fromkeys(("supercell_size", "transport", "force_constants"))
    contradictions = read_contradictions(published / "contradictions.yaml")
    dft = read_comparison(ROOT / "resources/dft_comparison.yaml")
    for sentence in ("Out of date below this: labels (code).", ""):
        page = page_of(
            tables, checks, contradictions, [], reference="X", bonding_engine="Y", dft=dft, outdated=sentence
        )
        text = page.markdown(tmp_path)
        assert ("--forcerun" in text or "start of every run" in text) == bool(sentence)
        assert text.index("Out of date") < text.index("Reference of this study") if sentence else True
