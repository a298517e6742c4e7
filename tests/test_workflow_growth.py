"""What a finished study does again: for added structures, another temperature, another model, another round."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phonoscreen.audit import provenance
from phonoscreen.workflow.forecast import describe, forecast
from phonoscreen.workflow.plan import plan_study
from tests.benchmarks.scale import finish
from tests.conftest import ROOT

POOL = (ROOT / "resources/pool.csv").read_text().splitlines(keepends=True)
TRIGGERS = ["--rerun-triggers", "mtime", "params", "input", "--max-checksum-file-size", "1GB"]
OPTIONS = ["-s", str(ROOT / "Snakefile"), "--cores", "1", *TRIGGERS]
SETTINGS = ["reference={engine: sevennet}", "source={kind: pool, path: pool.csv}", "filter={training_structures: 6}"]
EVERY_SHARD = {"relax_structures", "build_symmetry_bases", "displace_supercells", "label_forces", "check_labels",
               "predict_forces", "fit_force_constants", "check_stability", "solve_bte", "analyse_bonding"}  # fmt: skip
MODEL = {"assemble_dataset", "train_member", "query_committee", "select_supercells", "label_selected", "check_selected",
         "validate_round", "publish_model", "evaluate_baselines"}  # fmt: skip


def options(shards=2, *more, target="all"):
    return [*OPTIONS, "--config", *SETTINGS, f"shards={shards}", *more, "--", target]


def snakemake(*words):
    done = subprocess.run([sys.executable, "-m", "snakemake", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of twelve compounds in two shards: the manifest is real, all other products are small files."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("packages", "outside_environment"):
            patch.setattr(provenance, name, getattr(provenance, name))  # put back what finish replaces
        (folder / "pool.csv").write_text("".join(POOL[:13]))
        snakemake(*options(target="manifest"))
        finish(folder, options())
        shutil.rmtree("results/provenance")  # it holds no settings, which the launcher would refuse
        snakemake("--touch", "--forceall", *options())
        yield folder


def to_run(*words):
    """Return the shards (or numbers of jobs) that each rule runs, and the forecast as a text."""
    config, jobs = plan_study(words)
    found = {}
    for job in jobs:
        if job.reasons:
            found.setdefault(job.rule, []).append(getattr(job.wildcards, "shard", None))
    return found, describe(config, forecast(config, jobs))


def test_a_finished_study_has_nothing_to_do(finished):
    assert "nothing" in to_run(*options())[1]


def test_another_temperature_runs_transport_and_what_follows(finished):
    found, text = to_run(*options(2, "transport={temperature_k: 600}"))
    assert {"solve_bte", "analyse_bonding", "tabulate_transport", "write_summary"} <= set(found)
    assert not set(found) & (EVERY_SHARD - {"solve_bte", "analyse_bonding"} | MODEL)
    assert "\n  solve_bte: " in text.partition("Why:")[2]


def test_another_model_trains_again_when_it_is_asked_for_and_labels_stay(finished):
    found, text = to_run("--forcerun", "train_member", *options(2, "training={epochs: 7}"))
    assert {"train_member", "query_committee", "predict_forces", "solve_bte"} <= set(found)
    assert not set(found) & {"relax_structures", "build_symmetry_bases", "displace_supercells", "label_forces"}
    assert "train_member: forced" in text


def test_a_new_round_runs_that_round_and_what_the_published_model_decides(finished):
    found, _ = to_run(*options(2, "active_learning={rounds_max: 8}"))
    assert len(found["query_committee"]) == 2 and len(found["train_member"]) == 5, "one round, two shards, five members"
    assert {"publish_model", "predict_forces", "solve_bte"} <= set(found)
    assert not set(found) & {"relax_structures", "build_symmetry_bases", "displace_supercells", "label_forces"}


@pytest.mark.parametrize(
    "change, rule",
    [
        (["transport={temperature_k: 600}"], "solve_bte"),
        (["training={epochs: 7}"], "train_member"),
        (["active_learning={rounds_max: 8}"], "predict_forces"),
    ],
)
def test_a_change_is_listed_with_a_cost_that_follows_from_what_the_jobs_used_before(finished, change, rule):
    """Every benchmark file says two hours: what runs again costs two hours for each job."""
    forced = ["--forcerun", "train_member"] if rule == "train_member" else []
    config, jobs = plan_study([*forced, *options(2, *change)])
    again = [job for job in jobs if job.rule == rule and job.reasons]
    for job in jobs:
        if job.benchmark and job.rule == rule:
            Path(job.benchmark).parent.mkdir(parents=True, exist_ok=True)
            Path(job.benchmark).write_text("s\tmax_rss\n7200\t100\n")
    stages = {stage.rule: stage for stage in forecast(config, jobs)}
    line = next(line for line in describe(config, list(stages.values())).splitlines() if line.startswith(f"  {rule} "))
    assert len(again) >= 2 and stages[rule].core_hours == pytest.approx(2 * len(again), rel=1e-2)
    assert line.split()[1] == str(len(again)) and float(line.split()[3]) == pytest.approx(2 * len(again), rel=6e-3)


def test_an_added_structure_runs_in_its_new_shard_and_in_what_gathers_all_shards(finished):
    """About 1 % more structures are about 1 % more work; the last test of the module, for it changes the study."""
    before = {path: path.read_bytes() for path in (finished / "results/structures").glob("*/*")}
    (finished / "pool.csv").write_text("".join(POOL[:14]))
    grown = (3, "active_learning={shards: 2}")
    snakemake(*options(*grown, target="manifest"))
    assert all(path.read_bytes() == content for path, content in before.items())
    found, _ = to_run(*options(*grown))
    assert {rule: set(found[rule]) for rule in EVERY_SHARD} == {rule: {"0002"} for rule in EVERY_SHARD}
    assert not set(found) & MODEL
    rest = {rule for rule in found if rule not in EVERY_SHARD and rule != "all"}
    gathering = ("tabulate_", "draw_", "write_summary", "cross_check_", "check_supercells", "find_outdated")
    assert all(rule.startswith(gathering) for rule in rest), rest
