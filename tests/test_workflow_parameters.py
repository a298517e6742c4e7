"""What runs again after a change of the settings: parameters hold only what decides a result."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Prints the parameters of every rule for each of some changes of the settings: those that run a rule again, and those
# of the expensive rules that are only said to have changed.
READER = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings
for change in json.loads(sys.argv[1]):
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        flow = api.workflow(
            resource_settings=ResourceSettings(cores=1), config_settings=ConfigSettings(config=change),
            snakefile=Path("Snakefile"),
        )
        rules = {}
        for rule in flow._workflow.rules:
            items = [(name, item) for name, item in rule.params._allitems() if name]
            watched = {name: item for name, item in items if not callable(item)}
            said = {name: item.unwatched for name, item in items if hasattr(item, "unwatched")}
            rules[rule.name] = [watched, said]
        print(json.dumps(rules, default=str, sort_keys=True))
"""
TRANSPORT = {"solve_bte", "check_supercells", "cross_check_transport", "converge_transport"}
CALCULATIONS = {"calculate_relaxations", "calculate_supercells", "list_calculations"}
FIGURES = {"draw_figure", "draw_convergence"}
# By change: the rules that run again by themselves, and the expensive rules whose products are then out of date.
CHANGES = {
    "transport.temperature_k=400": (TRANSPORT | FIGURES, set()),
    "transport.memory_gib=64": (set(), set()),
    "transport.tasks=8": (set(), set()),
    "transport.command=ShengBTE": (set(), set()),  # the solver is our own
    "force_model.device=cuda": (set(), set()),
    "force_model.committee=6": (set(), set()),
    "training.processes=4": (set(), set()),
    "training.pretrained='resources/model'": (set(), set()),
    "training.epochs=7": (set(), {"train_member"}),
    "reference.vasp.tasks=32": (set(), set()),
    "reference.vasp.cutoff_ev=600": (
        {"check_supercells"}, {"relax_structures", "label_forces", "label_selected", *CALCULATIONS}
    ),
    "reference.label=['training']": ({"label_forces", "calculate_supercells"}, set()),
    "relax.steps_max=7": ({"check_supercells"}, {"relax_structures", "calculate_relaxations"}),
    "source.snapshot=elsewhere": (set(), set()),
    "bonding.outputs=elsewhere": (set(), set()),
}  # fmt: skip


BEGINNING = {"equivariant": {"hidden": [128, 64], "element_hidden": 64}}
"""Force model of all of them: that of resources/model, else a training does not begin with it."""


def nested(change):
    """Return the settings of one change, ``section.name=value``."""
    name, _, text = change.partition("=")
    value = text if text.isalpha() or text == "ShengBTE" else json.loads(text.replace("'", '"'))
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


@pytest.fixture(scope="module")
def parameters():
    """Parameters by rule, of the default settings and after each change."""
    changes = [{}, *map(nested, CHANGES)]
    changes = [{**one, "force_model": {**BEGINNING, **one.get("force_model", {})}} for one in changes]
    done = subprocess.run([sys.executable, "-c", READER, json.dumps(changes)], cwd=ROOT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(changes), done.stderr[-3000:]
    return dict(zip(["default", *CHANGES], lines))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_runs_the_rules_again_whose_results_it_decides_and_no_others(parameters, change):
    before, after = parameters["default"], parameters[change]
    again = {rule for rule in before if before[rule][0] != after[rule][0]}
    outdated = {rule for rule in before if before[rule][1] != after[rule][1]}
    expected, expected_outdated = CHANGES[change]
    assert again - {"find_outdated"} == expected
    assert ("find_outdated" in again) == bool(expected_outdated)  # it says so in every figure
    ignored = {"collect_structures", "analyse_bonding"} if change.endswith("elsewhere") else set()
    assert outdated - ignored == expected_outdated


def test_every_rule_but_the_expensive_ones_watches_its_code(parameters):
    expensive = CALCULATIONS - {"list_calculations"}
    expensive |= {"relax_structures", "label_forces", "label_selected", "train_member", "publish_model"}
    for rule, (watched, said) in parameters["default"].items():
        if watched or said:
            computed = rule in ("draw_figure",)  # by a function of the figure's name
            assert ("code" in watched) == (rule not in expensive and not computed), rule
            assert ("code" in said) == (rule in expensive), rule
