"""Settings: wrong ones are refused before the first job, with the remedy."""

import copy

import pytest
import yaml

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.settings import check_settings
from tests.conftest import ROOT


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def merged(config, override):
    for key, value in override.items():
        config[key] = merged(config[key], value) if isinstance(value, dict) else value
    return config


def test_the_settings_of_the_study_and_of_the_laptop_are_accepted(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_settings(copy.deepcopy(config))
    check_settings(merged(config, yaml.safe_load((ROOT / "profiles/laptop/study.yaml").read_text())))


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("transport", "temperature_c", 27, ["unknown setting transport/temperature_c", "use temperature_k"]),
        ("transport", "temprature_k", 300, ["unknown", "did you mean temperature_k"]),
        ("transport", "temperature_k", 0, ["transport/temperature_k", "above 0"]),
        ("transport", "temperature_k", "300 K", ["transport/temperature_k"]),
        ("supercell", "displacement_angstrom", 3.0, ["displacement_angstrom", "at most 0.2"]),
        ("supercell", "min_length_angstrom", -1, ["min_length_angstrom", "between 4 and 40"]),
        ("force_model", "committee", 1, ["committee", "at least 2"]),
        (
            "force_constants",
            "third_cutoff_angstrom",
            6.0,
            ["exceeds half", "raise supercell/min_length_angstrom to 12.0"],
        ),
        ("reference", "label", ["validation"], ["lacks training"]),
        ("reference", "engine", "dft", ["reference/engine", "vasp"]),
        ("source", "kind", "files", ["source/path is not set"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(config, section, key, value, words):
    config[section][key] = value
    with pytest.raises(StudyError) as error:
        check_settings(config)
    for word in words:
        assert word in str(error.value)


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


def test_a_missing_section_is_named(config):
    del config["relax"]
    with pytest.raises(StudyError, match="missing setting relax"):
        check_settings(config)


def test_every_setting_of_the_schema_is_in_the_study(config):
    import json

    schema = json.loads((ROOT / "schemas/config.schema.json").read_text())
    assert set(schema["properties"]) == set(config)
    for name, section in schema["properties"].items():
        assert section.get("additionalProperties", False) is False
        if "properties" in section:
            assert set(section["properties"]) == set(config[name])
