"""The structures that stand out: ranking, committee verdict, what drops out, and intervals."""

import numpy
import pandas
import pytest

from phonoscreen.analysis.document import Document
from phonoscreen.analysis.metrics import bootstrap_interval, parity
from phonoscreen.analysis.ranking import add_found


def test_bootstrap_interval_holds_the_measure_and_shrinks_with_the_number_of_structures():
    rng, widths = numpy.random.default_rng(1), []
    for n in (20, 500):
        reference = rng.normal(size=n)
        predicted = reference + 0.4 * rng.normal(size=n)
        low, high = bootstrap_interval(reference, predicted, lambda *of: parity(*of).r2)
        assert low < parity(reference, predicted).r2 < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]
    exact = bootstrap_interval(reference, reference, lambda *of: parity(*of).r2)
    assert exact == (1.0, 1.0)
    assert numpy.isnan(bootstrap_interval([1, 2, 3], [1, 2, 3], lambda *of: parity(*of).r2)).all()


def study():
    """Tables of twelve structures, s01 unstable by prediction only and s02 by reference only."""
    ids = [f"s{n:02d}" for n in range(12)]
    kappa = numpy.arange(12.0, 0, -1)
    rows = []
    for source, factor in (("reference", 1.0), ("predicted", 1.1)):
        lost = "s02" if source == "reference" else "s01"
        status = ["unstable" if name == lost else "ok" for name in ids]
        rows.append(pandas.DataFrame({
            "structure_id": ids, "formula": "NaCl", "space_group_number": 225, "prototype": "225-AB",
            "part": "training", "trained": [n % 2 == 0 for n in range(12)], "source": source, "status": status,
            "temperature_k": 300.0,
            "kappa_p_w_per_m_k": numpy.where(numpy.array(status) == "ok", factor * kappa, numpy.nan),
            "kappa_c_w_per_m_k": 0.1, "kappa_p_rta_std_decades": 0.1, "members_solved": 4.0, "members_unstable": 1.0,
            "members_failed": 0.0,
        }))  # fmt: skip
    transport = pandas.concat(rows, ignore_index=True)
    phonons = pandas.DataFrame({"structure_id": ids})
    for source, own in transport.groupby("source"):
        phonons[f"status_{source}"] = own["status"].to_numpy()
    return {"transport": transport, "phonons": phonons}


def test_the_summary_begins_with_the_lowest_conductivities_and_counts_what_drops_out():
    page = Document("study")
    add_found(page, study())
    text = page.markdown(".")
    table = [line for line in text.splitlines() if line.startswith(("| s0", "| s1"))]
    assert table[0].split(" | ")[:2] == ["| s11", "NaCl"] and "1.1 (×/÷ 1.3)" in table[0]
    assert "4 of 5 solved, 1 unstable" in table[0] and len(table) == 11
    assert "reference forces only, and in no comparison of conductivities: 1 of 12 structures (s01)" in text
    assert "predicted forces only, and in no comparison of conductivities: 1 of 12 structures (s02)" in text
    agreement = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith(("| never", "| trained"))}
    assert "| 5 |" in agreement["| never seen"] and "| 5 |" in agreement["| trained on"]


def test_a_conductivity_that_most_of_the_committee_cannot_confirm_is_named_and_not_ranked():
    tables = study()
    lowest = (tables["transport"]["structure_id"] == "s11") & (tables["transport"]["source"] == "predicted")
    tables["transport"].loc[lowest, ["members_solved", "members_unstable"]] = [2.0, 3.0]
    page = Document("study")
    add_found(page, tables)
    text = page.markdown(".")
    assert "no majority of the committee could be solved: 1 of 11 structures (s11)" in text
    assert not any(line.startswith("| s11") for line in text.splitlines())


def test_a_study_that_found_nothing_says_so():
    tables = study()
    tables["transport"] = tables["transport"][tables["transport"]["source"] == "reference"]
    page = Document("study")
    add_found(page, tables)
    assert "No structure has a conductivity from predicted forces." in page.markdown(".")


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_structures_have_no_interval(n):
    values = numpy.arange(1.0, n + 1)
    assert numpy.isnan(bootstrap_interval(values, values, lambda *of: parity(*of).r2)).all()
