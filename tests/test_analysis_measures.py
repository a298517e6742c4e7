"""Laws of the error measures, the filter and the counts."""

import numpy
import pandas
import pytest

from phonoscreen.analysis.classes import OTHER, class_table, published_classes
from phonoscreen.analysis.compounds import figure7_structures
from phonoscreen.analysis.metrics import frequency_error, log_parity, parity
from phonoscreen.analysis.screening import Line, Scale, count_filter
from phonoscreen.analysis.statuses import status_counts
from phonoscreen.analysis.tables import evenly, member_of, round_of
from phonoscreen.audit.errors import StudyError
from phonoscreen.structures.formulas import composition
from tests.small_study import ROOT

TABLE1 = ROOT / "resources/published/table1.yaml"


@pytest.fixture
def values():
    return numpy.random.default_rng(7).uniform(0.1, 50, 200)


def test_perfect_agreement(values):
    result = parity(values, values)
    assert (result.n, result.r2, result.mae, result.rmse) == (200, 1.0, 0.0, 0.0)


def test_predicting_the_mean_has_no_determination(values):
    assert parity(values, numpy.full(200, values.mean())).r2 == pytest.approx(0, abs=1e-12)


def test_r2_is_that_of_scikit_learn(values):
    from sklearn.metrics import mean_absolute_error, r2_score

    predicted = values + numpy.random.default_rng(1).normal(0, 5, 200)
    assert parity(values, predicted).r2 == pytest.approx(r2_score(values, predicted), rel=1e-12)
    assert parity(values, predicted).mae == pytest.approx(mean_absolute_error(values, predicted), rel=1e-12)


def test_a_constant_factor_is_the_mean_factor_of_the_logarithm(values):
    assert 10 ** log_parity(values, 1.795 * values).mae == pytest.approx(1.795)
    assert 10 ** log_parity(values, values / 1.795).mae == pytest.approx(1.795)


def test_log_agreement_does_not_depend_on_the_unit(values):
    predicted = values[::-1]
    assert log_parity(1e3 * values, 1e3 * predicted).r2 == pytest.approx(log_parity(values, predicted).r2)


def test_equal_references_have_no_determination():
    assert numpy.isnan(parity(numpy.full(9, 1.7), numpy.linspace(1, 2, 9)).r2)


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(StudyError, match="not finite"):
        parity([1.0, 2.0], [1.0, bad])


def test_logarithm_of_zero_is_refused():
    with pytest.raises(StudyError, match="not positive"):
        log_parity([1.0, 0.0], [1.0, 1.0])


def test_no_pairs_give_no_number():
    assert parity([], []).n == 0 and numpy.isnan(parity([], []).mae)


def test_frequency_error_of_a_shift_is_the_shift():
    bands = numpy.linspace(0, 10, 120).reshape(20, 6)
    rmse, span, relative = frequency_error(bands, bands + 0.2)
    assert (rmse, span, relative) == (pytest.approx(0.2), pytest.approx(10), pytest.approx(0.02))


def test_frequency_error_ignores_the_order_of_bands():
    bands = numpy.random.default_rng(3).uniform(0, 9, (20, 6))
    assert frequency_error(bands, bands[:, ::-1])[0] == 0


def test_frequency_error_of_different_paths_is_refused():
    with pytest.raises(StudyError, match="shapes"):
        frequency_error(numpy.ones((5, 6)), numpy.ones((6, 6)))


def test_scale_is_zero_to_one_on_the_reference_and_inverts():
    msd = numpy.array([0.004, 0.02, 0.11])
    scale = Scale.of(msd)
    assert scale.normalise(msd)[[0, 2]].tolist() == [0, 1]
    assert scale.msd(scale.normalise(0.076)) == pytest.approx(0.076)


def test_line_recovers_a_power_law():
    x = numpy.linspace(0, 1, 30)
    line = Line.fit(x, 10 ** (1.5 - 2.8 * x))
    assert (line.slope, line.intercept) == (pytest.approx(-2.8), pytest.approx(1.5))
    assert line.kappa(line.crossing(1.795)) == pytest.approx(1.795)


def test_published_filter_lies_on_the_published_scale():
    """0.076 square angstrom is 0.464 for one scale only; two such points define it and it must be increasing."""
    scale = Scale(low=-3.0, high=(numpy.log10(0.076) + 3.0) / 0.464 - 3.0)
    assert scale.normalise(0.076) == pytest.approx(0.464) and scale.high > scale.low


def test_filter_counts_reproduce_published_precision_and_recall():
    x = numpy.repeat([0.9, 0.9, 0.1, 0.1], [8873, 9306 - 8873, 4590, 16596 - 4590])
    kappa = numpy.repeat([0.5, 2.0, 0.5, 2.0], [8873, 9306 - 8873, 4590, 16596 - 4590])
    counts = count_filter(x, kappa, 0.464)
    assert counts.above + counts.below == len(x)
    assert 100 * counts.precision == pytest.approx(95.4, abs=0.06)
    assert 100 * counts.recall == pytest.approx(66, abs=0.5)


def manifest_and_records():
    rng = numpy.random.default_rng(5)
    classes = published_classes(TABLE1).index.tolist()
    parts = rng.choice(["training", "unexplored"], 90)
    rows = [(f"s{n:03d}", *classes[rng.integers(len(classes))], part) for n, part in enumerate(parts)]
    manifest = pandas.DataFrame(rows, columns=["structure_id", "space_group_number", "formula_type", "part"])
    statuses = rng.choice(["ok", "unstable", "failed", "skipped"], (2, 90))
    records = [pandas.DataFrame({"structure_id": manifest["structure_id"], "status": row}) for row in statuses]
    return manifest, records


def test_published_table_adds_up():
    total = published_classes(TABLE1).sum()
    assert total.tolist() == [3182, 3107, 77091, 27059]
    assert len(published_classes(TABLE1)) == 16


def test_classes_sum_to_the_manifest():
    manifest, records = manifest_and_records()
    table = class_table(manifest, *records, TABLE1)
    assert table["n_structures"].sum() == len(manifest)
    assert table["n_unexplored"].sum() == (manifest["part"] != "training").sum()
    assert (table["n_reference_stable"] <= table["n_reference"]).all()
    training = manifest.merge(records[0]).query("part == 'training'")
    assert table["n_reference_stable"].sum() == (training["status"] == "ok").sum()


def test_classes_outside_the_paper_are_one_row():
    manifest, records = manifest_and_records()
    manifest.loc[0, ["space_group_number", "formula_type"]] = [229, "A"]
    table = class_table(manifest, *records, TABLE1).set_index(["space_group_number", "formula_type"])
    assert table.loc[OTHER, "n_structures"] == 1 and table.loc[OTHER, "paper_n_reference"] == 0


def test_a_lost_structure_is_an_error():
    records = pandas.DataFrame({"structure_id": ["a", "b"], "status": ["ok", "failed"]})
    assert status_counts({("stage", ""): records}, 2)["n_structures"].sum() == 2
    with pytest.raises(StudyError, match="2 records of 2 structures, 3 in the manifest"):
        status_counts({("stage", ""): records}, 3)


def test_composition_does_not_depend_on_the_order_of_elements():
    assert composition("KIrCs2Cl6") == composition("Cs2KIrCl6") == {"K": 1, "Ir": 1, "Cs": 2, "Cl": 6}
    assert composition("CO") != composition("Co")


def test_lowest_energy_arrangement_stands_for_a_compound():
    manifest = pandas.DataFrame({"structure_id": ["a", "b", "c"], "formula": ["NaKAs", "KNaAs", "NaKAs"]})
    manifest["space_group_number"] = [216, 216, 225]
    relaxed = pandas.DataFrame({"structure_id": ["a", "b", "c"], "energy_ev_per_atom": [-3.0, -3.2, -9.0]})
    relaxed["status"] = "ok"
    assert figure7_structures(manifest, relaxed) == {"NaKAs": "b"}


def test_rounds_and_members_are_read_from_the_path():
    assert round_of("results/rounds/3/members/4/history.parquet") == 3
    assert member_of("results/rounds/3/members/4/history.parquet") == 4
    with pytest.raises(StudyError):
        round_of("results/model/model.json")


@pytest.mark.parametrize(("n", "most"), [(0, 5), (3, 5), (100, 7), (7, 7)])
def test_even_sample_keeps_both_ends(n, most):
    chosen = evenly(n, most)
    assert len(chosen) == min(n, most)
    assert n == 0 or {0, n - 1} == {chosen[0], chosen[-1]}
