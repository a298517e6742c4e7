"""Tables, figures and page of the experiment from atoms and phonons drawn by hand."""

from types import SimpleNamespace

import numpy
import pandas
import pytest

from phonoscreen.experiment import measures as experiment
from phonoscreen.experiment.figures import DRAWINGS
from phonoscreen.experiment.report import report
from phonoscreen.figures.style import save

SIZES = ((10, 2), (20, 2), (40, 1))
COMPOUNDS = {"NaCl": "225-AB", "KBr": "225-AB", "ZnS": "216-AB", "GaAs": "216-AB", "CsCl": "221-AB", "TlBr": "221-AB",
             "NaF": "225-AB"}  # fmt: skip


def atoms_of(model, size, repeat, scale):
    """Errors of two compounds' worth of atoms for every compound: known ones half as large as unseen ones."""
    rng, pieces = numpy.random.default_rng(size + repeat), []
    for number, structure_id in enumerate(COMPOUNDS):
        for name, factor in (("known", 0.5), ("unseen", 1.0)):
            error = factor * scale * size**-0.5 * (1 + number) * rng.uniform(0.9, 1.1, 8)
            table = pandas.DataFrame({"error_mev_per_angstrom": error, "number": 11})
            table["error_single_member_mev_per_angstrom"] = 1.1 * error
            table["force_mev_per_angstrom"] = 50.0
            table["epsilon_mev_per_angstrom"] = error / 3 if size == 40 else numpy.nan
            pieces.append(table.assign(structure_id=structure_id, set=name, supercell_index=0))
    return pandas.concat(pieces).assign(model=model, size=size, repeat=repeat)


@pytest.fixture(scope="module")
def atoms():
    models = (("elemental_sdnnff", 300.0), ("equivariant", 100.0))
    return pandas.concat([atoms_of(m, s, r, scale) for m, scale in models for s, n in SIZES for r in range(n)])


@pytest.fixture(scope="module")
def phonons():
    rows = []
    for model, factor in (("elemental_sdnnff", 2.0), ("equivariant", 1.25)):
        for size, members in ((10, 1), (20, 1), (40, 1), (40, 5)):
            for number, structure_id in enumerate(COMPOUNDS):
                for name in ("known", "unseen"):
                    stable, claimed = number != 0, number not in (0, 5)
                    row = {"model": model, "size": size, "members": members, "set": name, "structure_id": structure_id}
                    row |= {"space_group_number": 225, "prototype": COMPOUNDS[structure_id]}
                    row |= {"status_reference": "ok" if stable else "unstable"}
                    row |= {"status_predicted": "ok" if claimed else "unstable"}
                    row |= {"frequency_rmse_relative": 0.1 * factor / size**0.5 * (1 + 0.1 * number)}
                    for column, value in (("kappa_p_w_per_m_k", 0.5), ("kappa_c_w_per_m_k", 0.2)):
                        row[f"{column}_reference"] = value * (1 + number) if stable else numpy.nan
                        row[f"{column}_predicted"] = factor * value * (1 + number) if claimed else numpy.nan
                    row |= {"msd_max_angstrom2_reference": 0.02, "msd_max_angstrom2_predicted": 0.025}
                    rows.append(row)
    return pandas.DataFrame(rows)


@pytest.fixture(scope="module")
def tables(atoms, phonons):
    manifest = pandas.DataFrame({"structure_id": list(COMPOUNDS), "prototype": list(COMPOUNDS.values())})
    baselines = pandas.DataFrame(
        {"structure_id": ["NaCl", "KBr"], "model": "chgnet", "n_components": [300, 100],
         "force_rmse_mev_per_angstrom": [3.0, 1.0], "force_rms_mev_per_angstrom": [10.0, 10.0],
         "force_rmse_relative": [0.3, 0.1]}
    )  # fmt: skip
    replays = [
        {"strategy": strategy, "repeat": repeat, "n_compounds": n, "n_structures": 7, "round": n // 10,
         "force_rmse_mev_per_angstrom": 50 / n + shift + repeat, "force_rmse_relative_median": 0.3}
        for strategy, shift in (("worst_supercell", -1.0), ("diverse", 0.5), ("random", 0.0))
        for repeat in range(2)
        for n in (10, 20)
    ]  # fmt: skip
    return experiment.all_tables(manifest, atoms, baselines, phonons, [pandas.DataFrame(replays)], 1)


def test_potentials_stand_in_the_table_of_the_points_with_their_pooled_errors(tables):
    row = tables["forces"].query("model == 'chgnet'").iloc[0]
    assert row["force_rmse_mev_per_angstrom"] == pytest.approx(numpy.sqrt((9 * 300 + 1 * 100) / 400))
    assert row["set"] == "unseen" and pandas.isna(row["size"]) and row["n_structures"] == 2
    known, unseen = (tables["forces"].query(f"set == '{name}'") for name in ("known", "unseen"))
    points = unseen[unseen["size"].notna()]
    ratio = known["force_rmse_mev_per_angstrom"].to_numpy() / points["force_rmse_mev_per_angstrom"].to_numpy()
    assert ratio == pytest.approx(0.5, abs=0.06)


def test_groups_are_of_the_largest_training_set_only(tables, atoms):
    assert set(tables["elements"]["element"]) == {"Na"} and set(tables["elements"]["size"]) == {40}
    largest = atoms[(atoms["size"] == 40) & (atoms["model"] == "equivariant") & (atoms["set"] == "unseen")]
    cell = tables["elements"].query("model == 'equivariant' and set == 'unseen'").iloc[0]
    expected = numpy.sqrt((largest["error_mev_per_angstrom"] ** 2).mean() / 3)
    assert cell["force_rmse_mev_per_angstrom"] == pytest.approx(expected)


def test_verdicts_and_conductivities_by_hand(tables):
    row = tables["properties"].query("model == 'elemental_sdnnff' and members == 5 and set == 'unseen'").iloc[0]
    assert (row["n_judged"], row["n_stable"], row["n_kappa"]) == (7, 6, 5)
    assert (row["stable_precision"], row["stable_recall"]) == (1, pytest.approx(5 / 6))
    assert (row["unstable_precision"], row["unstable_recall"]) == (pytest.approx(1 / 2), 1)
    assert row["log_kappa_mae"] == pytest.approx(numpy.log10(2)) and row["log_kappa_bias"] == pytest.approx(
        numpy.log10(2)
    )
    assert row["log_coherence_ratio_mae"] == pytest.approx(0, abs=1e-12)
    assert row["frequency_error_mean"] == pytest.approx(0.2 / 40**0.5 * 1.35)
    assert row["msd_max_mae_angstrom2"] == pytest.approx(0.005)


def test_promises_find_the_exponent_that_was_put_in(tables):
    promises = tables["promises"].set_index(["model", "quantity"])
    assert promises["exponent"].xs("frequency_error_mean", level="quantity").to_numpy() == pytest.approx(0.5)
    assert promises["exponent"].xs("force_rmse_relative", level="quantity").to_numpy() == pytest.approx(0.5, abs=0.1)
    assert promises.loc[("equivariant", "log_kappa_mae"), "n_compounds"] == 5
    assert (promises["promise_low"] <= promises["promise_high"]).all()


def test_calibration_of_each_committee_on_each_set(tables):
    assert len(tables["calibration"]) == 4
    assert tables["calibration"]["factor"].to_numpy() == pytest.approx(3)
    assert tables["calibration"]["error_over_recalibrated"].to_numpy() == pytest.approx(1)


@pytest.mark.parametrize("drawing", sorted(DRAWINGS))
def test_every_figure_is_drawn_and_names_the_reference(tables, tmp_path, drawing):
    figure, caption = DRAWINGS[drawing](tables, "universal potential X")
    output = SimpleNamespace(**{kind: str(tmp_path / f"f.{kind}") for kind in ("pdf", "png", "caption")})
    save(figure, caption, output)
    assert (tmp_path / "f.png").stat().st_size > 10_000 and "universal potential X" in caption


def test_the_page_puts_the_papers_numbers_beside_ours(tables):
    published = {"force_rmse_training": 18.6, "force_rmse_untrained": 29.3, "frequency_error": 1.88, "kappa_mae": 0.254,
                 "kappa_r2": 0.89, "coherence_ratio_low": 2.59, "msd_mae": 0.01163}  # fmt: skip
    page = report(tables, published, [], reference="universal potential X").markdown(".")
    assert "universal potential X" in page and "18.6 / 29.3" in page and "chgnet" in page
    line = next(line for line in page.splitlines() if line.startswith("| MAE of log10 κ_p"))
    assert "0.254" in line and "0.301" in line and "0.0969" in line
    gain = next(line for line in page.splitlines() if line.startswith("| 10 | worst_supercell"))
    assert "-1 ± 0" in gain
