"""Settings of a study."""

import json

import yaml

from phonoscreen.audit.errors import StudyError
from tests.conftest import ROOT
from tests.fuzz.mutations import mutate_json
from tests.fuzz.targets.registry import target


def checked_settings(folder):
    """Return the settings of the experiment's study, as ``profiles/experiment/Snakefile`` takes them."""
    from phonoscreen.workflow.experiment import check_experiment
    from phonoscreen.workflow.settings.files import check_files

    path = folder / "study.yaml"
    try:
        text = path.read_text()
        config = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError("Snakemake stops here") from error
    if not isinstance(config, dict):
        raise StudyError("Snakemake stops here")
    check_files([path])
    return check_experiment(config)


def study_yaml(folder):
    parts = ("config.yaml", "profiles/experiment/study.yaml")
    known, text = set(), []
    for section in "\n".join((ROOT / part).read_text() for part in parts).split("\n\n"):
        words = {line.partition(":")[0] for line in section.splitlines() if line[:1].isalpha()}
        if not words & known:
            text.append(section)
        known |= words
    (folder / "study.yaml").write_text("\n\n".join(text))


@target(study_yaml)
def settings_text(folder):
    return checked_settings(folder)


def study_json(folder):
    from phonoscreen.workflow.experiment import check_experiment

    (folder / "study.yaml").write_text(json.dumps(check_experiment({})))


@target(study_json, mutate=mutate_json)
def settings_values(folder):
    return checked_settings(folder)
