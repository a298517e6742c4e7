"""The page of a screening and its confirmation, from tables drawn by hand."""

import numpy
import pandas
import pytest
from ase.calculators.emt import EMT

from phonoscreen.analysis.screening_page import by_class, coherences, elements, extremes, filters, page
from phonoscreen.audit.errors import StudyError
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.stages.confirmed import compare, compared_of, counts, sentences
from phonoscreen.stages.screening_confirmation import confirm, draw
from phonoscreen.stages.screening_product import read_product
from phonoscreen.workflow.settings.study import Study

SECTIONS = ("seed", "filter", "relax", "supercell", "force_constants", "stability", "transport")


@pytest.fixture
def table():
    """Forty structures, every fourth unstable; conductivity falls as the mean square displacement squared."""
    n = numpy.arange(40)
    msd = 10 ** numpy.linspace(-2, 0, 40)
    unstable = n % 4 == 3
    return pandas.DataFrame(
        {
            "structure_id": [f"s{i}" for i in n], "part": "unexplored", "formula": "NaCl", "class": "225-AB",
            "space_group_number": 225, "source": [f"NaCl:{'225-AB' if i % 2 else '221-AB3-ReO3'}" for i in n],
            "status": numpy.where(unstable, "unstable", "ok"), "verdict": numpy.where(unstable, "unstable", "stable"),
            "kappa_p_w_per_m_k": numpy.where(unstable, numpy.nan, (msd / 0.1) ** -2.0),
            "kappa_c_w_per_m_k": numpy.where(unstable, numpy.nan, 0.1), "kappa_p_error_decades": 0.1, "seconds": 1.0,
            "members_solved": 5.0,
            "msd_max_angstrom2": msd,
            "msd_by_element_angstrom2": [None if bad else f"Na {m:.4g} Cl 0.02" for m, bad in zip(msd, unstable)],
        }
    )  # fmt: skip


def test_classes_are_those_of_the_structure_types(table):
    found = by_class(table)
    assert list(found.index) == ["221-AB3", "225-AB"] and found["screened"].tolist() == [20, 20]
    assert found["stable"].tolist() == [20, 10] and (found["ultralow"] <= found["solved"]).all()


def test_a_conductivity_that_follows_the_displacement_is_filtered_without_error(table):
    msd, found = filters(table)["own"]
    assert msd == pytest.approx(0.1, rel=1e-6)
    assert (found.precision, found.recall) == (1.0, 1.0)


def test_extremes_are_what_most_members_solve_lowest_first(table):
    table.loc[38, "members_solved"] = 2.0
    found, doubted = extremes(table, 3)
    total = (found["kappa_p_w_per_m_k"] + found["kappa_c_w_per_m_k"]).tolist()
    assert doubted == 1 and total == sorted(total) and len(found) == 6
    assert found["structure_id"].tolist()[:2] == ["s37", "s36"] and found["structure_id"].iloc[-1] == "s0"
    everything, _ = extremes(table, 100)
    assert len(everything) == 29


def test_coherences_and_elements_by_hand(table):
    solved = table[table["status"] == "ok"]
    low = solved[solved["kappa_p_w_per_m_k"] < 1]
    number, ratio = coherences(table)["low"]
    assert number == len(low) and ratio == pytest.approx((0.1 / low["kappa_p_w_per_m_k"]).mean())
    found = elements(table)
    assert found.loc["Cl", "msd_angstrom2"] == pytest.approx(0.02) and found.loc["Na", "structures"] == len(solved)


def test_the_draw_has_as_many_of_both_kinds_and_none_that_was_trained_on(table):
    table.loc[0, "part"] = "training"
    drawn = draw(table, 5, 61)
    low = drawn["kappa_p_w_per_m_k"] < 1
    assert (low.sum(), (~low).sum()) == (5, 5) and "s0" not in set(drawn["structure_id"])
    assert list(draw(table, 3, 61)["structure_id"]) == list(drawn["structure_id"])[:6]
    with pytest.raises(StudyError, match="--each"):
        draw(table, 30, 61)


def test_confirmed_ones_are_counted(table, tmp_path):
    drawn = draw(table, 4, 61)
    kappa, status = drawn["kappa_p_w_per_m_k"] * 2, ["ok"] * 8
    low = [place for place in range(8) if kappa.iloc[place] < 2]
    kappa.iloc[low[0]], status[low[1]] = 1.5, "unstable"
    kappa.iloc[low[2]], kappa.iloc[low[3]] = 0.5, 0.5
    found = pandas.DataFrame({"structure_id": drawn["structure_id"], "kappa_p_w_per_m_k": kappa, "status": status})
    compared = compare(drawn, found.sample(frac=1, random_state=1))
    counted = counts(compared)
    assert (counted["low"], counted["low_confirmed"], counted["low_unstable"]) == (4, 2, 1)
    assert (counted["others"], counted["others_confirmed"], counted["others_unstable"]) == (4, 4, 0)
    compared.to_csv(tmp_path / "compared.csv", index=False)
    assert counts(compared_of(tmp_path / "compared.csv")) == counted
    assert sentences(counted)[0].startswith("2 of 4 structures predicted below 1 W/m/K are confirmed")
    text = page(
        table, {"pool_structures": 400, "forces": "a model", "networks": "ab" * 32, "calibration": {}}, compared
    )
    assert "uncalibrated" in text and "not those that `resources/model` holds" in text
    assert "2 of 4 (50.0 %)" in text and "36 of 67 (53.7 %)" in text and "not among them" in text


def test_an_engine_recomputes_what_was_drawn_with_the_settings_of_the_screening(tmp_path):
    settings = {name: section for name, section in Study().model_dump().items() if name in SECTIONS}
    settings["supercell"] |= {"min_length_angstrom": 7.0, "reference_min": 4, "reference_oversampling": 3}
    settings["transport"] |= {"mesh_density_angstrom": 12}
    drawn = pandas.DataFrame({"structure_id": ["cu3au"], "source": ["AuCu3:221-AB3"], "formula": ["AuCu3"]})
    engine = CalculatorEngine("ase", "emt", EMT())
    found = confirm(drawn, engine, tmp_path / "out", settings, "code")
    assert found.loc[0, "status"] == "ok" and found.loc[0, "kappa_p_w_per_m_k"] > 0
    assert found.loc[0, "class"] == "221-AB3" and (tmp_path / "out/screen.csv").is_file()


def test_the_table_of_the_command_screen_is_refused_with_the_way_to_confirm_it(tmp_path):
    pandas.DataFrame({"structure_id": ["nacl"], "source": ["NaCl.cif"]}).to_parquet(tmp_path / "screen.parquet")
    with pytest.raises(StudyError, match="a table of phonoscreen screen") as refused:
        read_product(tmp_path / "screen.parquet")
    assert "--potential" in refused.value.fix
