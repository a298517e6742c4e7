"""Settings: wrong ones are refused before the first job, with the remedy; layers never lose each other."""

import ast
import copy
import re
import subprocess
import sys

import pytest
import yaml

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.experiment import check_experiment
from phonoscreen.workflow.settings import reference
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.settings.files import check_files
from phonoscreen.workflow.settings.study import Study
from tests.conftest import ROOT


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def merged(config, override):
    for key, value in override.items():
        config[key] = merged(config.get(key, {}), value) if isinstance(value, dict) else value
    return config


def test_the_settings_of_the_study_and_of_the_laptop_are_accepted(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_settings(copy.deepcopy(config))
    check_settings(merged(copy.deepcopy(config), yaml.safe_load((ROOT / "profiles/laptop/study.yaml").read_text())))
    check_experiment(merged(config, yaml.safe_load((ROOT / "profiles/experiment/study.yaml").read_text())))


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("transport", "temperature_c", 27, ["unknown setting transport/temperature_c", "use temperature_k"]),
        ("transport", "temprature_k", 300, ["unknown", "did you mean temperature_k"]),
        ("transport", "temperature_k", 0, ["transport/temperature_k", "above 0"]),
        ("transport", "temperature_k", "300 K", ["transport/temperature_k"]),
        ("supercell", "displacement_angstrom", 3.0, ["displacement_angstrom", "at most 0.2"]),
        ("supercell", "min_length_angstrom", -1, ["min_length_angstrom", "from 4 to 40"]),
        ("force_model", "committee", 1, ["committee", "from 2 to 20"]),
        (
            "force_constants",
            "third_cutoff_angstrom",
            6.0,
            ["exceeds half", "raise supercell/min_length_angstrom to 12.0"],
        ),
        ("reference", "label", ["validation"], ["lacks training"]),
        ("reference", "engine", "dft", ["reference/engine", "vasp"]),
        ("reference", "cutoff_ev", 400, ["unknown setting reference/cutoff_ev", "reference/vasp, reference/gpaw"]),
        ("reference", "engine", "collected", ["reference/collected/folder is not set"]),
        ("source", "kind", "files", ["source/path is not set"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(config, section, key, value, words):
    config[section][key] = value
    with pytest.raises(StudyError) as error:
        check_settings(config)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"training": {"pretrained": "nowhere"}}, "training/pretrained nowhere holds no model.json"),
        ({"bonding": {"engine": "gpaw", "records": "no.h5"}}, "bonding/records no.h5 does not exist"),
        ({"reference": {"engine": "recorded", "recorded": {"file": "no.h5"}}}, "recorded/file no.h5 does not exist"),
    ],
)
def test_a_file_that_a_study_begins_with_must_be_there(given, words):
    """Snakemake names the file of some rule, without a remedy; recorded labels fail structure by structure."""
    with pytest.raises(StudyError, match=words):
        check_settings(given)


def test_a_published_model_of_other_settings_is_refused_before_the_labels_and_not_when_training_begins(tmp_path):
    laptop = yaml.safe_load((ROOT / "profiles/laptop/study.yaml").read_text())
    check_settings(laptop)
    for change, named in (({"kind": "elemental_sdnnff"}, "kind"), ({"equivariant": {}}, "element_hidden, hidden$")):
        with pytest.raises(StudyError, match=f"(?m)resources/model has other settings than force_model: .*{named}"):
            check_settings({**laptop, "force_model": {**laptop["force_model"], **change}})
    check_settings({**laptop, "force_model": {"kind": "elemental_sdnnff"}, "training": {"pretrained": None}})
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(StudyError, match="cannot be read"):
        check_settings({"training": {"pretrained": str(tmp_path)}})


@pytest.mark.parametrize(
    "section, key, good, bad",
    [
        ("filter", "elements", ["Na", "Cl"], ["sodium"]),
        ("filter", "elements", "paper63", "all"),
        ("filter", "classes", ["225-AB", "186-AB"], ["AB"]),
        ("filter", "classes", "any", ["225-AB", "225-AB"]),
        ("supercell_check", "structures", ["001234"], [1234]),
        ("convergence", "structures", None, ["../x"]),
    ],
)
def test_words_lists_and_ids_are_taken_and_others_refused(section, key, good, bad):
    settings = {"source": {"kind": "files", "path": str(ROOT / "resources")}}
    assert check_settings({**settings, section: {key: good}})[section][key] == good
    with pytest.raises(StudyError, match=f"{section}/{key}"):
        check_settings({**settings, section: {key: bad}})


def test_a_service_is_asked_for_the_classes_of_table_1_alone():
    with pytest.raises(StudyError, match="source/kind is oqmd"):
        check_settings({"filter": {"classes": "any"}})


@pytest.mark.parametrize("path", ["config.yaml", *(f"profiles/{name}/study.yaml" for name in ("laptop", "experiment"))])
def test_no_setting_stands_twice_in_a_file(path):
    """YAML silently takes the last of two equal keys."""

    def check(node):
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), [key for key in keys if keys.count(key) > 1]
            for _, value in node.value:
                check(value)

    check(yaml.compose((ROOT / path).read_text()))


def test_the_study_repeats_every_default(config):
    assert check_settings({}) == Study().model_dump() == check_settings(config)


def test_schema_and_page_are_in_step_with_the_settings():
    assert (ROOT / reference.SCHEMA).read_text() == reference.schema(), (
        "run python -m phonoscreen.workflow.settings.reference"
    )
    assert (ROOT / reference.PAGE).read_text() == reference.page(), (
        "run python -m phonoscreen.workflow.settings.reference"
    )


def test_every_setting_says_what_it_means():
    assert [place for place, *_, field in reference.settings_of(reference.EveryStudy) if not field.description] == []


@pytest.mark.parametrize(
    "place, text, value",
    [
        (("transport", "temperature_k"), "600", 600.0),
        (("transport", "isotopes"), "False", False),
        (("transport", "iterations_max"), "7", 7),
        (("force_constants", "third_shells"), "null", None),
        (("convergence", "structures"), ["001234", "1e5"], ["001234", "1e5"]),
    ],
)
def test_texts_of_the_command_line_become_values(place, text, value):
    settings = check_settings({place[0]: {place[1]: text}})
    assert settings[place[0]][place[1]] == value


@pytest.mark.parametrize("value", [float("nan"), "nan", "inf", True, "1_000", None, [300], {"a": 1}, 10**400])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(StudyError, match="transport/temperature_k"):
        check_settings({"transport": {"temperature_k": value}})


@pytest.mark.parametrize("value", [5.0, 5.5, "5.0", True, None, "five", pytest.param(16**5000, id="5000 digits")])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(StudyError, match="shards"):
        check_settings({"shards": value})


def test_a_bomb_of_aliases_is_refused_with_few_words():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefgh", "bcdefghi"):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    with pytest.raises(StudyError) as error:
        check_settings(yaml.safe_load(bomb))
    assert len(str(error.value)) < 1000


def test_what_a_settings_file_hides_is_refused(tmp_path):
    """A key that stands twice, of which YAML keeps the last; aliases that repeat one another or themselves."""
    (tmp_path / "sound.yaml").write_text("transport: &a {temperature_k: 300}\nstability: {}\n")
    check_files([tmp_path / "sound.yaml", tmp_path / "absent.yaml", ROOT / "config.yaml"])
    bomb = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]" for n in range(9)]
    for text, words in (
        ("transport:\n  temperature_k: 300\n  solver: native\n  temperature_k: 400\n", "line 4: temperature_k"),
        ('{"seed": 1, "seed": 2}', "line 1: seed"),
        ("\n".join(bomb), "more than 10000 values"),
        ("a: &a [*a]", "more than 10000 values"),
        ("[" * 3_000, "cannot be read"),
    ):
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(StudyError, match=f"study.yaml.*{words}") as error:
            check_files([tmp_path / "study.yaml"])
        assert len(str(error.value)) < 1000


def numbers(node, path=()):
    """Yield the path of every number in settings."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list)):
            yield from numbers(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**30, True])
def test_every_number_of_a_study_has_limits(config, value):
    """Also those in the changes of the experiment's models; 10^30 members would be planned as jobs."""
    study = check_experiment({})
    paths = list(numbers(study))
    assert len(paths) > 100
    for path in paths:
        spoilt = copy.deepcopy(study)
        place = spoilt
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(StudyError):
            check_experiment(spoilt)


def test_names_must_be_texts_and_long_ones_are_cut():
    with pytest.raises(StudyError, match="not a text"):
        check_settings({1: 2})
    with pytest.raises(StudyError) as error:
        check_settings({"x" * 100_000: 2})
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "change, words",
    [
        ({"models": {"wider": {"force_model": {"kind": "resnet"}}}}, "force_model/kind"),
        ({"selection": {"training": {"epoch": 3}}}, "epoch"),
        ({"selection": {"model": "resnet"}}, "resnet"),
        ({"learning_curve": [[300, 1], [100, 1]]}, "rise"),
    ],
)
def test_the_experiment_is_checked_too(change, words):
    with pytest.raises(StudyError, match=words):
        check_experiment({"experiment": change})


def test_a_users_value_goes_on_top_of_the_profile(tmp_path):
    """The profile's study stays: 82 jobs of the laptop study, not the full study with another temperature."""
    (tmp_path / "mine.yaml").write_text("transport: {temperature_k: 600}\n")
    command = [sys.executable, "-m", "snakemake", "--profile", str(ROOT / "profiles/laptop"), "-n", "--quiet", "rules"]

    def planned(*arguments):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
        return next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("total"))

    plain = planned()
    assert planned("--configfile", "mine.yaml") == plain
    assert planned("--config", "transport={temperature_k: 600}") == plain
    assert planned("--config", "shards=3") > plain
    # a potential that calculates, in place of labels recorded for another one: all labels are its own
    assert planned("--config", "reference={engine: sevennet}") == plain


def test_settings_named_in_messages_and_documents_exist(config):
    """A remedy names a setting as it stands in config.yaml: ``section.key``, or ``section/key``."""
    sections = "|".join(key for key, value in config.items() if isinstance(value, dict))
    dotted = re.compile(rf"(?<![\w./])(?:{sections})(?:[./][a-z_]+)+(?![\w./(*-])")
    texts = {}
    for path in sorted((ROOT / "phonoscreen").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        texts[path] = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for path in sorted((ROOT / "docs").glob("*.md")):
        texts[path] = re.findall(r"`([^`]+)`", path.read_text())
    names = {(name, path) for path, found in texts.items() for text in found for name in dotted.findall(text)}
    assert len(names) > 50
    unknown = sorted(f"{path.relative_to(ROOT)}: {name}" for name, path in names if not exists(config, name))
    assert not unknown, "\n".join(unknown)


def exists(config, name):
    """Whether a setting, or a file of that name in the project, exists; sections without default hold anything."""
    if (
        (ROOT / name).exists()
        or (ROOT / "phonoscreen" / name).exists()
        or name.endswith((".md", ".py", ".hdf5", ".json"))
    ):
        return True
    for key in re.split("[./]", name):
        if not config:
            return True
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True
