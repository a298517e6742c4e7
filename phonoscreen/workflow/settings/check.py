"""Settings of a study: checked before the first job, each problem named with its remedy."""

import difflib
import json
import os
from functools import reduce
from operator import getitem
from pathlib import Path

from pydantic import BaseModel, ValidationError

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.code import ROOT
from phonoscreen.workflow.inputs import CHARGES_CODES, model_settings
from phonoscreen.workflow.settings.describe import allowed, places_of, section_at
from phonoscreen.workflow.settings.study import Study

MOST_VALUES = 10_000
"""Values of a configuration; a study has some two hundred."""
SHOWN_PROBLEMS = 20
LOCATED = (
    ("source", "path"), ("relax", "published_model"), ("reference", "calculations"), ("training", "pretrained"),
    ("reference", "recorded", "file"), ("reference", "recorded", "relaxed"),
    ("bonding", "records"),
)  # fmt: skip
"""Paths that may be those of the repository."""
UNITS = {
    "angstrom", "nm", "bohr", "thz", "cm1", "ev", "mev", "ry", "k", "c", "celsius", "gpa", "kbar", "w", "m", "s", "per",
    "atom",
}  # fmt: skip


def check_settings(config: dict, model: type[BaseModel] = Study) -> dict:
    """Check the settings of a study and return them complete, each value in its own type.

    Parameters
    ----------
    config : the merged configuration (``config.yaml``, the profile's study, the user's file, the command line)
    model : the settings that are checked: ``Study``, or a class derived from it

    Returns
    -------
    dict of the same sections; settings that were not given have their defaults

    Raises
    ------
    StudyError
        Naming every unknown key, wrong type, impossible value or contradiction, each with its remedy.
    """
    problems = _malformed(config)
    if not problems:
        try:
            settings = model.model_validate(config).model_dump()
        except ValidationError as error:
            problems = [_describe(problem, model) for problem in error.errors(include_url=False)]
        else:
            for *sections, key in LOCATED:
                section = reduce(getitem, sections, settings)
                section[key] = _located(section[key])
            problems = list(_contradictions(settings))
    if problems:
        problems = list(dict.fromkeys(problems))
        shown = "\n".join(f"{what}\n    fix: {fix}" for what, fix in problems[:SHOWN_PROBLEMS])
        more = f"\nand {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise StudyError(
            f"the settings of the study have {len(problems)} problem(s):\n{shown}{more}",
            where="config.yaml, profile, --configfile or --config",
        )
    return settings


def _located(path):
    """Return a path as seen from the working folder, or that of a file of the repository with this name."""
    if path is None or Path(path).exists() or not (ROOT / path).exists():
        return path
    return os.path.relpath(ROOT / path)


def _malformed(config):
    """Return problems of the shape: names that are no texts, and more values than any study has (aliases count)."""
    pending, seen = [("", config)], 0
    while pending:
        place, value = pending.pop()
        seen += 1
        if seen > MOST_VALUES:
            return [(f"more than {MOST_VALUES} values", "remove the aliases (&name, *name) of the YAML file")]
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    return [(f"{_join(place, _written(key))}: the name {_written(key)!r} is not a text", "quote it")]
            pending.extend((_join(place, key), child) for key, child in value.items())
        elif isinstance(value, list):
            pending.extend((place, child) for child in value)
    return []


def _written(value):
    """Return the beginning of a value as a text; Python writes no whole number of more than 4300 digits."""
    try:
        return str(value)[:60]
    except ValueError:
        return "a number of thousands of digits"


def _describe(problem, model):
    """Return (what, fix) of one problem that pydantic found."""
    path = [part for part in problem["loc"] if isinstance(part, (str, int))]
    place = "/".join(str(part)[:60] for part in path)
    section = section_at(model, path[:-1])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {place}", _suggest(str(path[-1]), path[:-1], section, model)
    value = _written(problem["input"])
    said = problem["msg"].removeprefix("Value error, ") if problem["type"] == "value_error" else f"{value} is refused"
    return f"{place}: {said}", allowed(model, path)


def _suggest(key, path, section, model):
    known = list(section.model_fields) if section else []
    stem = "_".join(part for part in key.lower().split("_") if part not in UNITS)
    for candidate in known:
        if stem == "_".join(part for part in candidate.split("_") if part not in UNITS):
            return f"the unit stands in the name of a setting: use {candidate}"
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [place for place in places_of(model, key) if place != "/".join(map(str, [*path, key]))]
    if elsewhere:
        return f"{key} is a setting of {', '.join(place.rpartition('/')[0] or 'the study' for place in elsewhere)}"
    return f"known here: {', '.join(known)}"


def _join(place, key):
    return f"{place}/{key}" if place else key


def _contradictions(config):
    """Yield (what, fix) of settings that are each possible but not together."""
    source, supercell, reference = config["source"], config["supercell"], config["reference"]
    if source["kind"] in ("files", "pool", "force_sets"):
        if not source["path"]:
            yield f"source/kind is {source['kind']} but source/path is not set", "set source/path"
        elif not Path(source["path"]).exists():
            yield (
                f"source/path {source['path']} does not exist",
                "give a path relative to the folder the workflow runs in",
            )
    elif source["kind"] == "oqmd" and config["filter"]["classes"] == "any":
        yield (
            "source/kind is oqmd, which is asked class by class, and filter/classes is any",
            "set filter/classes to table1 or a list, or use source/kind optimade",
        )
    if "training" not in reference["label"]:
        yield "reference/label lacks training: nothing could be learned", "add training to reference/label"
    length, cutoff = supercell["min_length_angstrom"], config["force_constants"]["third_cutoff_angstrom"]
    if cutoff is not None and cutoff > length / 2:
        yield (
            f"force_constants/third_cutoff_angstrom {cutoff} exceeds half of "
            f"supercell/min_length_angstrom ({length / 2})",
            f"raise supercell/min_length_angstrom to {2 * cutoff} or lower the cutoff",
        )
    if supercell["network_min"] < supercell["reference_min"]:
        yield "supercell/network_min is below supercell/reference_min", "raise supercell/network_min"
    if reference["engine"] == "collected" and not reference["collected"]["folder"]:
        yield (
            "reference/engine is collected but reference/collected/folder is not set",
            "name the folder of existing outputs",
        )
    yield from _of_calculations(config)
    yield from _of_files(config)
    yield from _of_charges(config["charges"], reference["engine"])
    if reference["engine"] == "force_sets" and source["kind"] != "force_sets":
        yield (
            f"reference/engine is force_sets but source/kind is {source['kind']}",
            "set source/kind to force_sets and source/path to their folder",
        )
    if config["transport"]["solver"] == "shengbte" and not config["transport"]["command"]:
        yield "transport/solver is shengbte but transport/command is not set", "name your executable of ShengBTE"


def _of_charges(charges, engine):
    """Yield contradictions of the Born charges."""
    if charges["source"] == "files" and not (charges["folder"] and Path(charges["folder"]).is_dir()):
        yield (
            f"charges/source is files but charges/folder {charges['folder'] or ''} is no folder",
            "name a folder with a folder per structure id",
        )
    if charges["source"] == "calculated" and engine not in CHARGES_CODES:
        yield (
            f"charges/source is calculated, which reference/engine {engine} does not",
            f"use reference/engine {' or '.join(CHARGES_CODES)}, or give files (charges/source: files)",
        )


def _of_files(config):
    """Yield files that the study begins with and that are not there; outputs of other programs may come later."""
    recorded, bonding, folder = config["reference"]["recorded"], config["bonding"], config["training"]["pretrained"]
    read = {f"reference/recorded/{key}": recorded[key] for key in ("file", "relaxed")}
    named = read if config["reference"]["engine"] == "recorded" else {}
    if bonding["engine"] == "gpaw":
        named = {**named, "bonding/records": bonding["records"]}
    for place, path in named.items():
        if path and not Path(path).is_file():
            yield f"{place} {path} does not exist", "name a file, relative to the folder the workflow runs in"
    if folder and not (Path(folder) / "model.json").is_file():
        yield f"training/pretrained {folder} holds no model.json", "name the folder of a published model"
    elif folder:
        yield from _of_pretrained(folder, config["force_model"])


def _of_pretrained(folder, force_model):
    """Yield what a published model differs in from those that would begin with it."""
    wanted = json.loads(json.dumps(model_settings(force_model)))
    try:
        published = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))["settings"]
        different = sorted(key for key in wanted if wanted[key] != published.get(key))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        yield f"training/pretrained {folder} has a model.json that cannot be read", "copy the model again"
        return
    if different:
        yield (
            f"training/pretrained {folder} has other settings than force_model: {', '.join(different)}",
            "give training/pretrained null, or force_model the settings of that model",
        )


def _of_calculations(config):
    """Yield contradictions between relaxation and reference."""
    reference, relaxing = config["reference"], config["relax"]
    if reference["calculations"] and not Path(reference["calculations"]).is_file():
        yield f"reference/calculations {reference['calculations']} does not exist", "name a file of calculations"
    if relaxing["engine"] == "published" and not (Path(relaxing["published_model"]) / "model.json").is_file():
        yield (
            f"relax/published_model {relaxing['published_model']} holds no model.json",
            "name the folder of a published model",
        )
    if relaxing["engine"] != "reference" and reference["engine"] in ("collected", "force_sets"):
        yield (
            "relax/engine would move the structures away from those whose forces exist",
            "set relax/engine to reference: the structures are then taken as they are",
        )
