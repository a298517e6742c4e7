"""What the experiment on force models and the ablation train, from their settings."""

from collections.abc import Sequence

from phonoscreen.audit.errors import StudyError
from phonoscreen.workflow.inputs import model_settings, training_settings
from phonoscreen.workflow.settings.check import check_settings
from phonoscreen.workflow.settings.experiment import ExperimentStudy
from phonoscreen.workflow.shards import member_names

MOST_REPEATS = 100


def check_experiment(config: dict) -> dict:
    """Check the settings of a study with an experiment and return them complete.

    Parameters
    ----------
    config : the merged configuration with the sections ``experiment`` and ``ablation``

    Raises
    ------
    StudyError
        As ``check_settings``; also if a model or an ablation changes what does not exist.
    """
    settings = check_settings(config, ExperimentStudy)
    experiment = settings["experiment"]
    for name in experiment["models"]:
        experiment_model(settings, name)
    replayed_model(settings)
    ablations(settings)
    sizes = [size for size, _ in experiment["learning_curve"]]
    if sizes != sorted(set(sizes)):
        raise StudyError(
            f"the sizes {sizes} of experiment/learning_curve do not rise", fix="list them in rising order, each once"
        )
    repeats = max(repeats for _, repeats in experiment["learning_curve"])
    if repeats > MOST_REPEATS:
        raise StudyError(f"{repeats} repeats in experiment/learning_curve", fix=f"give {MOST_REPEATS} at most")
    return settings


def experiment_model(config: dict, name: str) -> dict:
    """Return ``force_model`` and ``training`` of one model of the experiment, as its training takes them.

    Parameters
    ----------
    config : the settings of the study
    name : of a model in ``experiment/models``
    """
    models = config["experiment"]["models"]
    if name not in models:
        raise StudyError(f"{name!r} is no model of experiment/models", fix=f"use one of {', '.join(models)}")
    return _changed(config, models[name])


def replayed_model(config: dict) -> dict:
    """Return the same of the model of ``experiment/selection``."""
    selection = config["experiment"]["selection"]
    model = experiment_model(config, selection["model"])
    _refuse_unknown(model["training"], selection["training"], "experiment/selection/training")
    changes = config["experiment"]["models"][selection["model"]]
    return _changed(config, _merge(changes, {"training": selection["training"]}))


def ablations(config: dict) -> list[dict]:
    """Return the trainings of the ablation, a list of dicts with ``model, change, force_model, training``."""
    trainings = []
    for name, changes in config["ablation"].items():
        model, model_changes = experiment_model(config, name), config["experiment"]["models"].get(name)
        kind = model["force_model"]["kind"]
        for change in changes:
            _refuse_unknown({**model["force_model"], **model["training"]}, change, f"ablation/{name}")
            common = {key: value for key, value in change.items() if key in config["force_model"]}
            own = {key: value for key, value in change.items() if key in config["force_model"][kind]}
            training = {key: value for key, value in change.items() if key in model["training"]}
            nested = {"force_model": {**common, kind: own}, "training": training}
            trainings.append({"model": name, "change": change, **_changed(config, _merge(model_changes, nested))})
    return trainings


def _changed(config, changes):
    sections = {}
    for section in ("force_model", "training"):
        merged = _merge(config[section], changes[section])
        sections[section] = check_settings({section: merged, "source": config["source"]})[section]
    return {
        "force_model": model_settings(sections["force_model"]),
        "training": training_settings(sections["training"]),
    }


def _merge(old, new):
    both = {
        key: _merge(old[key], new[key]) for key in new if isinstance(new[key], dict) and isinstance(old.get(key), dict)
    }
    return {**old, **new, **both}


def _refuse_unknown(settings, change, place):
    unknown = sorted(set(change) - set(settings))
    if unknown:
        raise StudyError(f"{place} changes {', '.join(unknown)[:200]}", fix=f"use some of {', '.join(settings)}")


def curve_points(experiment: dict) -> list[dict]:
    """Return the points of the experiment's learning curves.

    With ``scale`` the curve goes on by doubling up to that many times its last size.

    Parameters
    ----------
    experiment : section ``experiment`` of the settings

    Returns
    -------
    list of dicts with ``model, size, repeat`` and ``members``: names of the members trained there, a committee at the
    first repeat of the largest size, one member elsewhere
    """
    curve = list(experiment["learning_curve"])
    largest = experiment["scale"] * curve[-1][0]
    while curve[-1][0] < largest:
        curve.append([min(2 * curve[-1][0], largest), 1])
    return [
        {
            "model": model,
            "size": size,
            "repeat": repeat,
            "members": member_names(experiment["committee"] if (size, repeat) == (largest, 0) else 1),
        }
        for model in experiment["models"]
        for size, repeats in curve
        for repeat in range(repeats)
    ]


def curve_sources(points: Sequence[dict]) -> dict[str, dict]:
    """Return the sources of forces among the points, those whose phonons are compared.

    One member at the first repeat of every size, and the committee's mean where there is a committee.

    Parameters
    ----------
    points : list of ``curve_points``

    Returns
    -------
    dict by name, for example ``"equivariant-240"`` and ``"equivariant-240-committee"``, of dicts with ``model, size,
    repeat, members``
    """
    sources = {}
    for point in points:
        if point["repeat"] == 0:
            name = f"{point['model']}-{point['size']}"
            sources[name] = {**point, "members": point["members"][:1]}
            if len(point["members"]) > 1:
                sources[f"{name}-committee"] = point
    return sources
