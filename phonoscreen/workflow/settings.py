"""Settings of a study: checked against the schema before the first job."""

import difflib
import json
from pathlib import Path

from jsonschema import Draft202012Validator

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.inputs import ablations, experiment_model, replayed_model

SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "config.schema.json"
UNITS = {
    "angstrom", "nm", "bohr", "thz", "cm1", "ev", "mev", "ry", "k", "c", "celsius", "gpa", "kbar", "w", "m", "s", "per",
    "atom",
}  # fmt: skip


def check_settings(config):
    """Check the settings of a study.

    Parameters
    ----------
    config : the merged configuration (``config.yaml``, the profile's overrides, the command line)

    Raises
    ------
    StudyError
        Naming every unknown key, wrong type, impossible value or contradiction, each with its remedy.
    """
    schema = json.loads(SCHEMA.read_text())
    problems = list(dict.fromkeys(_describe(error, schema) for error in _sorted_errors(schema, config)))
    if not problems:
        problems = [_describe(error, schema) for error in _experiment_errors(schema, config)]
    if not problems:
        problems = [(what, fix) for what, fix in _contradictions(config)]
    if problems:
        what = "\n".join(f"{what}\n    fix: {fix}" for what, fix in problems)
        raise StudyError(
            f"the settings of the study have {len(problems)} problem(s):\n{what}",
            where="config.yaml, profile or --config",
        )


def _sorted_errors(schema, config):
    return sorted(
        Draft202012Validator(schema).iter_errors(config), key=lambda error: [str(p) for p in error.absolute_path]
    )


def _experiment_errors(schema, config):
    """Errors of the sections ``force_model`` and ``training`` as the experiment and the ablation change them."""
    selection = config["experiment"]["selection"]["model"]
    if selection in config["experiment"]["models"]:
        sections = [replayed_model(config)]
        sections += [experiment_model(config, name) for name in config["experiment"]["models"]]
        sections += [{s: training[s] for s in ("force_model", "training")} for training in ablations(config)]
        for changed in sections:
            yield from _sorted_errors(schema, {**config, **changed})


def _describe(error, schema):
    """Return (what, fix) of one schema violation."""
    place = "/".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = sorted(set(error.instance) - set(known))
        fixes = [_suggest(key, known) for key in unknown]
        return f"unknown setting {', '.join(_join(place, key) for key in unknown)}", "; ".join(fixes)
    if error.validator == "required":
        missing = sorted(set(error.schema["required"]) - set(error.instance))
        return (
            f"missing setting {', '.join(_join(place, key) for key in missing)}",
            "restore it from config.yaml of the repository",
        )
    description = error.schema.get("description", "see the comment in config.yaml")
    return f"{place}: {error.message}", description


def _suggest(key, known):
    stem = "_".join(part for part in key.lower().split("_") if part not in UNITS)
    for candidate in known:
        if stem == "_".join(part for part in candidate.split("_") if part not in UNITS):
            return f"the unit stands in the name of a setting: use {candidate}"
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _join(place, key):
    return f"{place}/{key}" if place else key


def _contradictions(config):
    """Yield (what, fix) of settings that are each possible but not together."""
    source, supercell, labels = config["source"], config["supercell"], config["reference"]["label"]
    if source["kind"] in ("files", "pool"):
        if not source["path"]:
            yield f"source/kind is {source['kind']} but source/path is not set", "set source/path"
        elif not Path(source["path"]).exists():
            yield (
                f"source/path {source['path']} does not exist",
                "give a path relative to the folder the workflow runs in",
            )
    if "training" not in labels:
        yield "reference/label lacks training: nothing could be learned", "add training to reference/label"
    length, cutoff = supercell["min_length_angstrom"], config["force_constants"]["third_cutoff_angstrom"]
    if cutoff > length / 2:
        yield (
            f"force_constants/third_cutoff_angstrom {cutoff} exceeds half of "
            f"supercell/min_length_angstrom ({length / 2})",
            f"raise supercell/min_length_angstrom to {2 * cutoff} or lower the cutoff",
        )
    for name, changes in config["ablation"].items():
        known = {*config["force_model"], *config["training"]}
        unknown = sorted({key for change in changes for key in change} - known)
        if unknown:
            yield f"ablation/{name} changes {', '.join(unknown)}", "use settings of force_model or training"
    experiment = config["experiment"]
    if experiment["selection"]["model"] not in experiment["models"]:
        yield (
            f"experiment/selection/model {experiment['selection']['model']!r} is not in experiment/models",
            f"use one of {', '.join(experiment['models'])}",
        )
    sizes = [size for size, _ in experiment["learning_curve"]]
    if sizes != sorted(set(sizes)):
        yield f"the sizes {sizes} of experiment/learning_curve do not rise", "list them in rising order, each once"
    if supercell["network_min"] < supercell["reference_min"]:
        yield "supercell/network_min is below supercell/reference_min", "raise supercell/network_min"
    if config["reference"]["engine"] == "collected" and not config["reference"]["collected"]:
        yield "reference/engine is collected but reference/collected is not set", "name the folder of existing outputs"
    if config["reference"]["engine"] == "vasp" and config["reference"]["model"] not in ("PBE", "PBEsol"):
        yield f"reference/model {config['reference']['model']} is not a functional of engine vasp", "use PBE or PBEsol"
    if config["transport"]["solver"] == "shengbte" and not config["transport"]["command"]:
        yield "transport/solver is shengbte but transport/command is not set", "name your executable of ShengBTE"
