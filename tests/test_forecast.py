"""The forecast of a study: what it counts follows from the paper, the settings and what was measured."""

import copy
import json
import math
from pathlib import Path

import pytest
import yaml

from phonoscreen.__main__ import main
from phonoscreen.audit.records import write_records
from phonoscreen.audit.sealed import write_sealed
from phonoscreen.audit.work import name_of
from phonoscreen.workflow.forecast import describe, forecast
from phonoscreen.workflow.plan import PlannedJob
from phonoscreen.workflow.resources import (
    COSTS,
    DFT_CELL_SECONDS,
    DISPLACEMENTS_FOR_CHARGES,
    PAPER,
    STEPS_OF_RELAXATION,
    Needs,
)
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.shards import jobs_per_shard
from tests.conftest import ROOT


class Names(dict):
    """Wildcards as Snakemake gives them: attributes and items."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


SHARDS = [Names(shard=f"{number:04d}") for number in range(40)]


def jobs(rule, wildcards, *, done=0, outputs=()):
    """Return planned jobs of a rule, the first ``done`` of them finished."""
    return [
        PlannedJob(rule, one, 1, outputs, f"benchmarks/{rule}/{number}.tsv",
                   () if number < done else ("output files have to be generated",))
        for number, one in enumerate(wildcards)
    ]  # fmt: skip


def write_benchmark(folder, rule, number, seconds, megabytes=700):
    path = folder / f"benchmarks/{rule}/{number}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:0:1\t{megabytes}\n")


def test_relaxing_the_study_of_the_paper_with_vasp_takes_some_407_thousand_runs(tmp_path):
    """Every structure of Table 1 times the steps that 55 relaxations took on average."""
    published = yaml.safe_load((ROOT / "resources/published/table1.yaml").read_text())
    calculated, _, unexplored, _ = published["total"]
    (stage,) = forecast(check_settings({}), jobs("relax_structures", SHARDS), tmp_path)
    assert stage.calculations == pytest.approx((calculated + unexplored) * STEPS_OF_RELAXATION)
    assert 406_500 < stage.calculations < 407_500 and stage.to_run == stage.jobs == 40
    text = describe(check_settings({}), [stage], tmp_path)
    assert "80,273 structures" in text and "407,203" in text and "vasp runs" in text and "estimates" in text


def test_a_universal_potential_that_exists_already_or_outputs_start_no_calculation(tmp_path):
    settings = copy.deepcopy(check_settings({}))
    settings["reference"]["engine"] = "collected"
    (stage,) = forecast(settings, jobs("label_forces", SHARDS), tmp_path)
    assert stage.calculations == 0


def test_what_was_measured_corrects_what_is_left(tmp_path):
    settings, rule = check_settings({}), "fit_force_constants"
    waiting = [Names(shard=one.shard, source="predicted") for one in SHARDS]
    (before,) = forecast(settings, jobs(rule, waiting), tmp_path)
    expected = Needs(settings, tmp_path).seconds(rule, waiting[0])
    for number in range(2):
        write_benchmark(tmp_path, rule, number, 3 * expected, 900)
    (after,) = forecast(settings, jobs(rule, waiting, done=2), tmp_path)
    assert after.done == 2 and after.to_run == 38 and after.used_memory_gb == pytest.approx(0.9)
    assert after.used_core_hours == pytest.approx(3 * after.expected_core_hours)
    assert after.core_hours == pytest.approx(3 * before.core_hours * 38 / 40, rel=1e-3)
    text = describe(settings, [after], tmp_path)
    assert "Done, expected and used" in text and "Why:" in text and "output files have to be generated" in text


def write_settings(folder, rule, wildcards, settings, made_with=None):
    """Write the provenance of a job with the settings that it had."""
    path = folder / f"results/provenance/{rule}/{name_of(wildcards)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "made_with": made_with}))


@pytest.mark.parametrize("mesh, least", [(40.0, 1), (20.0, 50)])
def test_a_change_costs_what_its_jobs_used_before_scaled_from_the_settings_of_then(tmp_path, mesh, least):
    """Another temperature runs the same jobs again; a mesh twice as dense has 64 times the pairs of wave vectors."""
    settings, rule = check_settings({"transport": {"mesh_density_angstrom": 40, "temperature_k": 600}}), "solve_bte"
    waiting = [Names(shard=one.shard, source="predicted") for one in SHARDS]
    for number, one in enumerate(waiting):
        write_benchmark(tmp_path, rule, number, 7200)
        then = {"transport": {"mesh_density_angstrom": mesh, "temperature_k": 300, "imaginary_threshold_thz": 0.1}}
        write_settings(tmp_path, rule, one, then)
    (stage,) = forecast(settings, jobs(rule, waiting), tmp_path)
    before = Needs(check_settings({"transport": {"mesh_density_angstrom": mesh}}), tmp_path)
    factor = Needs(settings, tmp_path).seconds(rule, waiting[0]) / before.seconds(rule, waiting[0])
    assert stage.to_run == 40 and stage.done == 0 and least <= factor <= 64
    assert stage.core_hours == pytest.approx(40 * 2 * factor, rel=1e-2)
    line = next(line for line in describe(settings, [stage], tmp_path).splitlines() if "solve_bte" in line)
    assert float(line.split()[3].replace(",", "")) == pytest.approx(stage.core_hours, rel=6e-3), "what it prints"


def test_what_another_engine_needed_says_nothing_and_what_was_taken_along_counts_as_it_was(tmp_path):
    settings, one = check_settings({}), Names(shard="0000")
    (before,) = forecast(settings, jobs("label_forces", [one]), tmp_path)
    write_benchmark(tmp_path, "label_forces", 0, 36)
    write_settings(tmp_path, "label_forces", one, {"reference": {"engine": "sevennet"}})
    (other,) = forecast(settings, jobs("label_forces", [one]), tmp_path)
    assert other.core_hours == before.core_hours
    kept = [{"settings": {}, "structures": 9, "seconds": 5e5}, {"settings": {}, "structures": 1, "seconds": 4e5}]
    write_settings(tmp_path, "label_forces", one, {"reference": {"engine": "vasp"}}, kept)
    (same,) = forecast(settings, jobs("label_forces", [one]), tmp_path)
    tasks = Needs(settings, tmp_path).tasks("label_forces")
    assert same.core_hours == pytest.approx(9e5 / 3600 * tasks), "36 s were for taking them along"


def test_born_charges_have_a_line_of_their_own_where_they_are_calculated(tmp_path):
    """Each crystal is worth thirty calculations of its cell; charges from files and of the labels cost none."""
    settings = {"reference": {"engine": "vasp"}, "charges": {"source": "calculated"}}
    (stage,) = forecast(check_settings(settings), jobs("calculate_charges", SHARDS), tmp_path)
    n = 40 * math.ceil(PAPER / 40)
    assert stage.calculations == pytest.approx(DISPLACEMENTS_FOR_CHARGES * PAPER, rel=40 / PAPER)
    assert stage.core_hours == pytest.approx(n * DISPLACEMENTS_FOR_CHARGES * DFT_CELL_SECONDS / 3600, rel=1e-2)
    assert "calculate_charges" in describe(check_settings(settings), [stage], tmp_path)
    (tmp_path / "my_charges").mkdir()
    from_files = {"charges": {"source": "files", "folder": str(tmp_path / "my_charges")}}
    (stage,) = forecast(check_settings(from_files), jobs("calculate_charges", SHARDS), tmp_path)
    assert stage.calculations == 0 and stage.core_hours < 200


def test_finished_jobs_say_how_many_calculations_there_were_and_how_large_the_products_are(tmp_path):
    path = tmp_path / "results/relaxed/0000.parquet"
    path.parent.mkdir(parents=True)
    base = {"stage": "relax_structures", "status": "ok", "reason": ""}
    rows = [{"structure_id": name, **base, "steps": steps} for name, steps in (("a", 3), ("b", 8))]
    failed = {**base, "status": "failed", "reason": "r", "structure_id": "c"}
    write_records([*rows, failed], path)
    write_benchmark(tmp_path, "relax_structures", 0, 60)
    (stage,) = forecast(
        check_settings({}),
        jobs("relax_structures", SHARDS[:1], done=1, outputs=("results/relaxed/0000.parquet",)), tmp_path,
    )  # fmt: skip
    assert stage.used_calculations == 11 and stage.to_run == 0
    assert stage.disk_gb == pytest.approx(2 * path.stat().st_size / 1e9), "relaxed structures are kept a second time"


def test_what_was_computed_before_is_taken_along_and_costs_nothing(tmp_path):
    settings, one = check_settings({}), SHARDS[:1]
    (before,) = forecast(settings, jobs("relax_structures", one), tmp_path)
    record = {"status": "ok"}
    entries = {str(n): {"record": record} for n in range(2000)} | {"bad": {"record": {"status": "failed"}}}
    write_sealed({"entries": entries}, tmp_path / "results/work/relax_structures/shard=0000/kept.json")
    (after,) = forecast(settings, jobs("relax_structures", one), tmp_path)
    assert after.calculations == pytest.approx(before.calculations * 7 / 2007)
    forced = PlannedJob("relax_structures", one[0], 1, (), None, ("forced",))
    (asked,) = forecast(settings, [forced], tmp_path)
    assert asked.calculations == before.calculations


def test_a_study_that_shares_its_calculations_has_at_most_three_hundred_jobs_for_them(tmp_path):
    """Whatever the settings ask for; shares add up to the calculations, and the forecast says what was made of it."""
    for asked, engine, given in (
        (16, "reference", 3),
        (1000, "published", 7),
        (2, "reference", 2),
        (1, "published", 1),
    ):
        settings = check_settings({"reference": {"jobs_per_shard": asked}, "relax": {"engine": engine}})
        assert jobs_per_shard(settings) == given
        shares = [Names(shard=one.shard, batch=str(number)) for one in SHARDS for number in range(given)]
        (stage,) = forecast(settings, jobs("calculate_supercells", shares), tmp_path)
        assert stage.calculations == pytest.approx(
            3582 * (1 + Needs(settings, tmp_path).supercells("reference")), rel=0.02
        )
        text = describe(settings, [stage], tmp_path)
        assert (f"{given} jobs share a shard" in text) == (given < asked)
        assert f"calculate_supercells ({stage.longest_h:.0f} h)" in text  # one task needs days for each job
    assert jobs_per_shard(check_settings({"shards": 9999, "reference": {"jobs_per_shard": 16}})) == 1


@pytest.mark.parametrize("text", ["", "s\th:m:s\n", "s\tmax_rss\nNA\tNA\n", "junk"])
def test_a_benchmark_file_that_cannot_be_read_counts_as_none(tmp_path, text):
    path = tmp_path / "benchmarks/check_stability/0.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (stage,) = forecast(check_settings({}), jobs("check_stability", SHARDS[:1], done=1), tmp_path)
    assert stage.done == 0


def test_gpu_hours_are_counted_where_gpus_are_asked_for(tmp_path):
    settings = copy.deepcopy(check_settings({}))
    members = [Names(round="0", member="0")]
    (without,) = forecast(settings, jobs("train_member", members), tmp_path)
    settings["force_model"]["device"] = "cuda"
    (with_gpu,) = forecast(settings, jobs("train_member", members), tmp_path)
    assert without.gpu_hours == 0 and with_gpu.gpu_hours == pytest.approx(with_gpu.core_hours) and COSTS


def test_the_command_plans_a_study_and_refuses_what_snakemake_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["-s", str(ROOT / "Snakefile"), "--cores", "1"]
    pool = ["--config", f"source={{kind: pool, path: {ROOT / 'resources/pool.csv'}}}", "shards=2"]
    assert main(["forecast", *arguments, *pool, "--", "transport"]) == 0
    text = capsys.readouterr().out
    n_compounds = len((ROOT / "resources/pool.csv").read_text().splitlines()) - 1
    assert f"{n_compounds} structures" in text and "solve_bte" in text and not Path("results").exists()
    assert main(["forecast", *arguments, "--config", "shards=none"]) == 2
    assert "shards" in capsys.readouterr().err
