"""Errors of the published model against DFT on its card: those of the kept table, kept with the networks."""

import json
import shutil

import pandas
import pytest

from phonoscreen.stages.dft_judgement import DFT_FILE, HEADING, ROLES, dft_section, write_dft_section
from phonoscreen.stages.republishing import keep_judgement
from tests.conftest import ROOT

MODEL = ROOT / "resources/model"


@pytest.fixture
def table():
    return pandas.DataFrame(
        {
            "role": ["teacher_test", "teacher_test", "kappa_103"], "class": ["225-AB", "225-AB", "216-AB"],
            "force_rmse_relative": [0.1, 0.3, 0.2], "frequency_rmse_relative": [0.02, 0.5, 0.04],
            "stable_dft": [True, False, True], "stable_predicted": [True, False, False],
            "squares_by_element": [json.dumps(one) for one in (
                {"Na": [1e-4, 1e-2, 3], "Cl": [3e-4, 1e-2, 3]}, {"K": [1e-4, 1e-2, 3], "Cl": [1e-4, 1e-2, 3]},
                {"Si": [4e-4, 1e-2, 3]},
            )],
        }
    )  # fmt: skip


def test_the_section_counts_by_hand(table):
    lines = dft_section(table).splitlines()
    of_role = {role: next(line for line in lines if f"`{role}`" in line).split(" | ")[1:] for role in ROLES}
    assert of_role["teacher_test"] == ["2", "20.0 %", "2.0 % (2.0 %)", "2 |"], "frequencies of stable ones alone"
    assert of_role["kappa_103"] == ["1", "20.0 %", "4.0 % (4.0 %)", "0 |"]
    assert "| 225-AB | 2 | 7.1 | 0.12 |" in lines and "| 216-AB | 1 | 11.5 | 0.20 |" in lines
    assert "| Cl | 2 | 8.2 | 0.14 |" in lines and "| Si | 1 | 11.5 | 0.20 |" in lines


def test_the_card_has_the_section_once_and_nothing_else_changes(table, tmp_path):
    (tmp_path / "README.md").write_text("# Model\n\n## Errors\n\nsome\n\n## Limits\n\nsome\n")
    for _ in range(2):
        table.to_csv(tmp_path / DFT_FILE, index=False)
        write_dft_section(tmp_path)
        table = table.iloc[:2]
    text = (tmp_path / "README.md").read_text()
    assert text.count(HEADING) == 1 and "216-AB" not in text
    assert text.startswith("# Model\n\n## Errors\n\nsome\n\n" + HEADING) and text.endswith("|\n\n## Limits\n\nsome\n")


def test_the_published_card_is_that_of_its_table_and_of_roles_that_judge(tmp_path):
    table = pandas.read_csv(MODEL / DFT_FILE)
    assert set(table["role"]) == set(ROLES) and len(table) >= 70
    assert dft_section(table).strip() in (MODEL / "README.md").read_text()
    shutil.copytree(MODEL, tmp_path / "same")
    (tmp_path / "same" / DFT_FILE).unlink()
    keep_judgement(MODEL, tmp_path / "same")
    assert (tmp_path / "same" / DFT_FILE).read_bytes() == (MODEL / DFT_FILE).read_bytes()
    assert (tmp_path / "same/README.md").read_text() == (MODEL / "README.md").read_text()
