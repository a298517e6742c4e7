"""What is there so far: any subset of shards, marked as such, and the numbers sum to the manifest."""

import pandas
import pytest

from phonoscreen.__main__ import main
from phonoscreen.commands.progress import STAGES, progress, records_so_far, shards_of
from tests.small_study import write_small_study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_small_study(tmp_path_factory.mktemp("study") / "results")


def rows(results):
    shards = shards_of(results)
    return progress({stage: records_so_far(results, stage, shards) for stage in STAGES}, shards).set_index("stage")


def test_statuses_and_what_waits_sum_to_the_manifest_for_every_stage(results):
    table, n = rows(results), len(pandas.read_parquet(results / "structures/manifest.parquet"))
    statuses = [name for name in table if name not in ("shards", "of_shards")]
    present = table["shards"] > 0
    assert present.sum() > 8
    complete = table[present & (table["shards"] == table["of_shards"])]
    assert (complete[statuses].sum(axis=1) == n).all() and (complete["waiting"] == 0).all()


def test_a_missing_shard_is_waited_for_and_the_tables_say_that_they_are_not_complete(results, tmp_path, capsys):
    before = rows(results).loc["transport/predicted"]
    path = results / "transport/predicted/0001.parquet"
    path.rename(tmp_path / "aside")
    try:
        after = rows(results).loc["transport/predicted"]
        assert (after["shards"], after["of_shards"]) == (1, 2)
        assert after["waiting"] == shards_of(results)["0001"] and after["ok"] < before["ok"]
        assert main(["progress", "--results", str(results), "--tables", str(tmp_path / "tables")]) == 1
        assert capsys.readouterr().out.startswith("SO FAR, NOT COMPLETE: 24 structures in 2 shards")
        table = pandas.read_csv(tmp_path / "tables/transport_predicted.so_far.csv")
        assert set(table["so_far"]) == {"1 of 2 shards"} and set(table["shard"]) == {0}
        assert "kappa_p_w_per_m_k" in table
    finally:
        (tmp_path / "aside").rename(path)


def test_without_a_manifest_it_says_what_to_name(tmp_path, capsys):
    assert main(["progress", "--results", str(tmp_path)]) == 2
    assert "--results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (FileNotFoundError(2, "No such file or directory", "nowhere/out"), 2, ["nowhere/out", "fix:"]),
        (PermissionError(13, "Permission denied", "locked"), 2, ["permission denied", "locked", "fix:"]),
    ],
)
def test_no_command_ends_with_a_traceback_for_a_file_or_an_interrupt(error, code, words, monkeypatch, capsys):
    def stop(_):
        raise error

    monkeypatch.setattr("phonoscreen.commands.progress.shards_of", stop)
    assert main(["progress"]) == code
    printed = capsys.readouterr().err
    assert all(word in printed for word in words), printed
