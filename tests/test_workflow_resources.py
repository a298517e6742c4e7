"""What the jobs ask a scheduler for: every rule, from the size of its shard, the settings and the attempt."""

import copy
import re
from types import SimpleNamespace

import pytest

from phonoscreen.workflow.resources import COSTS, INITIAL, PAPER, SNAKEMAKE_MB, Needs
from phonoscreen.workflow.settings.check import check_settings
from tests.test_workflow_plan import rules

SHARD = SimpleNamespace(shard="0000")


def needs(folder=".", **changes):
    """Return the needs of a study of the default settings with some sections changed."""
    settings = copy.deepcopy(check_settings({}))
    for section, values in changes.items():
        if isinstance(values, dict):
            for key, value in values.items():
                section_of = settings[section]
                section_of[key] = {**section_of[key], **value} if isinstance(value, dict) else value
        else:
            settings[section] = values
    return Needs(settings, folder)


def write_shard(folder, shard, n_structures):
    path = folder / INITIAL / f"{shard}.extxyz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" structure_id=x\nCu 0 0 0\n' * n_structures)


@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_asks_for_threads_memory_and_time_and_for_a_gpu_if_it_can_use_one(name):
    body = rules()[name]
    assert name in COSTS
    for words in ("    threads: ", f'mem_mb=NEEDS.memory("{name}"),', f'runtime=NEEDS.runtime("{name}"),'):
        assert words in body, f"rule {name} lacks {words}"
    may_use_gpu = "device=" in body or "engine_environment(" in body
    assert not may_use_gpu or f'gpu=NEEDS.gpus("{name}"),' in body
    starts_mpi = "engine_environment(" in body or name == "solve_bte"
    assert not starts_mpi or f'tasks=NEEDS.tasks("{name}"),' in body
    reads_memory = "transport=transport_settings(" in body
    assert reads_memory == ("matrix_mb=NEEDS.matrix_mb()," in body)


def test_no_rule_has_a_cost_that_is_no_rule():
    assert set(COSTS) == set(rules())


@pytest.mark.parametrize("name", sorted(COSTS))
def test_a_second_attempt_asks_for_twice_as_much(name):
    study = needs()
    for function in (study.memory(name), study.runtime(name)):
        first, second = function(SHARD, attempt=1), function(SHARD, attempt=2)
        assert type(first) is type(second) is int and first > 0 and second == 2 * first


def test_a_shard_asks_by_its_structures_and_before_they_are_known_by_the_share_of_the_paper(tmp_path):
    study = needs(tmp_path)
    unknown = study.seconds("relax_structures", SHARD)
    cost, dft = COSTS["relax_structures"], needs(tmp_path, reference={"engine": "sevennet"})
    assert dft.seconds("relax_structures", SHARD) == pytest.approx(
        cost.seconds + cost.seconds_each * -(-PAPER // study._config["shards"])
    )
    write_shard(tmp_path, "0000", 7)
    assert dft.seconds("relax_structures", SHARD) == pytest.approx(cost.seconds + 7 * cost.seconds_each)
    assert study.seconds("relax_structures", SHARD) < unknown
    write_shard(tmp_path, "0000", 20)  # the file has changed: it is counted again
    assert dft.seconds("relax_structures", SHARD) == pytest.approx(cost.seconds + 20 * cost.seconds_each)


def test_gathering_rules_ask_by_the_whole_study(tmp_path):
    study = needs(tmp_path, shards=2)
    write_shard(tmp_path, "0000", 3000)
    write_shard(tmp_path, "0001", 1000)
    one, cost = study.memory("tabulate_transport")(SHARD, attempt=1), COSTS["tabulate_transport"]
    assert one == SNAKEMAKE_MB + -(-(cost.memory_mb + 4000 * cost.memory_mb_each) * 3 // 2)


def test_settings_reach_the_resources():
    gib = needs(transport={"memory_gib": 32}).memory("solve_bte")(SHARD, attempt=1)
    assert gib - needs(transport={"memory_gib": 4}).memory("solve_bte")(SHARD, attempt=1) == 28 * 1024
    four = needs(training={"processes": 4})
    assert four.memory("train_member")(SHARD, attempt=1) > needs().memory("train_member")(SHARD, attempt=1)
    assert four.seconds("train_member", SHARD) < needs().seconds("train_member", SHARD)
    assert needs(transport={"mesh_density_angstrom": 80}).seconds("solve_bte", SHARD) > 5 * needs().seconds(
        "solve_bte", SHARD
    )
    on_gpu = needs(force_model={"device": "cuda"}, training={"processes": 4})
    assert (on_gpu.gpus("train_member"), on_gpu.gpus("predict_forces"), needs().gpus("train_member")) == (4, 1, 0)
    assert on_gpu.gpus("label_forces") == 0  # VASP
    relaxed = needs(force_model={"device": "cuda"}, relax={"engine": "nequix"})
    assert (relaxed.gpus("relax_structures"), relaxed.gpus("label_forces")) == (1, 0)
    tasks = needs(reference={"vasp": {"tasks": 16}})
    assert (tasks.tasks("label_forces"), tasks.tasks("solve_bte")) == (16, 1)
    assert needs(transport={"solver": "shengbte", "tasks": 8}).tasks("solve_bte") == 8


def test_one_attempt_asks_for_a_day_at_most():
    assert needs().runtime("label_forces")(SHARD, attempt=1) == 24 * 60


def test_threads_follow_the_processes_of_a_training():
    assert re.search(r"threads: config\[\"training\"\]\[\"processes\"\]", rules()["train_member"])
